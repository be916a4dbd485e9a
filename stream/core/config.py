"""The plain values that the stages are built from; ``stream.settings`` fills them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.campaigns import Cap

__all__ = [
    "DAY_S",
    "SLATES_DISCOUNTED",
    "AttributionConfig",
    "CampaignPolicy",
    "CleaningConfig",
    "EngineConfig",
    "LiftConfig",
    "OfferConfig",
    "RecommendConfig",
]

DAY_S = 86_400.0
SLATES_DISCOUNTED = 16  # of a user; the text of the setting ``recommend.impression_discount`` says it too


@dataclass(frozen=True, slots=True)
class CleaningConfig:
    """Bounds of what is accepted. Times in seconds of event time."""

    max_future_s: float = 300.0
    late_s: float = DAY_S
    confirm_jumps: bool = (
        False  # replay has no broker clock: a second user must confirm a jump of the watermark
    )
    max_events_per_minute: int = 300
    max_price: float = 1e7
    max_quantity: float = 1e5
    max_seen_ids: int = 512  # per user, 9 bytes each on the changelog


@dataclass(frozen=True, slots=True)
class AttributionConfig:
    """How long feedback may still find its decision, seconds."""

    click_window_s: float = 1800.0
    decision_window_s: float = DAY_S
    offer_elapsed_s: float | None = (
        None  # an offer not answered by then counts as a 0, weighted for late ones
    )
    offer_late_share: float = 1.0  # of answers, those that come after that
    conversion_window_s: float = 0.0  # an order of a clicked item is its conversion for so long; 0: no model
    max_open: int = 16  # offers and messages of a user that may still be answered
    max_slates: int = 1  # the same for recommendations; who discounts impressions counts in several
    max_impressions: int = 32
    max_clicks_per_day: int = 100  # examples that a user teaches the click model
    max_offers_per_day: int = 16  # the same for offers
    item_share: float = 0.2  # of what the click model learns in an hour, for one item


@dataclass(frozen=True, slots=True)
class RecommendConfig:
    """When a slate is emitted and how long it is."""

    n_items: int = 10
    min_interval_s: float = 60.0
    valid_s: float = DAY_S
    diversity: float = 0.0
    novelty: float = 0.0
    impression_discount: float = 0.0


@dataclass(frozen=True, slots=True)
class OfferConfig:
    """When an on-site offer is decided."""

    min_interval_s: float = 1800.0
    partitions: int = 1  # a global budget is shared out equally
    budget_buffer: float = 0.01  # share of a budget that is never spent
    pacing: bool = True
    few: int = 100  # eligible offers; more are chosen from by the hashed posterior


@dataclass(frozen=True, slots=True)
class CampaignPolicy:
    """Rules over all campaigns.

    ``consent_when_unknown`` maps a purpose to whether silence counts as consent; a purpose that is not named
    takes ``"*"``.
    """

    lateness_s: float = 300.0
    daily_cap: int | None = 2
    cooldowns: bool = True
    holdout_share: float = 0.05
    holdout_salt: str = "nudge"
    go_live: float = float("-inf")
    default_time_zone: str = "UTC"
    consent_when_unknown: dict[str, bool] = field(default_factory=lambda: {"*": False})
    max_timers: int = 64
    caps: tuple[Cap, ...] = ()
    quiet_hours: str = "none"
    max_per_minute: float | None = None
    decision_window_s: float = 3600.0
    exploration: float = 0.01
    partitions: int = 1  # budgets and the send rate are shared out equally
    values_orders: bool = False  # a campaign's value is that of an order, not of a click


@dataclass(frozen=True, slots=True)
class LiftConfig:
    """How long an order counts for a message, and for the experiment that a campaign is; seconds."""

    window_s: float = 7 * DAY_S


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """All of it, and the seed of every draw."""

    seed: int = 0
    max_users: int = 1_000_000  # per partition; beyond it the least recently active user is forgotten
    user_ttl_s: float = float("inf")  # a user whose last event is older, by the watermark, is forgotten
    hot_users: int = 4096  # per partition; rows kept decoded, which changes no result
    cleaning: CleaningConfig = CleaningConfig()
    attribution: AttributionConfig = AttributionConfig()
    recommend: RecommendConfig = RecommendConfig()
    offers: OfferConfig = OfferConfig()
    campaigns: CampaignPolicy = field(default_factory=CampaignPolicy)
    lift: LiftConfig = LiftConfig()
