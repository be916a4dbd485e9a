"""Any split of a stream into batches and lives of a worker leaves what one run over the whole leaves."""

from __future__ import annotations

import asyncio
import random
from functools import cache

import pytest

from schemas.codec import encode
from stream.assembly import build_engine, build_models
from stream.core.records import Record
from stream.core.reference import Reference
from stream.runtime.records import as_record
from stream.runtime.statecodec import encode_row, model_free
from stream.settings import Settings
from stream.testing import event
from tests.runtime.oracle import RULES, committed_rows
from tests.runtime.shop_stream import START, campaigns, shop_stream
from tests.simulation.checks import as_read
from tests.simulation.cluster import Cluster, settings_of
from tests.simulation.history import committed
from tests.simulation.stage import on_stage

N_EVENTS = 150
SPLITS = 25
LIMIT_S = 120.0  # virtual


@cache
def lines() -> tuple[bytes, ...]:
    """Return a stream of one partition, and an event that makes all that is armed due."""
    late = event("Cart Viewed", user="end", at=START + 30.0 * N_EVENTS + 43_200, message_id="end")
    return (*list(shop_stream(N_EVENTS, 5, n_users=12, n_items=20))[:N_EVENTS], late)


def whole(settings: Settings, records: list[Record]) -> tuple[str, dict[str, bytes], list[bytes]]:
    """Run the engine over all records at once: digest of the models, model-free rows, what the rules did."""
    reference = Reference(campaigns={campaign.campaign_id: campaign for campaign in campaigns()})
    models = build_models(settings)
    engine = build_engine(settings, models, reference, config=settings.engine_config(partitions=1))
    models.fold.begin()
    outputs = engine.process(records)
    models.fold.keep()
    state = engine.state
    rows = {user: model_free(encode_row(state.profile(user), state.memory(user))) for user in state}
    effects = [encode(t) for t in outputs.triggers if not t.dry_run]
    return models.fold.digest(), rows, effects + [encode(d) for d in outputs.decisions if d.kind in RULES]


@pytest.mark.parametrize("seed", range(SPLITS))
def test_splits_do_not_matter(seed: int) -> None:
    """Models bit by bit, user state and rule decisions byte by byte: one partition, up to four lives."""
    dice = random.Random(seed)
    base = settings_of(1)
    size = dice.choice((1, 7, dice.randint(2, N_EVENTS), 1000))
    kafka = base.kafka.model_copy(update={"batch_records": size, "session_timeout_ms": 1000})
    settings = base.model_copy(update={"kafka": kafka})

    async def split(cluster: Cluster) -> None:
        cluster.produce_campaigns(campaigns())
        cluster.produce_events(lines())
        worker = cluster.add("w0")
        for _ in range(dice.randint(0, 3)):
            cluster.start(worker)
            await asyncio.sleep(dice.uniform(0.1, 0.6))
            cluster.crash(worker) if dice.random() < 0.7 else cluster.stop(worker)
            await asyncio.sleep(0.2)
        async with asyncio.timeout(LIMIT_S):
            cluster.start(worker)
            group = cluster.broker.groups.group(kafka.group)
            while sum(offset for offset, _ in group.offsets.values()) < len(lines()):
                await asyncio.sleep(0.05)
                cluster.start(worker)
        await asyncio.sleep(0.2)  # the other markers of the last transaction
        assert worker.plane is not None
        assert worker.plane._shared is not None
        records = [as_record(record) for record in as_read(cluster, cluster.names.events)]
        digest, rows, effects = whole(settings, records)
        async with worker.plane._shared.turns.turn() as models:
            assert digest == models.digest()
        assert rows == committed_rows(as_read(cluster, cluster.names.user_state))
        (triggers,) = committed(cluster.broker, cluster.names.triggers)
        (decisions,) = committed(cluster.broker, cluster.names.decisions)
        ruled = [
            r.value for r in decisions if any(b'"kind":"%s"' % k.encode() in (r.value or b"") for k in RULES)
        ]
        assert effects == [r.value for r in triggers] + ruled

    on_stage(split, settings, seed)
