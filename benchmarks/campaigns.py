"""Events per second with 1, 10 and 100 campaigns, and the cost of a condition; JSON on standard output.

    python benchmarks/campaigns.py [--events 20000] [--rounds 3]

The head of Taobao's events through the production engine: one thread, one partition, batches of 1000,
kernels compiled before. The first campaign is a cart reminder. The others repeat eight kinds in turn
(browse, cart, sequence, price drop, win-back, replenishment, milestone, event), each with a condition and a
delay of its own. Nine of ten events are views, which five of the eight kinds look at. Rates are processor
time; the rounds alternate between the numbers of campaigns, and of each number the fastest round counts.
The data set is found through NUDGE_DATA.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import msgspec

from benchmarks.jobs.machine import commit, machine
from benchmarks.stages import batches, encode_all, events
from online_models.warming import warm_up
from schemas.campaigns import Campaign
from schemas.catalogue import Item
from schemas.codec import decode
from schemas.conditions import Condition
from schemas.events import Event
from stream.assembly import build_engine, build_models
from stream.core.conditions import Facts, compiled
from stream.core.reference import Reference
from stream.core.rows import Profile
from stream.settings import Settings

NUMBERS = (1, 10, 100)
CALLS = 200_000
KINDS: tuple[dict[str, Any], ...] = (
    {"kind": "browse_abandonment", "min_views": 3},
    {"kind": "cart_abandonment"},
    {
        "kind": "sequence",
        "when": {"events": ["Product Viewed"], "at_least": 3, "within_s": 1800},
        "unless_before": {"events": ["Order Completed"], "within_s": 86_400},
        "cancel_on": ["Order Completed"],
    },
    {"kind": "price_drop"},
    {"kind": "win_back", "delay_s": 86_400},
    {"kind": "replenishment", "delay_s": 86_400},
    {"kind": "milestone", "counter": "n_views", "thresholds": [10, 100]},
    {"kind": "event", "when": {"events": ["Product Viewed"]}, "key": "product"},
)


def campaigns(n: int) -> dict[str, Campaign]:
    """A cart reminder, then others, each with a condition on the user that few fulfil."""
    found = [{"kind": "cart_abandonment"}]
    for k in range(n - 1):
        fields = {"delay_s": 3600.0 + 60.0 * k} | KINDS[k % len(KINDS)]
        rare = {
            "all": [
                {"fact": "user.n_events", "at_least": 5 + k},
                {"fact": "user.n_orders", "at_least": k % 3},
            ]
        }
        if fields["kind"] not in {"cart_abandonment", "price_drop"} or k > len(KINDS):
            fields["audience"] = rare
        found.append(fields)
    common = {"version": 1, "message_class": "marketing", "consent": {"when_unknown": "allow"}}
    named = [{"campaign_id": f"c{k}"} | common | fields for k, fields in enumerate(found)]
    return {campaign.campaign_id: campaign for campaign in msgspec.convert(named, list[Campaign])}


def run(lines: list[bytes], n: int) -> tuple[float, dict[str, int]]:
    """Seconds of processor time from bytes to bytes, and what campaigns did."""
    settings = Settings(consent={"when_unknown": "allow"})
    models = build_models(settings)
    reference = Reference(campaigns=campaigns(n))
    engine = build_engine(settings, models, reference, config=settings.engine_config(replay=True))
    did: dict[str, int] = {}
    began = time.process_time()
    for batch in batches(lines):
        models.fold.begin()
        outputs = engine.process(batch)
        models.fold.keep()
        encode_all(outputs)
        for key, count in outputs.counts.items():
            if key[0] == "campaign":
                did[key[2]] = did.get(key[2], 0) + count
    return time.process_time() - began, did


def conditions(line: bytes) -> dict[str, float]:
    """Microseconds per call of compiled conditions."""
    event = decode(line)
    if not isinstance(event, Event):
        raise TypeError(event)
    item = Item(item_id="p1", version=1, price=20.0, category="shoes")
    product = event.items[0] if event.items else None
    facts = Facts(Profile(n_orders=3, n_events=40), event.time, event, product, item)
    said: dict[str, Any] = {
        "one_comparison": {"fact": "user.n_orders", "at_least": 1},
        "all_of_two": {
            "all": [{"fact": "user.n_orders", "at_least": 1}, {"fact": "item.price", "below": 50}]
        },
        "any_of_not": {
            "any": [
                {"not": {"fact": "user.n_orders", "at_least": 1}},
                {"fact": "item.category", "is": "shoes"},
            ]
        },
    }
    taken = {}
    for name, data in said.items():
        test = compiled(msgspec.convert(data, Condition))
        rounds = []
        for _ in range(5):
            began = time.process_time()
            for _ in range(CALLS):
                test(facts)
            rounds.append(time.process_time() - began)
        taken[name] = round(min(rounds) / CALLS * 1e6, 3)
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="2,000 events, one round")
    asked = parser.parse_args()
    if asked.quick:
        asked.events, asked.rounds = 2000, 1
    where = machine()
    lines = events(asked.events)
    warm_up()
    rounds = [{n: run(lines, n) for n in NUMBERS} for _ in range(asked.rounds)]
    fastest = {n: min(taken[n][0] for taken in rounds) for n in NUMBERS}
    result = {
        "benchmark": "campaigns",
        "machine": where,
        "commit": commit(),
        "events": len(lines),
        "events_per_s": {str(n): round(len(lines) / seconds) for n, seconds in fastest.items()},
        "ratio_100_to_1": round(fastest[NUMBERS[0]] / fastest[NUMBERS[-1]], 3),
        "ratio_of_rounds": [round(taken[NUMBERS[0]][0] / taken[NUMBERS[-1]][0], 3) for taken in rounds],
        "us_per_event_of_99_more": round((fastest[100] - fastest[1]) / len(lines) * 1e6, 1),
        "campaigns_did": {str(n): dict(sorted(rounds[0][n][1].items())) for n in NUMBERS},
        "us_per_condition": conditions(lines[0]),
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
