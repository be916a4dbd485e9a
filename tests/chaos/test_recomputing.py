"""What reads a model, after kills and rebalances: recomputed to the byte from what is committed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from schemas.catalogue import Offer
from stream.core.reference import Reference
from stream.runtime.broker import KafkaBroker
from stream.runtime.producing import produce
from stream.testing import cart_campaign
from tests.chaos.harness import Fleet, topics_for
from tests.chaos.recomputing import Value, recompute
from tests.chaos.report import report, size
from tests.runtime.shop_stream import CONSENT, campaigns
from tests.runtime.worker_process import SETTINGS

OFFERS = [
    Offer(offer_id=f"o{n}", version=1, cost=0.5 * n, value=4.0 + n, currency="EUR") for n in range(1, 4)
]
WITH_OFFER = cart_campaign("cart-offer", delay_s=1200.0, cooldown_s=3600.0, consent=CONSENT, offers=True)


def test_every_output_follows_from_the_input_and_the_recorded_models(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str
) -> None:
    """Slates, offers and messages with offers, deltas, and rows with what models remember of their users."""
    # Less patience than a commit often takes, so that some overlap on any machine, not only on a busy one.
    setup = topics_for(kafka_broker.bootstrap, name, batch_records=20, commit_patience_ms=12)
    setup.produce_campaigns([WITH_OFFER])
    offers = [msgspec.json.encode(offer) for offer in OFFERS]
    asyncio.run(produce(setup.kafka.bootstrap, setup.names.offers, offers, key="offer_id"))
    with Fleet(setup, tmp_path, 2) as fleet:
        fleet.start().wait_at_work()
        for n in range(size(3, 40)):
            fleet.advance(400)
            fleet.workers[n % 2].kill()
            fleet.advance(50)
            fleet.start()
        fleet.advance(200)
        fleet.add()
        fleet.start().wait_at_work()
        fleet.advance(200)  # partitions have moved although nobody failed
        fleet.finish(limit_s=size(150, 3600))
    active = {campaign.campaign_id: campaign for campaign in [*campaigns(), WITH_OFFER]}
    reference = Reference(offers={offer.offer_id: offer for offer in OFFERS}, campaigns=active)
    again = recompute(setup, SETTINGS, reference)

    names, compared = setup.names, dict[str, int]()
    topics = (
        names.recommendations,
        names.triggers,
        names.triggers_dry_run,
        names.decisions,
        names.dead_letters,
    )
    for topic in topics:
        committed: dict[int, list[Value]] = {p: [] for p in range(setup.kafka.partitions)}
        for record in setup.read(topic):
            committed[record.partition].append((record.key, record.value, tuple(record.headers)))
        for partition, values in committed.items():
            assert values == again.outputs[topic, partition], f"{topic} of partition {partition}"
        compared[topic.removeprefix(setup.kafka.topic_prefix)] = sum(map(len, committed.values()))
    report(
        name,
        events=fleet.total,
        batches=again.batches,
        deltas=again.deltas,
        restored=again.folded["r"],
        of_others=again.folded["f"],
        own=again.folded["o"],
        own_late=again.folded["late"],
        **compared,
    )
    assert not again.differing, again.differing[:5]
    assert again.deltas > 100, "void: nothing was learned"
    assert all(again.folded[how] > 10 for how in ("r", "f", "o", "late")), f"void: {again.folded}"
    assert compared["recommendations.v1"] > 500, "void: next to nothing was recommended"
    assert sum(b'"offer"' in (value or b"") for _, value, _ in _all(again.outputs, names.decisions)) > 100
    assert sum(b'"offer' in (value or b"") for _, value, _ in _all(again.outputs, names.triggers)) > 20


def _all(outputs: dict[tuple[str, int], list[Value]], topic: str) -> list[Value]:
    return [value for (of, _), values in outputs.items() if of == topic for value in values]
