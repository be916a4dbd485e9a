"""Profile: one row per user, updated by each accepted event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.reasons import EventKind
from stream.core.lifecycle import note_activity
from stream.core.rows import EVERY

if TYPE_CHECKING:
    from schemas.events import Event
    from stream.core.rows import Profile

__all__ = [
    "INTERACTIONS",
    "MONEY_DIGITS",
    "PASSIVE",
    "Moment",
    "amount_of",
    "hear",
    "note_answers",
    "remember_bought",
    "shows_interest",
    "unsubscribe",
    "update",
]

MAX_RING = 64  # algorithms.md 3.4: one ring of 64 serves both retrieval models
MAX_BOUGHT = 256
MAX_VIEWED = 64
MAX_CHANNELS = 8
MAX_HOURLY = 255  # events of an hour of the day; at more all hours are halved, so the old count less
MAX_ANSWERS = 32  # purposes a user may have answered
MAX_UNSUBSCRIBED = 16
MAX_NAME = 64  # characters of a channel: a row must stay far below the broker's message limit
MAX_PURPOSE = 2 * MAX_NAME + 1  # a purpose, or a purpose on a channel
MONEY_DIGITS = 6  # to which sums are rounded, so that they do not depend on their order
SESSION_GAP_S = 1800.0

_K = EventKind
# Interactions that say "this item is of interest", with the weight v(type) of the popularity counts.
INTERACTIONS: dict[EventKind, float] = {
    _K.VIEW: 1.0,
    _K.CART_ADD: 1.0,
    _K.WISH_ADD: 1.0,
    _K.ORDER: 1.0,
    _K.REVIEW: 1.0,
}
# What other systems report about the user: no sign of activity.
PASSIVE = frozenset({_K.EMAIL_DELIVERED, _K.EMAIL_BOUNCE, _K.UNSUBSCRIBE, _K.CONSENT, _K.REFUND, _K.CANCEL})
MIN_POSITIVE_RATING = 4.0


@dataclass(slots=True)
class Moment:
    """An accepted event with what its user looked like just before it."""

    event: Event
    profile: Profile
    on_time: bool  # neither late nor odd: it may arm, recommend and offer
    teaches: bool  # on time, and its user lets us learn
    gap_s: float | None  # since the user's last event about an item; None before any
    fresh: list[str]  # interacted items that the user had not consumed before, in order
    repeated: list[str]
    history: list[str]  # the ring before this event, newest first


def update(event: Event, profile: Profile, *, on_time: bool, learns: bool = True) -> Moment:
    """Apply an accepted event to its user's profile and say what was new in it.

    Without ``learns`` no model is taught; what the profile knows is kept up to date all the same.
    """
    teaches = on_time and learns and profile.lets_learn
    moment = Moment(event, profile, on_time, teaches, silence(profile, event.time), [], [], profile.ring)
    if profile.n_events == 0:
        profile.first_seen = event.time
    if event.time - profile.last_seen > SESSION_GAP_S:
        profile.session_start = event.time
    profile.n_events += 1
    profile.known = profile.known or event.known
    profile.last_seen = max(profile.last_seen, event.time)
    if event.kind not in PASSIVE:
        _note_hour(profile, event.time)
        if event.kind is not _K.EMAIL_OPEN:  # mail programs open mails, too
            note_activity(profile, event.time)
    if event.time_zone and event.time >= profile.zone_at:
        profile.time_zone, profile.zone_at = event.time_zone, event.time
    if event.purposes:
        note_answers(event.purposes, event.time, profile)
    _count(event, profile)
    if shows_interest(event):
        _interact(event, moment)
    if event.kind in INTERACTIONS and event.items:
        profile.last_item_at = max(profile.last_item_at, event.time)
    return moment


def hear(event: Event, profile: Profile) -> bool:
    """Take over an event's answers to questions of consent, and nothing else; return whether any was news."""
    if not note_answers(event.purposes, event.time, profile):
        return False
    if profile.n_events == 0:
        profile.n_events, profile.first_seen = 1, event.time
    profile.known = profile.known or event.known
    profile.last_seen = max(profile.last_seen, event.time)
    return True


def silence(profile: Profile, at: float) -> float | None:
    """Seconds since the user's last event about an item; None before any.

    What says nothing of items, such as a request or a mail that was opened, does not end a silence: rankers
    are asked at a request what they learn from the view after it.
    """
    last = profile.last_item_at
    if last == float("-inf"):
        if not profile.ring:
            return None
        last = profile.last_seen  # rows of before do not say
    return max(0.0, at - last)


def _count(event: Event, profile: Profile) -> None:
    kind = event.kind
    if kind is _K.VIEW:
        profile.n_views += 1
        _bump(profile.views, event.item_id or "")
    elif kind is _K.CART_ADD:
        profile.n_adds += 1
    elif kind is _K.ORDER:
        profile.n_orders += 1
        profile.last_order_at = max(profile.last_order_at, event.time)
        _add_revenue(event, profile, +1.0)
        for item in event.items:
            remember_bought(profile, str(item.product_id), event.time)
    elif kind in {_K.REFUND, _K.CANCEL}:
        _add_revenue(event, profile, -1.0)
    elif kind in {_K.EMAIL_OPEN, _K.EMAIL_CLICK}:
        _bump(profile.engaged, _channel(event), MAX_CHANNELS)
    elif kind is _K.UNSUBSCRIBE:
        unsubscribe(_channel(event), profile)


def note_answers(purposes: dict[str, bool], time: float, profile: Profile) -> bool:
    """Take over answers, the latest by event time in whatever order; of one moment's, the refusal.

    Returns whether anything changed.
    """
    consent, answered_at, changed = profile.consent, profile.answered_at, False
    for purpose, answer in sorted((name.casefold(), given) for name, given in purposes.items()):
        if len(purpose) > MAX_PURPOSE or (purpose == EVERY and answer):  # no campaign asks for these
            continue
        last = answered_at.get(purpose, answered_at.get(EVERY, float("-inf")))
        if time < last or (time == last and answer):
            continue
        if purpose in consent or len(consent) < MAX_ANSWERS or _make_room(profile, for_refusal=not answer):
            consent[purpose] = answer
            answered_at[purpose] = time
            changed = True
            if purpose == EVERY:  # what was granted by name before is refused with it
                for name in [name for name, given in consent.items() if given]:
                    if answered_at.get(name, time) <= time:
                        del consent[name]
                        answered_at.pop(name, None)
    return changed


def _make_room(profile: Profile, *, for_refusal: bool) -> bool:
    """Forget a consent for a refusal, never the reverse; where all refuse some become one of everything.

    Returns whether there is room now. A consent has to do without, unless everything else is refused anyway.
    """
    consent, answered_at = profile.consent, profile.answered_at
    granted = next((name for name, given in consent.items() if given), None)
    if for_refusal and granted is not None:
        del consent[granted]
        answered_at.pop(granted, None)
    elif for_refusal or EVERY in consent:
        for name in [name for name, given in consent.items() if not given and name != EVERY]:
            if len(consent) < MAX_ANSWERS:
                break
            del consent[name]
            consent[EVERY] = False
            last = answered_at.pop(name, float("-inf"))
            answered_at[EVERY] = max(last, answered_at.get(EVERY, last))
    return len(consent) < MAX_ANSWERS


def unsubscribe(channel: str, profile: Profile) -> None:
    """Never write there again; from so many channels that there is no room for their names, nowhere."""
    if profile.is_unsubscribed(channel):
        return
    if len(profile.unsubscribed) < MAX_UNSUBSCRIBED:
        profile.unsubscribed.append(channel)
    else:
        profile.unsubscribed = [EVERY]


def shows_interest(event: Event) -> bool:
    """Whether models learn the event's items; a review counts from four stars on, the rating may be text."""
    if event.kind not in INTERACTIONS:
        return False
    if event.kind is not _K.REVIEW:
        return True
    try:
        return float(event.properties.rating or 0) >= MIN_POSITIVE_RATING
    except ValueError:
        return False


def _interact(event: Event, moment: Moment) -> None:
    """Put the event's items in front of the ring, the last one first; what was there before moves up."""
    profile = moment.profile
    for item in event.items:
        item_id = str(item.product_id)
        if item_id in moment.history or item_id in moment.fresh:
            moment.repeated.append(item_id)
        else:
            moment.fresh.append(item_id)
    if moment.repeated:
        touched = dict.fromkeys(str(item.product_id) for item in reversed(event.items))
        if [*touched] != profile.ring[: len(touched)]:
            profile.ring = [*touched, *(one for one in moment.history if one not in touched)][:MAX_RING]
    elif moment.fresh:
        profile.ring = (moment.fresh[::-1] + moment.history)[:MAX_RING]


def _note_hour(profile: Profile, time: float) -> None:
    hours = profile.hours
    if not hours:
        hours.extend([0] * 24)
    hour = int(time // 3600) % 24
    hours[hour] += 1
    if hours[hour] > MAX_HOURLY:
        profile.hours = [count // 2 for count in hours]


def _channel(event: Event) -> str:
    return (event.properties.channel or "email").strip().casefold()[:MAX_NAME]


def _bump(counts: dict[str, int], name: str, limit: int = MAX_VIEWED) -> None:
    counts[name] = counts.pop(name, 0) + 1
    if len(counts) > limit:
        del counts[next(iter(counts))]


def remember_bought(profile: Profile, item_id: str, time: float) -> None:
    """Note that an item was ordered, at an event time; of too many the one that was noted first goes."""
    if item_id in profile.bought:
        profile.n_bought[item_id] = profile.n_bought.get(item_id, 1) + 1
    time = max(time, profile.bought.pop(item_id, time))
    profile.bought[item_id] = time
    if len(profile.bought) > MAX_BOUGHT:
        forgotten = next(iter(profile.bought))
        del profile.bought[forgotten]
        profile.n_bought.pop(forgotten, None)


def amount_of(event: Event) -> tuple[str, float] | None:
    """What an order or refund amounts to, with its currency; ``None`` where it does not say both."""
    properties = event.properties
    amount = properties.total if properties.total is not None else properties.revenue
    if amount is None or not properties.currency:
        return None
    return properties.currency[:3].upper(), amount


def _add_revenue(event: Event, profile: Profile, sign: float) -> None:
    if (found := amount_of(event)) is None:
        return
    currency, amount = found
    if currency in profile.revenue or len(profile.revenue) < 8:
        profile.revenue[currency] = round(profile.revenue.get(currency, 0.0) + sign * amount, MONEY_DIGITS)
