"""The table of topics holds what the guarantees lean on."""

from __future__ import annotations

import pytest

from stream.runtime.topics import TOPICS, TopicNames, TopicSpec

BY_NAME = {spec.name: spec for spec in TOPICS}


def _names() -> set[str]:
    names = TopicNames("")
    return {*names.partitioned, *names.reference}


def test_every_topic_the_code_uses_is_declared() -> None:
    """A worker never needs a topic that ``topics apply`` would not create, with the partitions it assumes."""
    assert _names() <= set(BY_NAME)
    assert all(BY_NAME[name].partitioned for name in TopicNames("").partitioned)
    assert not any(BY_NAME[name].partitioned for name in TopicNames("").reference)


def test_names_carry_the_prefix() -> None:
    """All names move with the prefix, so two deployments share a cluster."""
    assert {f"shop.{name}" for name in _names()} == {
        *TopicNames("shop.").partitioned,
        *TopicNames("shop.").reference,
    }


@pytest.mark.parametrize("spec", TOPICS, ids=lambda spec: spec.name)
def test_retention_fits_the_kind(spec: TopicSpec) -> None:
    """Inputs follow the broker's clock, the changelog compacts, and the delta log loses nothing."""
    if spec.kind == "input":
        assert "LogAppendTime" == spec.config["message.timestamp.type"]
    if spec.kind in {"reference", "changelog"}:
        assert "compact" == spec.config["cleanup.policy"]
    if spec.name == "model-deltas.v1":
        assert ("delete", "-1") == (spec.config["cleanup.policy"], spec.config["retention.ms"])
    if spec.name == "events.v1.dlq":
        assert 14 * 86_400_000 >= int(spec.config["retention.ms"])  # it holds personal data
