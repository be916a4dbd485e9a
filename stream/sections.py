"""Sections of the settings; each setting has its unit, bound and meaning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from schemas.campaigns import Cap, check_hours
from schemas.codec import parse_time
from stream.core.localtime import is_zone

__all__ = [
    "AttributionSettings",
    "CampaignSettings",
    "ChallengerSettings",
    "CleaningSettings",
    "ClickSettings",
    "ConsentSettings",
    "ConversionSettings",
    "KafkaSettings",
    "LiftSettings",
    "OfferSettings",
    "RecommendSettings",
]

Answer = Literal["allow", "deny"]


_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+)(:(?P<port>[0-9]{1,5}))?")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CleaningSettings(_Section):
    """What is accepted."""

    max_future_s: float = Field(
        300.0, ge=0, description="Reject an event further ahead of its ingest time, s."
    )
    late_s: float = Field(86_400.0, gt=0, description="Reject an event further behind the watermark, s.")
    max_events_per_minute: int = Field(300, ge=1, description="Reject a user's events beyond this rate.")
    max_price: float = Field(1e7, gt=0, description="Reject an event with a higher price, any currency.")
    max_quantity: float = Field(1e5, gt=0, description="Reject an event with a larger quantity.")


class AttributionSettings(_Section):
    """How long feedback may find its decision."""

    click_window_s: float = Field(
        1800.0, gt=0, description="A list impression not clicked by then is a 0, s."
    )
    decision_window_s: float = Field(86_400.0, gt=0, description="A decision not answered by then is a 0, s.")
    offer_elapsed_s: float | None = Field(
        None,
        ge=0,
        description="An offer not answered by then teaches a 0 at once, weighted for late answers, s; "
        "null: when its window ends.",
    )
    offer_late_share: float = Field(
        1.0, ge=0, le=1, description="Share of answers that come after that; 1: fake-negative weighting."
    )
    max_clicks_per_day: int = Field(
        100,
        ge=1,
        description="Impressions that a user teaches the click model in a day of event time, at most.",
    )
    max_offers_per_day: int = Field(
        16,
        ge=1,
        description="Outcomes that a user teaches the offers' model in a day of event time, at most.",
    )
    item_share: float = Field(
        0.2, gt=0, le=1, description="Share of an hour's lessons of the click model for one item, at most."
    )


class RecommendSettings(_Section):
    """Slates."""

    n_items: int = Field(10, ge=1, le=50, description="Items of a slate.")
    min_interval_s: float = Field(60.0, ge=0, description="Least event time between a user's slates, s.")
    valid_s: float = Field(86_400.0, gt=0, description="How long a slate is valid, s.")
    candidates: int = Field(50, ge=10, le=200, description="Candidates taken from each source.")
    diversity: float = Field(
        0.0,
        ge=0,
        le=10,
        description="How much an item loses for each item of its category above it, log odds.",
    )
    novelty: float = Field(
        0.0, ge=0, le=10, description="How much a thousandfold popularity costs an item, log odds."
    )
    impression_discount: float = Field(
        0.0,
        ge=0,
        le=10,
        description="What an item loses for each of a user's last 16 lists that it was in and not touched, "
        "log odds.",
    )
    factors: bool = Field(default=True, description="Use streaming iALS as a source.")
    content: bool = Field(
        default=True,
        description="Use categories and brands as a source, and propose what is new in the catalogue.",
    )
    item_neighbours: Literal["off", "cosine", "euclidean"] = Field(
        "off", description="Add items chosen by the same users as a source, by this similarity."
    )
    user_neighbours: Literal["off", "cosine", "euclidean"] = Field(
        "off", description="Add items chosen by similar users as a source, by this similarity."
    )
    segment_popularity: bool = Field(
        default=False, description="Add what members of the user's segments choose as a source."
    )


class ClickSettings(_Section):
    """The click model."""

    model: Literal["gaussian", "ftrl"] = Field(
        "gaussian", description="Diagonal Gaussian, or FTRL-Proximal; the first merges better over workers."
    )
    half_life_days: float = Field(
        0.0, ge=0, description="What a click says counts half after this, days; 0: never less."
    )
    crosses: tuple[tuple[str, str], ...] = Field(
        (("category", "buyer"),), max_length=64, description="Pairs of features that also count together."
    )
    negative_share: float = Field(
        1.0,
        ge=0.01,
        le=1,
        description="Share of impressions without a click that is learned, each with a weight for the rest.",
    )


class ChallengerSettings(_Section):
    """Challengers learn and are scored beside the models that serve; each costs what its model costs."""

    clicks: Literal["off", "gaussian", "ftrl"] = Field(
        "off", description="A second click model, of this kind."
    )
    clicks_half_life_days: float = Field(0.0, ge=0, description="Its CLICKS__HALF_LIFE_DAYS.")
    clicks_crosses: tuple[tuple[str, str], ...] = Field(
        (("category", "buyer"),), max_length=64, description="Its CLICKS__CROSSES."
    )
    recommend: bool = Field(default=False, description="A second ranker over the same sources.")
    recommend_candidates: int = Field(50, ge=10, le=200, description="Its RECOMMEND__CANDIDATES.")
    recommend_factors: bool = Field(
        default=True, description="Whether it uses streaming iALS, where that is a source."
    )
    recommend_rate: float = Field(0.15, gt=0, le=10, description="Step of its AdaGrad; the ranker's is .15.")
    alpha: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="How often a model that is no better may ever take over, in all rounds together.",
    )
    warm_up: int = Field(
        1000, ge=0, description="Examples that a challenger learns before its losses are compared."
    )
    promotes: bool = Field(
        default=True, description="Whether a challenger serves while it has won; else the gate only tells."
    )


class ConversionSettings(_Section):
    """Orders that follow clicks."""

    window_s: float = Field(
        0.0,
        ge=0,
        description="An order of an item that was clicked in a list counts as its conversion for so long, s; "
        "0: no model of conversions.",
    )
    values_orders: bool = Field(
        default=False,
        description="Take a campaign's value as that of an order: its expected value is then the probability "
        "of a click times that of an order after it, times the value, less the cost.",
    )


class OfferSettings(_Section):
    """Offers."""

    min_interval_s: float = Field(
        1800.0, ge=0, description="Least event time between a user's on-site offers, s."
    )
    alpha: float = Field(0.5, gt=0, le=2, description="Width of the Thompson draws; 1 samples the posterior.")
    floor: float = Field(0.01, gt=0, le=0.2, description="Least probability of each eligible offer.")
    pacing: bool = Field(
        default=True, description="Spend a budget evenly until its offer ends, by a price on its cost."
    )
    budget_buffer: float = Field(0.01, ge=0, le=0.5, description="Share of a budget that is never spent.")
    few: int = Field(
        100,
        ge=1,
        le=128,
        description="Up to so many eligible offers have posteriors of their own, more share hashed weights.",
    )
    half_life_days: float = Field(
        90.0,
        ge=0,
        description="What an outcome says of an offer counts half after this, days; 0: never less.",
    )


class CampaignSettings(_Section):
    """Rules over all campaigns."""

    lateness_s: float = Field(300.0, ge=0, description="How late a conversion may come and still cancel, s.")
    daily_cap: int | None = Field(
        2, ge=0, description="Marketing messages per user and local day; null: none."
    )
    cooldowns: bool = Field(default=True, description="Whether campaigns' cooldowns apply.")
    holdout_share: float = Field(0.05, ge=0, le=1, description="Share of users who get no marketing message.")
    holdout_salt: str = Field("nudge", max_length=64, description="Key of the holdout's hash.")
    go_live: str | None = Field(None, description="Messages before this time are suppressed as backfill.")
    default_time_zone: str = Field("UTC", description="Zone of users whose own is unknown.")
    caps: tuple[dict[str, Any], ...] = Field(
        (),
        description="More caps over all marketing messages, as JSON: "
        '`[{"max_messages": 5, "window": "rolling", "window_s": 604800}]`.',
    )
    quiet_hours: str = Field(
        "none",
        pattern=r"^(none|([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)$",
        description="Hours of the user's clock in which marketing messages wait, e.g. 21:00-08:00.",
    )
    max_per_minute: float | None = Field(
        None,
        gt=0,
        description="Marketing messages per minute over all partitions; more wait. null: no limit.",
    )
    decision_window_s: float = Field(
        3600.0, ge=0, le=86_400, description="How long a message waits for stronger ones where caps bind, s."
    )
    exploration: float = Field(
        0.01, ge=0, le=0.5, description="Share of the less valuable of sending and nothing, for evaluation."
    )

    @field_validator("caps")
    @classmethod
    def _caps_are_caps(cls, caps: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        msgspec.convert(caps, tuple[Cap, ...])  # its error is a ValueError, which pydantic reports
        return caps

    @field_validator("quiet_hours")
    @classmethod
    def _hours_are_some(cls, hours: str) -> str:
        check_hours(hours)
        return hours

    @field_validator("go_live")
    @classmethod
    def _go_live_is_a_time(cls, time: str | None) -> str | None:
        if time:
            parse_time(time)
        return time

    @field_validator("default_time_zone")
    @classmethod
    def _zone_is_one(cls, zone: str) -> str:
        if not is_zone(zone):
            raise ValueError(f"{zone!r} is no time zone; write one such as Europe/Berlin")
        return zone


class LiftSettings(_Section):
    """Effects of messages."""

    window_s: float = Field(
        604_800.0,
        gt=0,
        description="An order counts for a message, and for a campaign's experiment, for so long, s.",
    )
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="How often an interval of lift may ever miss the truth."
    )
    sample_ratio_p_value: float = Field(
        0.001, gt=0, lt=0.5, description="Report a broken split of users below this sequential p-value."
    )


class ConsentSettings(_Section):
    """What silence means."""

    when_unknown: Answer | None = Field(
        None,
        description="Contact consent of a user who never answered; unset means deny, outside production.",
    )
    purposes: dict[str, Answer] = Field(default_factory=dict, description="The same for one purpose.")


class KafkaSettings(_Section):
    """Where the topics are and how they are read and written."""

    bootstrap: str = Field("127.0.0.1:9092", description="host:port, comma separated.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are spoken to; PLAINTEXT neither encrypts nor says who we are."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How a name is proved, with SASL."
    )
    sasl_username: str | None = Field(None, description="Name to the brokers, with SASL.")
    sasl_password: SecretStr | None = Field(None, description="Its password; never shown.")
    ssl_cafile: Path | None = Field(
        None, description="Certificates (PEM) that sign the brokers'; unset: those of the system."
    )
    ssl_certfile: Path | None = Field(
        None, description="Our own certificate (PEM), where brokers ask for one."
    )
    ssl_keyfile: Path | None = Field(None, description="Its private key (PEM).")
    ssl_key_password: SecretStr | None = Field(None, description="Password of that key; never shown.")
    group: str = Field("nudge", description="Consumer group, and prefix of the transactional ids.")
    instance_id: str | None = Field(
        None,
        description="Static member of the group under this id: a restart within the session moves nothing.",
    )
    topic_prefix: str = Field("marketing.", description="Prefix of all topic names.")
    partitions: int = Field(4, ge=1, le=1024, description="Partitions of a topic that is created.")
    replication: int = Field(1, ge=1, description="Replicas of a topic that is created; production needs 3.")
    guarantee: Literal["exactly_once", "at_least_once"] = Field(
        "exactly_once", description="Delivery guarantee."
    )
    batch_records: int = Field(1000, ge=1, le=10_000, description="Most records of one transaction.")
    batch_ms: int = Field(50, ge=1, le=10_000, description="Longest wait of a fetch for a first record, ms.")
    commit_patience_ms: int = Field(
        50,
        ge=0,
        le=10_000,
        description=(
            "How long a commit may keep the worker's other partitions waiting, ms; at 0 commits overlap."
        ),
    )
    snapshot_bytes: int = Field(
        64 << 20, ge=1024, description="Write a model snapshot after so many bytes of deltas, B."
    )
    accept_gap: bool = Field(
        default=False, description="Go on where records that were never read are gone; logged as an error."
    )
    session_timeout_ms: int = Field(
        10_000, ge=1000, description="A silent worker's partitions move after this."
    )
    transaction_timeout_ms: int = Field(
        15_000, ge=1000, description="An open transaction is aborted after this."
    )

    @model_validator(mode="after")
    def _is_known_by_name(self) -> Self:
        """Refuse half of what a client needs to say who it is, and what would be sent in clear unawares."""
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"{self.security_protocol} needs sasl_username and sasl_password")
        if not self.security_protocol.startswith("SASL") and (self.sasl_username or self.sasl_password):
            raise ValueError(f"sasl_username and sasl_password go with SASL, not {self.security_protocol}")
        files = self.ssl_cafile or self.ssl_certfile or self.ssl_keyfile
        if files and not self.security_protocol.endswith("SSL"):
            raise ValueError(f"certificates go with SSL or SASL_SSL, not {self.security_protocol}")
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("ssl_keyfile needs ssl_certfile")
        return self

    @field_validator("bootstrap")
    @classmethod
    def _names_brokers(cls, value: str) -> str:
        """Refuse what the client would end on."""
        for broker in value.split(","):
            found = _BROKER.fullmatch(broker.strip())
            if not found or not 1 <= int(found["port"] or 9092) <= 65_535:
                raise ValueError(f"{broker!r} is not host:port")
        return value
