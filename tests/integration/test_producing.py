"""`nudge produce` on a broker: campaigns as they are written, and what it leaves out ends with 65."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic
from numpy.random import Philox

from stream.runtime import producing
from stream.runtime.broker import EmbeddedBroker, KafkaBroker
from stream.runtime.errors import BrokerUnreachableError
from stream.runtime.topics import open_admin
from stream.sections import KafkaSettings
from tests.nudge_process import nudge
from tests.runtime.topic_setup import Setup
from tests.test_cli import CAMPAIGN

SEGMENT = "- segment_id: buyers\n  version: 1\n  when: {fact: user.n_orders, at_least: 1}\n"


def create(broker: EmbeddedBroker, topic: str) -> tuple[Setup, dict[str, str]]:
    """Topics of one partition, and the environment in which commands use them."""
    setup = Setup(KafkaSettings(bootstrap=broker.bootstrap, topic_prefix=f"{topic}.", partitions=1))
    setup.create()
    return setup, {f"NUDGE_{key}": value for key, value in setup.environment.items()}


def test_campaigns_are_written_as_they_are_validated(
    embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    """YAML, a folder, or JSON over several lines: campaigns and segments, each under its key."""
    setup, environment = create(embedded_broker, topic)
    folder = tmp_path / "campaigns"
    folder.mkdir()
    (folder / "segments.yaml").write_text(SEGMENT)
    (folder / "campaigns.json").write_text(json.dumps([CAMPAIGN], indent=2))
    (tmp_path / "bad.yaml").write_text(SEGMENT.replace("version", "revision"))
    done = [
        nudge("produce", path, "--topic", "campaigns", environment=environment)
        for path in (folder, folder / "segments.yaml", tmp_path / "bad.yaml", tmp_path / "none")
    ]
    keys = [record.key for record in setup.read(setup.names.campaigns)]

    assert [0, 0, 65, 2] == [one.returncode for one in done]
    assert [str(CAMPAIGN["campaign_id"]).encode(), b"segment|buyers", b"segment|buyers"] == keys
    assert "'revision' is not a field" in done[2].stderr.decode()


def test_what_is_left_out_is_said(embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path) -> None:
    """An item without its id and an event over 1 MiB cost only themselves; what has no user is sent."""
    setup, environment = create(embedded_broker, topic)
    items, events = tmp_path / "items.jsonl", tmp_path / "events.jsonl"
    items.write_text('{"item_id":"a","version":1}\n{"id":"b"}\n')
    too_large = f'{{"userId":"u","x":"{"y" * (1 << 20)}"}}\n'
    events.write_text('{"event":"x"}\n' + 6 * too_large + '{"userId":"u"}\n')
    done = [
        nudge("produce", items, "--topic", "catalogue", environment=environment),
        nudge("produce", events, "--json", environment=environment),
    ]

    assert [65, 65] == [one.returncode for one in done]
    assert "1 left out that have no item_id" in done[0].stderr.decode()
    assert "6 left out that are larger than 1 MiB: line 2, 3, 4, 5, 6, ...\n" in done[1].stderr.decode()
    assert (2, 1, 6) == tuple(
        json.loads(done[1].stdout)[name] for name in ("sent", "without_key", "too_large")
    )
    assert [b'{"item_id":"a","version":1}'] == [one.value for one in setup.read(setup.names.catalogue)]
    assert [None, b"u"] == [one.key for one in setup.read(setup.names.events)]


async def test_what_a_broker_refuses_is_no_success(
    kafka_broker: KafkaBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was refused long before the last record was sent; no more are in flight than may be."""
    async with open_admin(kafka_broker.bootstrap) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "1000"})])
    monkeypatch.setattr(producing, "MAX_IN_FLIGHT", 1)
    noise = base64.b64encode(Philox(7).random_raw(1000).tobytes())  # which no compression makes small
    lines = [b'{"userId":"u","x":"' + noise + b'"}', *(b'{"userId":"u"}' for _ in range(20))]

    with pytest.raises(BrokerUnreachableError, match="MessageSizeTooLarge"):
        await producing.produce(kafka_broker.bootstrap, topic, lines)
    assert 20 == (await producing.produce(kafka_broker.bootstrap, topic, lines[1:])).sent
