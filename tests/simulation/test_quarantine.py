"""What the engine fails on again and again is passed by, and everything else has its effects."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
import pytest
from aiokafka import TopicPartition

from schemas.campaigns import Campaign
from schemas.catalogue import Item
from schemas.outputs import Decision
from stream.core.campaigns import Campaigns
from stream.core.records import Outputs
from stream.core.state import Due, PartitionState
from stream.testing import event
from tests.runtime.shop_stream import START, campaigns
from tests.simulation.cluster import Cluster, settings_of
from tests.simulation.history import committed
from tests.simulation.stage import on_stage

VICTIM, OTHER = "victim", "other"
STEP_S, DELAY_S = 30, 600.0
RECEIPT = "receipt"


@dataclass
class Told:
    """What came of a stream."""

    decisions: list[Decision]
    dead_letters: int
    left: int  # records that were never applied
    lives: int


def receipts(last_s: float) -> list[bytes]:
    """Two carts that get a receipt, then views of others, the last so long after."""
    carts = [
        event("Product Added", user=user, at=START, message_id=user, product_id="p1")
        for user in (VICTIM, OTHER)
    ]
    times = [*range(STEP_S, int(last_s), STEP_S), last_s]
    views = [
        event("Product Viewed", user=f"u{n}", at=START + time, message_id=f"m{n}", product_id="p2")
        for n, time in enumerate(times)
    ]
    return [*carts, *views]


def told_by(cluster: Cluster, lives: int) -> Told:
    """What is on the logs now."""
    [events] = cluster.broker.topics[cluster.names.events]
    [(offset, _)] = cluster.broker.groups.group("sim").offsets.values()
    [decisions] = committed(cluster.broker, cluster.names.decisions)
    [letters] = committed(cluster.broker, cluster.names.dead_letters)
    found = [msgspec.json.decode(one.value or b"", type=Decision) for one in decisions]
    return Told(found, len(letters), events.end - offset, lives)


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("exactly_once", [True, False])
def test_a_timer_that_the_engine_fails_on_costs_no_record(
    monkeypatch: pytest.MonkeyPatch, *, idle: bool, exactly_once: bool
) -> None:
    """Due with a record or in idle time: its message is given up, with a reason; nobody else loses one."""
    settings = settings_of(1, exactly_once=exactly_once)
    due_s = DELAY_S + settings.campaigns.lateness_s
    fire = Campaigns.fire

    def failing(self: Campaigns, due: Due, model_version: str, outputs: Outputs) -> None:
        if due.user == VICTIM and due.ref.startswith(RECEIPT):
            raise ZeroDivisionError("a bug")
        fire(self, due, model_version, outputs)

    async def work(cluster: Cluster) -> Told:
        cluster.produce_campaigns([one for one in campaigns() if one.campaign_id == RECEIPT])
        cluster.produce_events(receipts(due_s - 5.0 if idle else 2 * due_s))
        worker = cluster.add("w0")
        cluster.start(worker)
        await asyncio.sleep(90.0)
        return told_by(cluster, worker.life)

    monkeypatch.setattr(Campaigns, "fire", failing)
    told = on_stage(work, settings)

    about = {d.user_id: (d.action, d.reason) for d in told.decisions if d.campaign_id == RECEIPT}
    assert {VICTIM: ("suppress", "failed"), OTHER: ("send", None)} == about
    assert (0, 0, 1) == (told.dead_letters, told.left, told.lives)


def test_a_row_that_cannot_be_woken_costs_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart, what waits in a row is looked at when the first of it is due; one such row fails."""
    settings = settings_of(1)
    lines = receipts(2 * (DELAY_S + settings.campaigns.lateness_s))
    wake = PartitionState._wake

    def failing(self: PartitionState, user: str) -> None:
        if user == VICTIM:
            raise ZeroDivisionError("a bug")
        wake(self, user)

    async def work(cluster: Cluster) -> Told:
        cluster.produce_campaigns([one for one in campaigns() if one.campaign_id == RECEIPT])
        cluster.produce_events(lines[:10])
        worker = cluster.add("w0")
        cluster.start(worker)
        await asyncio.sleep(10.0)
        cluster.crash(worker)
        cluster.start(worker)
        cluster.produce_events(lines[10:])
        await asyncio.sleep(60.0)
        return told_by(cluster, worker.life - 1)

    monkeypatch.setattr(PartitionState, "_wake", failing)
    told = on_stage(work, settings)

    assert [(OTHER, "send")] == [(d.user_id, d.action) for d in told.decisions if d.campaign_id == RECEIPT]
    assert (0, 0, 1) == (told.dead_letters, told.left, told.lives)


@pytest.mark.parametrize("idle", [False, True])
def test_a_changed_item_that_the_engine_fails_on_costs_no_record(
    monkeypatch: pytest.MonkeyPatch, *, idle: bool
) -> None:
    """Two wait for a price: what comes of it for one of them raises, and the other is told."""
    settings = settings_of(1)
    drop = msgspec.convert(
        {
            "campaign_id": RECEIPT,
            "version": 1,
            "kind": "price_drop",
            "message_class": "marketing",
            "delay_s": 0.0,
            "holdout_share": 0.0,
            "consent": {"when_unknown": "allow"},
        },
        Campaign,
    )
    look = Campaigns._look

    def failing(self: Campaigns, item_id: str, user: str, outputs: Outputs) -> None:
        if user == VICTIM:
            raise ZeroDivisionError("a bug")
        look(self, item_id, user, outputs)

    async def work(cluster: Cluster) -> Told:
        def produce_item(price: float) -> None:
            value = msgspec.json.encode(Item(item_id="p1", version=int(1000 - price), price=price))
            cluster.broker.write(TopicPartition(cluster.names.catalogue, 0), [(b"p1", value, ())])

        cluster.produce_campaigns([drop])
        produce_item(100.0)
        lines = [
            event("Product Viewed", user=user, at=START + n, message_id=user, product_id="p1")
            for n, user in enumerate((VICTIM, OTHER))
        ]
        cluster.produce_events(lines)
        worker = cluster.add("w0")
        cluster.start(worker)
        await asyncio.sleep(20.0)
        produce_item(50.0)
        await asyncio.sleep(5.0)
        if not idle:
            cluster.produce_events(receipts(900.0)[2:])
        await asyncio.sleep(400.0 if idle else 60.0)
        return told_by(cluster, worker.life)

    monkeypatch.setattr(Campaigns, "_look", failing)
    told = on_stage(work, settings)

    assert [(OTHER, "send")] == [(d.user_id, d.action) for d in told.decisions if d.campaign_id == RECEIPT]
    assert (0, 0, 1) == (told.dead_letters, told.left, told.lives)
