"""The demo's worker runs under the very settings that the demo made."""

from __future__ import annotations

import os

import pytest

from stream.campaign_files import read_campaigns
from stream.demo.options import CAMPAIGNS, DemoOptions, environment_of, settings_of
from stream.settings import Settings


def test_a_process_that_reads_the_environment_has_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers, texts, flags, answers by purpose: all survive the way through environment variables."""
    for name in [name for name in os.environ if name.startswith("NUDGE_")]:
        monkeypatch.delenv(name)
    settings = Settings(
        seed=9,
        max_items=512,
        recommend={"factors": False},
        campaigns={"holdout_share": 0.25, "holdout_salt": "3"},
        consent={"when_unknown": "allow", "purposes": {"contact": "deny"}},
        kafka={"bootstrap": "127.0.0.1:1234"},
    )
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert settings == Settings()


def test_the_environment_wins_where_the_demo_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own settings hold in the demo, but for the broker, the topics and the windows."""
    monkeypatch.setenv("NUDGE_CAMPAIGNS__DAILY_CAP", "7")
    monkeypatch.setenv("NUDGE_KAFKA__PARTITIONS", "2")
    monkeypatch.setenv("NUDGE_KAFKA__TOPIC_PREFIX", "production.")
    settings = settings_of(DemoOptions(seed=3), "127.0.0.1:1", 9999)
    assert (7, 2, 3) == (settings.campaigns.daily_cap, settings.kafka.partitions, settings.seed)
    assert settings.kafka.topic_prefix.startswith("nudge-demo-")
    assert settings.kafka.group != settings_of(DemoOptions(), "127.0.0.1:1", 9999).kafka.group


def test_the_demos_campaigns_are_valid_and_one_asks_the_bandit() -> None:
    """Cart and browse abandonment; offers for the first. The file is also the example."""
    campaigns = read_campaigns(CAMPAIGNS)
    kinds = {campaign.kind: campaign.offers for campaign in campaigns.values()}
    assert {"cart_abandonment": True, "browse_abandonment": False} == kinds
    example = CAMPAIGNS.parents[2] / "examples" / "campaigns.yaml"
    assert example.read_bytes() == CAMPAIGNS.read_bytes()


def test_a_broker_of_the_demos_own_asks_nobody_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of a secured cluster is for that cluster: nobody uses it here."""
    variables = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": "nudge", "SASL_PASSWORD": "open-sesame"}
    for name, value in variables.items():
        monkeypatch.setenv(f"NUDGE_KAFKA__{name}", value)
    own = settings_of(DemoOptions(), "127.0.0.1:1", 2)
    given = settings_of(DemoOptions(bootstrap="kafka:9093"), "kafka:9093", 2)

    assert ("PLAINTEXT", None, None) == (
        own.kafka.security_protocol,
        own.kafka.sasl_username,
        own.kafka.sasl_password,
    )
    assert [] == [name for name in environment_of(own) if "__SASL_" in name and "MECHANISM" not in name]
    assert "SASL_SSL" == given.kafka.security_protocol
    assert "open-sesame" == environment_of(given)["NUDGE_KAFKA__SASL_PASSWORD"]


@pytest.mark.parametrize(
    ("kafka", "fault"),
    [
        ({"security_protocol": "SASL_SSL"}, "SASL_SSL needs sasl_username and sasl_password"),
        ({"sasl_username": "u", "sasl_password": "p"}, "go with SASL, not PLAINTEXT"),
        ({"ssl_cafile": "ca.pem"}, "certificates go with SSL or SASL_SSL, not PLAINTEXT"),
        ({"security_protocol": "SSL", "ssl_keyfile": "key.pem"}, "ssl_keyfile needs ssl_certfile"),
    ],
)
def test_half_of_what_proves_a_name_is_refused(kafka: dict[str, str], fault: str) -> None:
    """A name or a certificate that would not be used is a cluster spoken to in clear, unawares."""
    with pytest.raises(ValueError, match=fault):
        Settings(kafka=kafka)
