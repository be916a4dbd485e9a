"""Stories as data: given, when, then, and nothing else. See scenarios/README.md."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.campaigns import Campaign, CampaignConsent
from schemas.catalogue import Item, Offer
from schemas.segments import Segment
from stream.campaign_files import read_campaigns
from stream.settings import Settings
from stream.testing import EPOCH, Driver, event

FOLDER = Path(__file__).parent / "scenarios"
EXAMPLES = Path(__file__).parents[1] / "examples" / "campaigns"
AGREED: dict[str, Any] = {"consent": CampaignConsent(when_unknown="allow")}
STORIES = sorted(FOLDER.glob("*.jsonl"))
UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
SMALL: dict[str, Any] = {"max_items": 256, "click_slots": 1024}


def seconds(text: str) -> float:
    """``1d2h30m5s`` in seconds."""
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)([dhms])", text))


def example(name: str) -> Campaign:
    """A ready-made campaign, as it is shipped."""
    [campaign] = read_campaigns(EXAMPLES / f"{name}.yaml").values()
    return campaign


def field(output: Any, path: str) -> Any:
    """Look up a dotted path in Structs and mappings."""
    for name in path.split("."):
        output = output[name] if isinstance(output, dict) else getattr(output, name)
    return output


def told(  # noqa: C901  one branch a kind of line
    lines: list[dict[str, Any]], batch_size: int
) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Run a story; return what came out and what was expected, by kind."""
    setup, *steps = lines
    settings = Settings(**(SMALL | {"campaigns": {"holdout_share": 0.0}} | setup.get("settings", {})))
    stream = Driver(
        settings=settings,
        campaigns=[
            *(msgspec.structs.replace(example(name), **AGREED) for name in setup.get("examples", [])),
            *msgspec.convert(setup.get("campaigns", []), list[Campaign]),
        ],
        offers=msgspec.convert(setup.get("offers", []), list[Offer]),
        items=msgspec.convert(setup.get("items", []), list[Item]),
        segments=msgspec.convert(setup.get("segments", []), list[Segment]),
        batch_size=batch_size,
        broker_clock=not setup.get("replay", False),
    )
    expected: dict[str, list[Any]] = defaultdict(list)
    for step in steps:
        if "expect" in step:
            expected[step.pop("expect")].append(step)
        elif "wait" in step:
            stream.advance(seconds(step["wait"]))
        elif "crash" in step:
            stream.crash()
        elif "raw" in step:
            stream.pipe(step["raw"].encode())
        elif "item" in step:
            stream.flush()
            item = msgspec.convert(step["item"], Item)
            stream.reference.items[item.item_id] = item
        elif "command" in step:
            stream.tell(json.dumps(step["command"]).encode())
        elif "campaign" in step:
            stream.flush()
            campaign = msgspec.convert(step["campaign"], Campaign)
            stream.reference.campaigns[campaign.campaign_id] = campaign
        else:
            taken = EPOCH + seconds(step.pop("ingest")) if "ingest" in step else None
            record = event(step.pop("event"), user=step.pop("user"), at=seconds(step.pop("at")), **step)
            stream.pipe(record, ingest_time=taken)
    got: dict[str, list[Any]] = defaultdict(list)
    got["trigger"] = stream.take("triggers")
    got["dead_letter"] = stream.take("dead_letters")
    for decision in stream.take("decisions"):
        if decision.kind in {"suppression", "holdout"}:
            got[decision.kind].append(decision)
    return got, expected


@pytest.mark.parametrize("batch_size", [1, 3, 10_000])
@pytest.mark.parametrize("path", STORIES, ids=[path.stem for path in STORIES])
def test_story(path: Path, batch_size: int) -> None:
    """Every expected output comes, in order within its kind, and nothing else."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    got, expected = told(lines, batch_size)

    for kind in got.keys() | expected.keys():
        wanted = expected[kind]
        pairs = zip(got[kind], wanted, strict=False)
        found = [{name: field(output, name) for name in want} for output, want in pairs]
        assert wanted == found[: len(wanted)]
        assert len(wanted) == len(got[kind]), f"{kind}: {got[kind][len(wanted) :]}"


def test_every_example_has_a_story() -> None:
    """A campaign that is shipped ready-made is told about; an empty folder would prove nothing."""
    told_of = {
        name for path in STORIES for name in json.loads(path.read_text().splitlines()[0]).get("examples", [])
    }

    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == told_of
