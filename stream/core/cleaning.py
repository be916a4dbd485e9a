"""Clean: accept an event, accept it without learning from it, or reject it with a code.

Orders, refunds, cancellations, consent and unsubscribe are never rejected but as duplicates: late, odd or
faulty ones still cancel, suppress and count as bought. They only do not teach or arm. Those that count
(orders, money) are known again however much later they are sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from schemas.codec import Rejected
from schemas.ids import token
from schemas.reasons import ALWAYS_APPLIED, EventKind, RejectCode

if TYPE_CHECKING:
    from schemas.events import Event
    from stream.core.config import CleaningConfig
    from stream.core.rows import Header, Profile

__all__ = ["MAX_ORDER_IDS", "Cleaner"]

MAX_ORDER_IDS: Final = 32  # of a user
_COUNTED: Final = frozenset({EventKind.ORDER, EventKind.REFUND, EventKind.CANCEL})


class Cleaner:
    """Judges events against the partition's watermark and the user's recent past."""

    def __init__(self, config: CleaningConfig) -> None:
        self._config = config

    def judge(self, event: Event, profile: Profile, header: Header, ingest_time: float) -> Rejected | bool:
        """Return a rejection, or whether the event may teach and arm."""
        known = profile.order_ids if event.kind in _COUNTED else ()
        if (name := token(event.message_id)) in profile.seen_ids or name in known:
            return Rejected(RejectCode.DUPLICATE, "$.messageId", "this messageId was applied before")
        fault = self._fault(event, profile, header, ingest_time)
        if fault is not None and event.kind not in ALWAYS_APPLIED:
            return fault
        return fault is None and event.fault is None

    def dated(self, event: Event, header: Header, ingest_time: float, reached: float | None = None) -> Event:
        """Return an event with a time it can have had: one from the future happened when the broker got it.

        Kept as it says, it would count as later than all that its user does until then. Where there is no
        broker clock (it is known what time was ``reached``) it happened at the watermark.
        """
        if event.time <= ingest_time + self._config.max_future_s:
            return event
        has_clock = reached is None or header.watermark == float("-inf")
        return msgspec.structs.replace(event, time=ingest_time if has_clock else header.watermark)

    def remember(self, event: Event, profile: Profile) -> None:
        """Note an accepted event's id and rate."""
        if event.time - profile.last_seen > self._config.late_s:
            profile.seen_ids.clear()  # a re-send from before the gap would be late
        name = token(event.message_id)
        profile.seen_ids.append(name)
        if len(profile.seen_ids) > self._config.max_seen_ids:
            del profile.seen_ids[0]
        if event.kind in _COUNTED:
            profile.order_ids = [*profile.order_ids, name][-MAX_ORDER_IDS:]
        minute = int(event.time // 60)
        if minute > profile.minute:
            profile.minute, profile.minute_events = minute, 0
        profile.minute_events += minute == profile.minute

    def advance(self, event: Event, header: Header, ingest_time: float, reached: float | None = None) -> None:
        """Move the watermark to the event, never ahead of the broker's time + ``max_future_s``.

        Where there is no broker clock and it is not known what time was ``reached``, a jump of more than
        ``late_s`` waits for a second user, and an event that does not jump clears the suspicion: strays stand
        among ordinary events, a real gap does not.
        """
        time = min(event.time, ingest_time + self._config.max_future_s)
        if reached is not None:
            header.watermark = max(min(time, reached), header.watermark)
            return
        jumps = time - header.watermark > self._config.late_s and header.watermark > float("-inf")
        if not (jumps and self._config.confirm_jumps):
            header.watermark = max(time, header.watermark)
            header.jump_user = ""
        elif header.jump_user in {"", event.user}:
            header.jump_time = min(time, header.jump_time) if header.jump_user else time
            header.jump_user = event.user
        else:
            header.watermark = min(time, header.jump_time)
            header.jump_user = ""
            self.advance(event, header, ingest_time)  # from the confirmed time on

    def _fault(self, event: Event, profile: Profile, header: Header, ingest_time: float) -> Rejected | None:
        config = self._config
        if event.time > ingest_time + config.max_future_s:
            ahead = event.time - ingest_time
            return _rejected(
                RejectCode.FUTURE, f"{ahead:.0f} s ahead of ingest; limit {config.max_future_s:.0f}"
            )
        if event.time < header.watermark - config.late_s:
            behind = header.watermark - event.time
            return _rejected(
                RejectCode.LATE, f"{behind:.0f} s behind the watermark; limit {config.late_s:.0f}"
            )
        if profile.minute_events >= config.max_events_per_minute and profile.minute == int(event.time // 60):
            limit = config.max_events_per_minute
            return Rejected(RejectCode.BOT_RATE, "$.userId", f"more than {limit} events in a minute")
        for item in event.items:
            price, quantity = item.price, item.quantity
            if price is not None and not 0 <= price <= config.max_price:
                return Rejected(
                    RejectCode.OUTLIER, "$.properties.price", f"price {price}; limit {config.max_price:g}"
                )
            if quantity == 0 and event.kind is EventKind.CART_REMOVE:
                continue  # of what was taken out none is left
            if quantity is not None and not 0 < quantity <= config.max_quantity:
                limit_text = f"quantity {quantity}; limit {config.max_quantity:g}"
                return Rejected(RejectCode.OUTLIER, "$.properties.quantity", limit_text)
        return None


def _rejected(code: RejectCode, message: str) -> Rejected:
    return Rejected(code, "$.timestamp", message)
