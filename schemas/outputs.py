"""What we send. Field names are snake_case, times RFC 3339 UTC text, ``None`` is left out on the wire."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

__all__ = [
    "Cause",
    "DeadLetter",
    "Decision",
    "Explanation",
    "Membership",
    "Output",
    "Recipient",
    "Recommendation",
    "RecommendedItem",
    "Term",
    "Trigger",
    "TriggerDecision",
]


class Cause(Struct, frozen=True, gc=False):
    """The event that an output answers."""

    message_id: str
    event: str
    timestamp: str


class RecommendedItem(Struct, frozen=True, gc=False):
    """One place of a slate; ``score`` is the ranker's, comparable within the slate only."""

    item_id: str
    score: float
    source: str
    reasons: list[str] = field(default_factory=list)


class Recommendation(Struct, frozen=True, gc=False):
    """A ranked list for one user and slot, valid until ``valid_until``."""

    id: str
    user_id: str
    slot: str
    items: list[RecommendedItem]
    decision_id: str
    model_version: str
    cause: Cause
    produced_at: str
    valid_until: str


class Recipient(Struct, frozen=True, gc=False):
    """Whom a trigger addresses: a known user, else a browser."""

    user_id: str | None = None
    anonymous_id: str | None = None


class TriggerDecision(Struct, frozen=True, gc=False):
    """How the decision to send, and what, was made."""

    decision_id: str
    policy: str
    propensity: float
    explored: bool
    model_version: str | None = None
    reasons: list[str] = field(default_factory=list)


class Trigger(Struct, frozen=True, gc=False):
    """A message we ask the campaign system to send."""

    id: str
    campaign_id: str
    campaign_version: str
    message_class: str
    channel: str
    recipient: Recipient
    context: dict[str, Any]
    send_at: str
    expires_at: str
    time_zone: str
    decision: TriggerDecision
    cause: Cause
    dry_run: bool
    offer_id: str | None = None
    variant_id: str | None = None


class Term(Struct, frozen=True, gc=False):
    """What one feature added to the log odds, and how uncertain that is."""

    feature: str
    log_odds: float
    deviation: float


class Explanation(Struct, frozen=True, omit_defaults=True, gc=False):
    """Why a model said what it said of the chosen action.

    Of a message: the click model and its strongest terms. Of an offer: the posterior mean of its probability
    of an answer, the deviation of its log odds, and the share of its propensity that comes from the floor.
    """

    model: str
    terms: list[Term] = field(default_factory=list)
    mean: float | None = None
    deviation: float | None = None
    floor_share: float | None = None


class Decision(Struct, frozen=True, omit_defaults=True, gc=False):
    """One choice we made, with what is needed to judge it afterwards.

    In a ``dry_run`` whatever was decided reached nobody, so nothing that a user does later answers it.
    """

    decision_id: str
    kind: Literal["recommendation", "offer", "trigger", "suppression", "holdout", "promotion"]
    user_id: str
    action: str
    propensity: float
    policy: str
    cause: Cause
    decided_at: str
    eligible: list[str]
    propensities: list[float] | None = None
    prices: list[float] | None = None
    campaign_id: str | None = None
    campaign_version: str | None = None
    model_version: str | None = None
    features: dict[str, float] | None = None
    reason: str | None = None
    explanation: Explanation | None = None
    dry_run: bool = False


class Membership(Struct, frozen=True, gc=False):
    """A user entered a segment, or left it; the newest of a key says how it is.

    Scores are those of RFM, 1 to 5; ``lifetime_value`` is the net revenue so far by currency. Without a
    ``cause`` the change came with time. Of a segment that is gone there is no version.
    """

    id: str
    user_id: str
    segment: str
    member: bool
    changed_at: str
    recency: int
    frequency: int
    monetary: int
    lifetime_value: dict[str, float]
    segment_version: str | None = None
    stage: str | None = None
    cause: Cause | None = None


class DeadLetter(Struct, frozen=True):
    """A record we could not accept: its bytes as they came, and why.

    ``value`` stays bytes; on Kafka it is the record's value byte for byte, in a file it is base64 text.
    """

    code: str
    path: str
    message: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    offset: int = -1


Output = Recommendation | Trigger | Decision | Membership | DeadLetter
