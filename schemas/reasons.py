"""Closed sets: why a record was rejected, why a message was not sent, what an event means.

Each set is an enum, so that a metric label, a line of documentation and a test exist for every member.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ALWAYS_APPLIED", "EventKind", "RejectCode", "SuppressionReason"]


class RejectCode(StrEnum):
    """Why a record ended as a dead letter (or, for :attr:`DUPLICATE`, was counted and skipped)."""

    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    BAD_UTF8 = "bad_utf8"
    BAD_SHAPE = "bad_shape"
    TOO_DEEP = "too_deep"
    TOO_MANY_KEYS = "too_many_keys"
    OUT_OF_RANGE = "out_of_range"
    MISSING_MESSAGE_ID = "missing_message_id"
    MISSING_USER = "missing_user"
    MISSING_EVENT = "missing_event"
    MISSING_TIME = "missing_time"
    MISSING_PRODUCT = "missing_product"
    BAD_ID = "bad_id"
    BAD_TIME = "bad_time"
    DUPLICATE = "duplicate"
    LATE = "late"
    FUTURE = "future"
    BOT_RATE = "bot_rate"
    OUTLIER = "outlier"
    POISON = "poison"


class SuppressionReason(StrEnum):
    """Why an eligible message was not sent. Order is the order in which the checks run."""

    STOPPED = "stopped"
    CAMPAIGN_INACTIVE = "campaign_inactive"
    BACKFILL = "backfill"
    EXPIRED = "expired"
    INELIGIBLE = "ineligible"
    NOT_IN_AUDIENCE = "not_in_audience"
    UNSUBSCRIBED = "unsubscribed"
    NO_CONSENT = "no_consent"
    COOLDOWN = "cooldown"
    NOT_RE_ELIGIBLE = "not_re_eligible"
    FREQUENCY_CAPPED = "frequency_capped"
    OUTRANKED = "outranked"
    BUDGET_EXHAUSTED = "budget_exhausted"
    HOLDOUT = "holdout"
    NOTHING_CHOSEN = "nothing_chosen"
    FAILED = "failed"


class EventKind(StrEnum):
    """What an event means to the engine; several event names may share a kind."""

    VIEW = "view"
    CLICK = "click"
    LIST_VIEW = "list_view"
    SEARCH = "search"
    CART_ADD = "cart_add"
    CART_REMOVE = "cart_remove"
    CART_VIEW = "cart_view"
    CHECKOUT = "checkout"
    ORDER = "order"
    ORDER_UPDATE = "order_update"
    REFUND = "refund"
    CANCEL = "cancel"
    PROMOTION_VIEW = "promotion_view"
    PROMOTION_CLICK = "promotion_click"
    COUPON = "coupon"
    WISH_ADD = "wish_add"
    WISH_REMOVE = "wish_remove"
    SHARE = "share"
    REVIEW = "review"
    EMAIL_DELIVERED = "email_delivered"
    EMAIL_OPEN = "email_open"
    EMAIL_CLICK = "email_click"
    EMAIL_BOUNCE = "email_bounce"
    UNSUBSCRIBE = "unsubscribe"
    CONSENT = "consent"
    REQUEST = "request"
    EXPERIMENT = "experiment"
    UNKNOWN = "unknown"


ALWAYS_APPLIED = frozenset(
    {
        EventKind.ORDER,
        EventKind.ORDER_UPDATE,
        EventKind.REFUND,
        EventKind.CANCEL,
        EventKind.CONSENT,
        EventKind.UNSUBSCRIBE,
    }
)
"""What counts although its record is late, odd or faulty: nobody may be written to for want of it."""
