"""Real behaviour events through the whole engine, held against a few independent lines of Python."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.campaigns import Campaign
from schemas.codec import parse_time
from schemas.ids import bucket
from stream.core.records import Record
from stream.core.reference import Reference
from stream.importing import import_events
from stream.recording import Recording, file_recording
from stream.replay import FILES, replay
from stream.settings import Settings
from stream.testing import cart_campaign
from tests.oracles import repeat_purchases
from tests.oracles.abandoned_carts import abandoned_carts
from tests.oracles.campaign_messages import CAMPAIGNS, DAILY_CAP, DAY_S, Told, messages

DELAY_S, LATENESS_S, N_EVENTS = 3600.0, 300.0, 20_000
OPEN = {"daily_cap": None, "cooldowns": False, "holdout_share": 0.0, "lateness_s": LATENESS_S}
STRICT = {"daily_cap": 1, "cooldowns": True, "holdout_share": 0.2, "lateness_s": LATENESS_S}
NOW = parse_time("2026-01-01")


@pytest.fixture(scope="module")
def taobao_head(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the first 20,000 events of the imported Taobao file, sorted by time, strays dropped."""
    imported = io.BytesIO()
    import_events(
        "taobao",
        data_dir / "taobao" / "UserBehavior_first100k.csv.gz",
        out=imported,
        from_s=parse_time("2017-11-24"),
        to_s=parse_time("2017-12-04"),
    )
    head = tmp_path_factory.mktemp("taobao") / "head.jsonl"
    imported.seek(0)
    head.write_bytes(b"".join(islice(imported, N_EVENTS)))
    return head


def run(events: Path, out: Path, policy: dict[str, Any]) -> dict[str, Any]:
    """Replay with one cart campaign."""
    settings = Settings(consent={"when_unknown": "allow"}, campaigns=policy)
    reference = Reference(campaigns={"cart": cart_campaign(delay_s=DELAY_S)})
    return replay(settings, file_recording(events, NOW), out, reference)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON lines."""
    with path.open("rb") as lines:
        yield from map(json.loads, lines)


def test_cart_triggers_equal_an_independent_count_message_for_message(
    taobao_head: Path, tmp_path: Path
) -> None:
    """With caps, cooldown and holdout off, every reminder the file calls for goes out, and no other."""
    report = run(taobao_head, tmp_path, OPEN)
    sent = [
        (t["recipient"]["user_id"], t["context"]["product_id"], t["cause"]["message_id"])
        for t in rows(tmp_path / "triggers.jsonl")
    ]
    with taobao_head.open("rb") as lines:
        expected = abandoned_carts(lines, DELAY_S, LATENESS_S)

    assert expected == set(sent)
    assert len(sent) == len(expected) > 500
    events = report["events"]
    assert N_EVENTS == events["read"]
    assert events["read"] == events["accepted"] + events["duplicate"] + sum(events["rejected"].values())


def test_suppressions_account_for_the_difference(taobao_head: Path, tmp_path: Path) -> None:
    """With caps, cooldown and holdout on: the same messages are eligible, each is sent or has its reason."""
    free = run(taobao_head, tmp_path / "free", OPEN)["campaigns"]["cart"]
    strict = run(taobao_head, tmp_path / "strict", STRICT)["campaigns"]["cart"]
    decisions = list(rows(tmp_path / "strict" / "decisions.jsonl"))
    sent = {t["decision"]["decision_id"] for t in rows(tmp_path / "strict" / "triggers.jsonl")}
    suppressed = {d["decision_id"] for d in decisions if d["kind"] in {"suppression", "holdout"}}
    free_ids = {t["decision"]["decision_id"] for t in rows(tmp_path / "free" / "triggers.jsonl")}

    assert free["eligible"] == strict["eligible"] == strict["sent"] + sum(strict["suppressed"].values())
    assert {"cooldown", "frequency_capped", "holdout"} >= set(strict["suppressed"]) >= {"cooldown", "holdout"}
    assert free_ids == sent | suppressed
    assert set() == sent & suppressed


def test_replay_gives_the_same_bytes_twice_and_at_any_batch_size(taobao_head: Path, tmp_path: Path) -> None:
    """Twice the same file, in batches of 1000 and of 77: the same outputs to the byte, timings apart."""
    settings = Settings(consent={"when_unknown": "allow"}, campaigns=OPEN)
    short = tmp_path / "short.jsonl"
    with taobao_head.open("rb") as lines:
        short.write_bytes(b"".join(islice(lines, 4000)))
    reports = []
    for name, size in (("a", 1000), ("b", 1000), ("c", 77)):
        reference = Reference(campaigns={"cart": cart_campaign(delay_s=DELAY_S)})
        report = replay(settings, file_recording(short, NOW), tmp_path / name, reference, batch_size=size)
        reports.append({k: v for k, v in report.items() if k not in {"throughput_events_per_s", "elapsed_s"}})
    written = [[(tmp_path / name / file).read_bytes() for file in FILES] for name in "abc"]

    assert written[0] == written[1] == written[2]
    assert reports[0] == reports[1] == reports[2]
    assert len(written[0][0]) > 100_000


def test_ids_of_outputs_are_unique(taobao_head: Path, tmp_path: Path) -> None:
    """No recommendation, trigger or decision repeats an id."""
    run(taobao_head, tmp_path, STRICT)
    ids = {
        "recommendations.jsonl": [r["id"] for r in rows(tmp_path / "recommendations.jsonl")],
        "triggers.jsonl": [t["id"] for t in rows(tmp_path / "triggers.jsonl")],
        "decisions.jsonl": [d["decision_id"] for d in rows(tmp_path / "decisions.jsonl")],
    }

    assert {name: len(found) for name, found in ids.items()} == {
        name: len(set(found)) for name, found in ids.items()
    }
    assert len(ids["recommendations.jsonl"]) > 1000


def test_three_campaigns_write_what_whole_histories_call_for(taobao_head: Path, tmp_path: Path) -> None:
    """With cap, cooldown and holdout: the same messages in the same order as the oracle's."""
    kinds = {"Product Viewed": "view", "Product Added": "add", "Order Completed": "order"}
    told: set[Told] = set()
    for event in rows(taobao_head):
        about = event["properties"]
        products = about.get("products", [about])
        kind, time = kinds.get(event["event"]), parse_time(event["timestamp"])
        if kind is not None:
            told |= {
                Told(time, event["messageId"], event["userId"], kind, str(product["product_id"]))
                for product in products
            }
    sent = messages_of(CAMPAIGNS, file_recording(taobao_head, NOW), told, tmp_path)

    assert sent == messages(told, held_out(CAMPAIGNS, told))
    assert len(sent) > 1000


def test_three_campaigns_about_orders_write_what_whole_histories_call_for(
    data_dir: Path, tmp_path: Path
) -> None:
    """Half a year of the wholesaler's orders and refunds: post-purchase, replenishment and win-back."""
    imported = io.BytesIO()
    file = data_dir / "online-retail" / "online_retail_by_day.csv.gz"
    import_events("online-retail", file, out=imported, to_s=parse_time("2011-06-01"))
    told: set[Told] = set()
    records = []
    for offset, line in enumerate(imported.getvalue().splitlines()):
        event = json.loads(line)
        time, user = parse_time(event["timestamp"]), event.get("userId") or event["anonymousId"]
        kind = "order" if event["event"] == "Order Completed" else "refund"
        for product in event["properties"]["products"]:
            dear = kind == "refund" or product["price"] >= repeat_purchases.DEAR
            told.add(Told(time, event["messageId"], user, kind, product["product_id"] if dear else ""))
        records.append((0, Record(line, time, offset)))
    recording = Recording(file.name, 1, lambda: iter(records), broker_clock=True)
    sent = messages_of(repeat_purchases.CAMPAIGNS, recording, told, tmp_path)
    away = held_out(repeat_purchases.CAMPAIGNS, told)

    assert sent == messages(told, away, repeat_purchases.armed, cooldown_s=repeat_purchases.COOLDOWN_S)
    assert {"after", "refill", "win-back"} == {campaign for campaign, _, _ in sent}
    assert len(sent) > 4000


def messages_of(
    campaigns: list[dict[str, Any]], recording: Recording, told: set[Told], out: Path
) -> list[tuple[str, str, str]]:
    """Replay until everything has come due: (campaign, user, messageId) of each message."""
    policy = {"holdout_share": 0.0, "daily_cap": DAILY_CAP, "lateness_s": LATENESS_S}
    settings = Settings(max_items=256, click_slots=2**10, campaigns=policy)
    found = msgspec.convert(campaigns, list[Campaign])
    reference = Reference(campaigns={campaign.campaign_id: campaign for campaign in found})
    until = max(one.time for one in told) + 40 * DAY_S
    replay(settings, recording, out, reference, until=until)
    return [
        (
            trigger["campaign_id"],
            trigger["recipient"].get("user_id") or trigger["recipient"]["anonymous_id"],
            trigger["cause"]["message_id"],
        )
        for trigger in rows(out / "triggers.jsonl")
    ]


def held_out(campaigns: list[dict[str, Any]], told: set[Told]) -> set[tuple[str, str]]:
    """Pairs of user and campaign that get nothing."""
    return {
        (user, campaign["campaign_id"])
        for user in {one.user for one in told}
        for campaign in campaigns
        if bucket(f"nudge:{campaign['campaign_id']}", user) < campaign["holdout_share"]
    }
