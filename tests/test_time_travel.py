"""`nudge replay --compare`, go-live, and what a replay of several partitions is made of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.campaigns import Campaign
from schemas.catalogue import Item, Offer
from schemas.codec import rfc3339
from schemas.outputs import Cause, Decision, Recipient, Trigger, TriggerDecision
from stream.comparing import compare
from stream.core.config import CleaningConfig
from stream.core.records import Record
from stream.core.reference import Reference
from stream.foresight import with_foresight
from stream.reading import read_item_versions
from stream.recording import Recording, file_recording
from stream.replay import FILES, load_reference, replay
from stream.settings import Settings
from stream.testing import EPOCH, cart_campaign, event
from tests.nudge_process import nudge
from tests.runtime.shop_stream import CONSENT, START, campaigns, shop_stream

NOW = EPOCH
SMALL: dict[str, Any] = {"max_items": 256, "click_slots": 1024}
CAUSE = Cause("m1", "Product Added", "2026-01-01T00:00:00.000Z")


def run(folder: Path, recording: Recording, rules: dict[str, Any] | None = None) -> dict[str, Any]:
    """Replay a recording with the campaigns of the shop stream."""
    path = folder.parent / "campaigns.json"
    path.write_bytes(msgspec.json.encode(campaigns()))
    chosen = Settings(**SMALL, campaigns={"holdout_share": 0.1} | (rules or {}))
    return replay(chosen, recording, folder, load_reference(None, None, path))


def lines_of(folder: Path, name: str) -> list[dict[str, Any]]:
    """Decoded lines of an output file."""
    return [orjson.loads(line) for line in (folder / name).read_bytes().splitlines()]


def write_run(folder: Path, fates: dict[str, tuple[str, str | None]], offer_id: str | None = None) -> None:
    """Write what a run would have: message -> (user, why it was not sent)."""
    folder.mkdir(parents=True)
    decisions, triggers = [], []
    for key, (user, reason) in fates.items():
        kind: Any = "trigger" if reason is None else "suppression"
        decision = Decision(
            key,
            kind,
            user,
            "send",
            1.0,
            "rules",
            CAUSE,
            CAUSE.timestamp,
            [],
            campaign_id="cart",
            reason=reason,
        )
        decisions.append(msgspec.json.encode(decision))
        if reason is None:
            chosen = TriggerDecision(key, "rules", 1.0, explored=False)
            trigger = Trigger(
                *(key, "cart", "1", "marketing", "email", Recipient(user), {}, "", "", "UTC"),
                chosen,
                CAUSE,
                dry_run=False,
                offer_id=offer_id,
            )
            triggers.append(msgspec.json.encode(trigger))
    (folder / "decisions.jsonl").write_bytes(b"\n".join(decisions))
    (folder / "triggers.jsonl").write_bytes(b"\n".join(triggers))


def test_a_comparison_counts_by_hand(tmp_path: Path) -> None:
    """Of four messages: one in both, one capped in B, one only due in A, one newly sent in B."""
    write_run(
        tmp_path / "a", {"1": ("u1", None), "2": ("u2", None), "3": ("u3", None), "4": ("u4", "cooldown")}
    )
    write_run(
        tmp_path / "b",
        {"1": ("u1", None), "2": ("u2", "frequency_capped"), "4": ("u4", None)},
        offer_id="ten",
    )
    offers = {"ten": Offer(offer_id="ten", version=1, cost=2.5, value=9, currency="EUR")}
    dear = {"cart": cart_campaign(cost=0.25, currency="EUR")}
    told = compare(tmp_path, offers, [{}, dear])
    cart = told["campaigns"]["cart"]

    assert {"both": 1, "only_a": 2, "only_b": 1} == cart["messages"] == cart["users"]
    assert (3, {"cooldown": 1}, {}) == (cart["a"]["sent"], cart["a"]["suppressed"], cart["a"]["cost"])
    assert (2, {"frequency_capped": 1}, {"EUR": 5.5}) == (
        cart["b"]["sent"],
        cart["b"]["suppressed"],
        cart["b"]["cost"],
    )
    assert {"sent -> frequency_capped": 1, "sent -> not_due": 1, "cooldown -> sent": 1} == cart["changed"]
    assert 3 == told["users_that_differ"]
    assert [
        {"user_id": "u2", "campaigns": {"cart": {"a": 1, "b": 0}}},
        {"user_id": "u3", "campaigns": {"cart": {"a": 1, "b": 0}}},
        {"user_id": "u4", "campaigns": {"cart": {"a": 0, "b": 1}}},
    ] == lines_of(tmp_path, "users.jsonl")


def test_a_dry_run_sends_nothing_and_costs_nothing(tmp_path: Path) -> None:
    """To go live is the largest change of all: every message is new to its user."""
    events = tmp_path / "e.jsonl"
    events.write_bytes(b"\n".join(shop_stream(300, seed=4)))
    recording = file_recording(events, datetime(2027, 1, 1, tzinfo=UTC).timestamp())
    rules: dict[str, Any] = {"cost": 0.5, "currency": "EUR", "consent": CONSENT}
    both = [{"cart": cart_campaign(dry_run=dry_run, **rules)} for dry_run in (True, False)]
    for side, campaigns_of in zip("ab", both, strict=True):
        replay(Settings(**SMALL), recording, tmp_path / side, Reference(campaigns=campaigns_of))
    told = compare(tmp_path, {}, both)
    dry, live = (told["campaigns"]["cart"][side] for side in "ab")

    assert (0, 0, {}) == (dry["sent"], dry["users"], dry["cost"])
    assert (
        live["sent"] == dry["suppressed"]["dry_run"] == told["campaigns"]["cart"]["messages"]["only_b"] > 10
    )
    assert {"EUR": 0.5 * live["sent"]} == live["cost"]
    assert {"dry_run -> sent": live["sent"]} == told["campaigns"]["cart"]["changed"]
    assert live["users"] == told["users_that_differ"]


def test_two_campaign_files_are_compared_on_the_same_events(tmp_path: Path) -> None:
    """A longer cooldown sends less, and the report says to whom; equal files do not differ."""
    events = tmp_path / "e.jsonl"
    events.write_bytes(b"\n".join(shop_stream(1500, seed=4)))
    for name, cooldown_s in (("short", 3600.0), ("long", 5 * 86_400.0)):
        campaign = cart_campaign(delay_s=1800.0, cooldown_s=cooldown_s, consent=CONSENT)
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode([campaign]))
    ask = ("replay", "--events", events, "--json", "--now", "2026-01-01", "--out")
    done = nudge(*ask, tmp_path / "out", "--compare", tmp_path / "short.json", tmp_path / "long.json")
    same = nudge(*ask, tmp_path / "same", "--compare", tmp_path / "long.json", tmp_path / "long.json")
    told, unchanged = json.loads(done.stdout)["campaigns"]["cart"], json.loads(same.stdout)
    reports = [json.loads((tmp_path / "out" / side / "report.json").read_bytes()) for side in "ab"]

    assert 0 == done.returncode, done.stderr
    assert [r["campaigns"]["cart"]["sent"] for r in reports] == [told["a"]["sent"], told["b"]["sent"]]
    assert [r["campaigns"]["cart"]["suppressed"] for r in reports] == [
        told["a"]["suppressed"],
        told["b"]["suppressed"],
    ]
    assert told["a"]["sent"] > told["b"]["sent"] > 0
    assert (
        0
        < told["changed"]["sent -> cooldown"]
        == told["messages"]["only_a"] - told["changed"].get("sent -> frequency_capped", 0)
    )
    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / "compare.json").read_bytes())
    assert ({}, 0) == (unchanged["campaigns"]["cart"]["changed"], unchanged["users_that_differ"])


DROP = {
    "campaign_id": "drop",
    "kind": "price_drop",
    "version": 1,
    "message_class": "marketing",
    "consent": {"when_unknown": "allow"},
    "delay_s": 0,
    "cooldown_s": 0,
}


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
@pytest.mark.parametrize("broker_clock", [True, False])
def test_replay_sees_items_as_they_were(tmp_path: Path, batch_size: int, broker_clock: bool) -> None:
    """The price falls at two hours and rises at four: who looked before is told then, who came after is not.

    A stray from another year makes nothing true before its time, and what changes after the last event
    changes while time goes on to ``until``.
    """
    lines = [
        event("Product Viewed", user="early", at=3600, product_id="p1"),
        event("Product Viewed", user="stray", at=400 * 86_400, product_id="p9"),
        event("Product Viewed", user="other", at=3700, product_id="p9"),
        event("Product Viewed", user="cheap", at=3 * 3600, product_id="p1"),
        event("Product Viewed", user="dear", at=5 * 3600, product_id="p1"),
    ]
    times = [3600, 3650, 3700, 3 * 3600, 5 * 3600]
    prices = [(0, 100), (2, 60), (4, 90), (6, 50), (9, 10)]
    catalogue = tmp_path / "items.jsonl"
    catalogue.write_bytes(
        b"\n".join(
            msgspec.json.encode(
                Item(
                    item_id="p1",
                    version=hour,
                    price=price,
                    updated_at=datetime.fromtimestamp(EPOCH + 3600 * hour, UTC),
                )
            )
            for hour, price in prices
        )
    )
    items, versions = read_item_versions(catalogue)
    campaigns = {"drop": msgspec.convert(DROP, Campaign)}
    records = [
        (0, Record(line, EPOCH + (at if broker_clock else 500 * 86_400), offset))
        for offset, (line, at) in enumerate(zip(lines, times, strict=True))
    ]
    if not broker_clock:
        told_by_what_follows = with_foresight((record for _, record in records), CleaningConfig())
        records = [(0, record) for record in told_by_what_follows]
    recording = Recording("by hand", 1, lambda: iter(records), broker_clock=broker_clock)
    rules = Settings(**SMALL, campaigns={"holdout_share": 0.0})
    reference = Reference(items=items, campaigns=campaigns)
    until = EPOCH + 8 * 3600
    replay(rules, recording, tmp_path, reference, versions=versions, until=until, batch_size=batch_size)
    told = [(t["recipient"]["user_id"], t["context"]["price"]) for t in lines_of(tmp_path, "triggers.jsonl")]

    assert [("early", 60.0), ("cheap", 50.0), ("dear", 50.0)] == told


def test_the_first_line_of_an_item_counts_from_the_beginning(tmp_path: Path) -> None:
    """A later line has its time; one without a time takes the place of the one before."""
    catalogue = tmp_path / "items.jsonl"
    catalogue.write_text(
        '{"item_id":"a","version":1,"updated_at":"2026-01-03T00:00:00Z"}\n'
        '{"item_id":"a","version":3,"updated_at":"2026-01-02T00:00:00Z"}\n'
        '{"item_id":"a","version":2,"updated_at":"2026-01-01T00:00:00Z"}\n'
        '{"item_id":"b","version":1}\n{"item_id":"b","version":2}\n'
    )
    first, later = read_item_versions(catalogue)

    assert {"a": 1, "b": 2} == {item_id: item.version for item_id, item in first.items()}
    assert [2, 3] == [item.version for _, item in later]


def test_events_come_from_one_place(tmp_path: Path) -> None:
    """Neither or both sources, what only one of them has, both ways to give campaigns: usage errors."""
    events = tmp_path / "e.jsonl"
    events.write_bytes(b"")
    topic = ("--from-topic", "t", "--bootstrap", "127.0.0.1:1")
    week = ("--from", "2026-01-05", "--to", "2026-01-12")
    out = ("--out", tmp_path / "out")
    calls = [
        ("replay", *out),
        ("replay", *out, "--events", events, "--from-topic", "t"),
        ("replay", *out, "--events", events, "--campaigns", events, "--compare", events, events),
        ("replay", *out, "--events", events, *week[:2]),
        ("replay", *out, "--events", events, *week[2:]),
        ("replay", *out, "--events", events, "--from", ""),
        ("replay", *out, "--events", events, "--until", ""),
        ("replay", *out, "--events", events, "--now", ""),
        ("replay", *out, *topic, "--now", "2026-01-05"),
        ("replay", *out, *topic, "--from", "2026-02-05", *week[2:]),
        ("replay", "--out", events / "below" / "a-file", "--events", events),
    ]

    assert [2] * len(calls) == [nudge(*call).returncode for call in calls]
    assert not (tmp_path / "out").exists()
    assert 69 == nudge("replay", *out, *topic).returncode


def test_names_are_no_markup(tmp_path: Path) -> None:
    """Of campaigns in the tables of replays and comparisons, and of actions in those of an evaluation."""
    names = ["cart[/x]", "welcome [de]", "[bold]"]
    rules = [msgspec.to_builtins(cart_campaign(name, delay_s=60.0, consent=CONSENT)) for name in names]
    campaigns, events, log = tmp_path / "c.json", tmp_path / "e.jsonl", tmp_path / "log.jsonl"
    campaigns.write_bytes(orjson.dumps(rules))
    events.write_bytes(event("Product Added", user="u1", at=0, product_id="p1") + b"\n")
    row = {"context": {}, "eligible": names, "action": names[0], "reward": 1, "propensity": 0.5}
    log.write_bytes(b"\n".join([orjson.dumps(row)] * 40))
    common = ("--events", events, "--out", tmp_path / "out", "--until", "2026-01-02")
    told = [
        nudge("replay", *common, "--campaigns", campaigns),
        nudge("replay", *common, "--compare", campaigns, campaigns),
        nudge("evaluate", "offers", "--logged", log, "--runs", "1"),
    ]

    assert [0, 0, 0] == [one.returncode for one in told], [one.stderr for one in told]
    for name in names:
        assert all(name in one.stderr.decode() for one in told[:2])
    assert "best fixed action: cart[/x]" in told[2].stderr.decode()


def test_history_before_go_live_sends_nothing(tmp_path: Path) -> None:
    """The whole stream lies before go-live: every message that was due is suppressed as backfill."""
    events = tmp_path / "e.jsonl"
    events.write_bytes(b"\n".join(shop_stream(2000, seed=1)))
    report = run(tmp_path / "before", file_recording(events, NOW), {"go_live": "2026-01-01"})

    assert [] == lines_of(tmp_path / "before", "triggers.jsonl")
    assert sum(funnel["eligible"] for funnel in report["campaigns"].values()) > 100
    for funnel in report["campaigns"].values():
        assert {"backfill": funnel["eligible"]} == funnel["suppressed"]


@settings(max_examples=25)
@given(st.integers(0, 2000))
def test_nothing_is_sent_before_go_live_and_history_consumes_no_cap(
    tmp_path_factory: pytest.TempPathFactory, record: int
) -> None:
    """Wherever go-live lies in the stream: no message before it, and one that is due after it is there."""
    folder = tmp_path_factory.mktemp("live")
    events = folder / "e.jsonl"
    events.write_bytes(b"\n".join(shop_stream(600, seed=2)))
    go_live = rfc3339(EPOCH + START + 30.0 * min(record, 700))
    run(folder / "out", file_recording(events, NOW), {"go_live": go_live})
    sent = [trigger["send_at"] for trigger in lines_of(folder / "out", "triggers.jsonl")]
    decided = lines_of(folder / "out", "decisions.jsonl")
    capped = [d["decided_at"] for d in decided if d.get("reason") in {"cooldown", "frequency_capped"}]

    assert all(at >= go_live for at in sent + capped)


def test_partitions_and_batches_change_no_message(tmp_path: Path) -> None:
    """The stream in one partition, in three, and in three by batches of seven: the same messages."""
    lines = list(shop_stream(1500, seed=6))

    def spread() -> Iterator[tuple[int, Record]]:
        for offset, line in enumerate(lines):
            user = line.partition(b'"userId":"')[2].partition(b'"')[0]
            yield sum(user) % 3, Record(line, NOW, offset)

    (tmp_path / "e.jsonl").write_bytes(b"\n".join(lines))
    run(tmp_path / "one", file_recording(tmp_path / "e.jsonl", NOW))
    rules = Settings(**SMALL, campaigns={"holdout_share": 0.1})
    reference = load_reference(None, None, tmp_path / "campaigns.json")
    recording = Recording("spread", 3, spread)
    replay(rules, recording, tmp_path / "three", reference)
    replay(rules, recording, tmp_path / "sevens", reference, batch_size=7)
    one, three = (
        Counter((tmp_path / name / "triggers.jsonl").read_bytes().splitlines()) for name in ("one", "three")
    )

    assert one == three
    assert one.total() > 50
    for name in FILES:
        assert (tmp_path / "three" / name).read_bytes() == (tmp_path / "sevens" / name).read_bytes()
