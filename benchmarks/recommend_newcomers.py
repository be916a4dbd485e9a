"""What a catalogue that is ahead of the events gains; JSON on stdout.

    python benchmarks/recommend_newcomers.py [--lead-s 86400] [--quick]

The first 40,000 events of Taobao from 25 November 2017 on, as ``nudge evaluate recommend`` plays them,
without a catalogue and with one. The data set has no dates of its items: here each one's record, with its
category, is in force ``--lead-s`` seconds before the item's first event. Nine of ten targets are items that
nobody has met; without a catalogue all of them are misses. The catalogue holds no item that is never viewed,
which flatters the gain.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.jobs.public_data import imported
from schemas.catalogue import Item
from schemas.codec import Rejected, decode
from stream.evaluate.recommend import Protocol, evaluate_recommend
from stream.settings import Settings

N_EVENTS = 40_000


def records(lines: list[bytes], lead_s: float) -> dict[str, Item]:
    """One record for each item, dated before its first event."""
    found: dict[str, Item] = {}
    for line in lines:
        event = decode(line)
        if isinstance(event, Rejected):
            continue
        for product in event.items:
            item_id = str(product.product_id)
            if item_id not in found:
                since = datetime.fromtimestamp(event.time - lead_s, UTC)
                category = product.category or event.properties.category
                found[item_id] = Item(item_id=item_id, version=1, category=category, updated_at=since)
    return found


def main() -> None:
    """Play the events without and with the catalogue."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lead-s", type=float, default=86_400.0, help="how long a record is ahead, s")
    parser.add_argument("--quick", action="store_true", help="the first 4,000 events")
    asked = parser.parse_args()
    source = "taobao/UserBehavior_first100k.csv.gz"
    lines = imported("taobao", source, since="2017-11-25")[: 4_000 if asked.quick else N_EVENTS]
    protocol = Protocol(frozenset({"Product Viewed"}))
    result: dict[str, Any] = {"benchmark": "recommend_newcomers", "lead_s": asked.lead_s}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_bytes(b"\n".join(lines))
        for name, catalogue in (("without", None), ("with", records(lines, asked.lead_s))):
            report = evaluate_recommend(Settings(), path, protocol, baselines=(), catalogue=catalogue)
            result[name] = {
                "scored": report["n"],
                "unknown_targets": report["protocol"]["unknown_targets"],
                "among_candidates": round(report["protocol"]["targets_among_candidates"], 4),
                **{
                    metric: round(report[metric], 4)
                    for metric in ("recall_at_10", "recall_at_20", "ndcg_at_10")
                },
                "recall_at_10_interval": [round(bound, 4) for bound in report["intervals"]["recall_at_10"]],
            }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
