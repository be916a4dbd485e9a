"""What the rows of a partition hold: a profile per user, and a header for what is nobody's.

All of it is model-free but :class:`ModelMemory`, which holds what a model told us about the user.
The two are encoded apart, so that the model-free part of a run can be compared byte for byte.
:class:`Glance` is what has to be known of a row without decoding it.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from msgspec import Struct, field

__all__ = [
    "EVERY",
    "NEVER",
    "ROUNDING_S",
    "Glance",
    "Header",
    "Impression",
    "ItemShares",
    "Match",
    "Message",
    "ModelMemory",
    "OpenDecision",
    "Pace",
    "Profile",
    "RowCodec",
    "Send",
    "Tally",
    "Timer",
    "Trial",
    "glance_at",
]

NEVER: Final = float("inf")
ROUNDING_S: Final = 0.001  # of a time that was computed back
EVERY: Final = "*"  # among refusals: whatever was not asked about by name


class Timer(Struct, array_like=True, gc=False):
    """A live campaign timer: one per (user, campaign, key)."""

    due: float
    message_id: str  # of the event that last moved it
    event: str
    event_time: float
    context: dict[str, str | float | list[str]]
    occurrence: str = ""  # what names the message instead of the event: the item's version
    first_due: float = 0.0  # when a message that is held could first have gone out; 0: it was not held
    held_for: str = ""  # why it is held
    watch: bool = False  # waits for a change of the item; ``due`` is when it stops waiting
    products: dict[str, float] = field(default_factory=dict)  # of a cart, with when each was put there


class Match(Struct, array_like=True, order=True, gc=False):
    """An event that a campaign counts; in order of time, then of id."""

    time: float
    message_id: str
    event: str


class Send(Struct, array_like=True, gc=False):
    """A marketing message that was sent, or held out: what rolling caps count."""

    time: float
    campaign_id: str
    channel: str
    day: int  # of the user's calendar


class Impression(Struct, array_like=True, gc=False):
    """An item that was shown in a list, with the click model's features as they were then."""

    item_id: str
    slots: list[int]
    deadline: float
    trial: list[int] = field(default_factory=list)  # the features as a challenger hashes them
    passed: bool = False  # a later showing of the item was clicked instead


class OpenDecision(Struct, array_like=True, gc=False):
    """A decision that may still be answered, with the features logged when it was made.

    ``action`` is the offer, or the items of a recommendation, each between line feeds: one text is searched
    faster than a list. ``items`` are those of rows that were written before.
    """

    kind: str
    action: str
    deadline: float
    items: list[str] = field(default_factory=list)
    features: list[float] = field(default_factory=list)
    category: str = ""  # of the offer
    until: float = 0.0  # the end of its window, where the deadline is that of an early zero; 0: it is not
    # Of an offer: when it was decided, and its importance under the policies that are judged from the log.
    logged: list[float] = field(default_factory=list)
    order: str = ""  # that earned an offer its reward: a refund of it takes the reward back

    @property
    def item_ids(self) -> list[str]:
        """Items of a recommendation."""
        return self.items or [item_id for item_id in self.action.split("\n") if item_id]


class Message(Struct, array_like=True, gc=False):
    """A message that was sent, until its conversion window is over."""

    campaign_id: str
    ids: list[int]  # tokens of what an event may echo: the decision's id, the trigger's
    sent_at: float
    seen: int = 0  # bits of what became of it


class Trial(Struct, array_like=True, gc=False):
    """A user's part in the experiment that a campaign is: treated or held out, and what came of it."""

    arm: int
    began: float
    until: float
    share: float  # of users who are held out, when it began
    open: bool = True
    converted: bool = False
    revenue: dict[str, float] = field(default_factory=dict)


class Tally(Struct, array_like=True, gc=False):
    """Users of an experiment in this partition; pairs are of the treated and of the held out."""

    share: float  # of users who are held out
    assigned: list[int] = field(default_factory=lambda: [0, 0])
    users: list[int] = field(default_factory=lambda: [0, 0])  # whose window is over
    converted: list[int] = field(default_factory=lambda: [0, 0])
    # Currency -> sum and sum of squares over the treated, then over the held out.
    revenue: dict[str, list[float]] = field(default_factory=dict)


class ModelMemory(Struct, array_like=True, gc=False):
    """The model-dependent part of a profile."""

    factors: bytes = b""
    open: dict[str, OpenDecision] = field(default_factory=dict)
    due_at: float = 0.0  # when open decisions are looked at next; 0: nothing is scheduled
    taught: list[int] = field(default_factory=list)  # day, and feedback of each kind that was learned in it
    clicked: list[Impression] = field(default_factory=list)  # items that may still be ordered, oldest first


class Profile(Struct, array_like=True, gc=False):
    """The model-free state of one user. Times are event time, seconds since the epoch."""

    known: bool = False
    touched: int = 0  # sequence number of the last accepted event in the partition; orders eviction
    first_seen: float = 0.0
    last_seen: float = float("-inf")
    session_start: float = 0.0
    n_events: int = 0
    n_views: int = 0
    n_adds: int = 0
    n_orders: int = 0
    revenue: dict[str, float] = field(default_factory=dict)
    time_zone: str | None = None
    consent: dict[str, bool] = field(default_factory=dict)
    unsubscribed: list[str] = field(default_factory=list)
    ring: list[str] = field(default_factory=list)  # distinct items, newest first
    views: dict[str, int] = field(default_factory=dict)
    bought: dict[str, float] = field(default_factory=dict)
    seen_ids: list[int] = field(default_factory=list)
    minute: int = 0
    minute_events: int = 0
    slot_times: dict[str, float] = field(default_factory=dict)
    timers: dict[str, Timer] = field(default_factory=dict)
    sent_times: dict[str, float] = field(default_factory=dict)
    cap_day: int = 0
    cap_count: int = 0
    campaign_day: dict[str, list[int]] = field(default_factory=dict)  # campaign -> [day, count]
    impressions: list[Impression] = field(default_factory=list)
    impressions_due_at: float = 0.0  # when they are looked at next; 0: nothing is scheduled
    n_bought: dict[str, int] = field(default_factory=dict)  # orders with an item, where more than one
    last_order_at: float = float("-inf")
    matched: dict[str, list[Match]] = field(default_factory=dict)  # events that campaigns count, by time
    sends: list[Send] = field(default_factory=list)  # marketing messages of the last month, by time
    sent_keys: dict[str, float] = field(default_factory=dict)  # campaign and key -> last message
    hours: list[int] = field(default_factory=list)  # events by hour of the day, UTC
    engaged: dict[str, int] = field(default_factory=dict)  # channel -> messages opened and clicked
    messages: list[Message] = field(default_factory=list)  # oldest first
    trials: dict[str, Trial] = field(default_factory=dict)  # campaign -> the user's part in its experiment
    trials_due_at: float = 0.0  # when the first of them is over; 0: none is open
    answered_at: dict[str, float] = field(default_factory=dict)  # purpose -> when it was last answered
    last_active: float = float("-inf")  # last event that was the user's own doing
    returned_at: float = float("-inf")  # when the user came back after having lapsed
    segments: dict[str, float] = field(default_factory=dict)  # memberships, with when they began
    segments_at: float = float("-inf")  # when memberships were last looked at
    segments_due_at: float = 0.0  # when they are looked at next; 0: no condition depends on time
    last_item_at: float = float("-inf")  # last event about an item, liked or not
    zone_at: float = float("-inf")  # last event that named a time zone
    order_ids: list[int] = field(default_factory=list)  # of what is applied however late, and counts

    @property
    def lets_learn(self) -> bool:
        """Whether models may learn from the user: unless the answer was no."""
        return self.answer("learn") is not False

    @property
    def refuses(self) -> bool:
        """Whether the user unsubscribed from a channel or denied a purpose."""
        return bool(self.unsubscribed) or False in self.consent.values()

    def answer(self, purpose: str) -> bool | None:
        """What the user said of a purpose; ``None`` where neither it nor everything was spoken of."""
        answer = self.said(purpose)
        return False if answer is None and self.consent.get(EVERY) is False else answer

    def said(self, name: str) -> bool | None:
        """What the user said of a purpose, or of a purpose on a channel, by its name however it is spelt."""
        if not self.consent:
            return None
        answer = self.consent.get(name.casefold())
        return self.consent.get(name) if answer is None else answer  # rows of before keep the spelling

    def is_unsubscribed(self, channel: str) -> bool:
        """Whether the user unsubscribed from a channel, however it is spelt."""
        left = {name.casefold() for name in self.unsubscribed}
        return channel.casefold() in left or EVERY in left


class Pace(Struct, array_like=True, gc=False):
    """How an offer's budget is spent in this partition."""

    price: float  # of one unit of cost, in units of money: the dual price of the budget
    at: float  # event time of the last look
    spent: float  # by then


class ItemShares(Struct, array_like=True, gc=False):
    """Which items the click model learned from most in one hour of event time (Misra, Gries 1982)."""

    hour: int = 0
    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)


class Header(Struct, array_like=True, gc=False):
    """What belongs to the partition and to nobody in it."""

    watermark: float = float("-inf")
    jump_time: float = float("-inf")  # an unconfirmed jump of the watermark, and who caused it
    jump_user: str = ""
    sequence: int = 0
    spend: dict[str, float] = field(default_factory=dict)  # offer -> spent here
    stopped: list[str] = field(default_factory=list)  # what operators stopped, the oldest first
    next_command: int = 0  # offset of the next command to obey
    paces: dict[str, Pace] = field(default_factory=dict)  # offer -> price of its budget
    shares: ItemShares = field(default_factory=ItemShares)
    sent: dict[str, list[int]] = field(default_factory=dict)  # campaign with a budget -> [day, on it, in all]
    free_at: float = float("-inf")  # when the send rate lets the next message go
    lift: dict[str, Tally] = field(default_factory=dict)  # campaign -> its experiment
    gaps: int = 0  # gaps of the input that were accepted: the offsets after one say nothing of those before


class Glance(NamedTuple):
    """What is known of a row without decoding it."""

    touched: int
    last_seen: float
    timers_due: float  # of the first live timer, without lateness; infinity: none
    looks_due: float  # when impressions, decisions, trials or segments are looked at next; infinity: never
    refuses: bool
    shrunk: bool  # nothing is left but a refusal
    watches: bool = False  # a timer waits for a change of an item


def glance_at(profile: Profile, memory: ModelMemory) -> Glance:
    """Look at a decoded row."""
    waits = (profile.impressions_due_at, memory.due_at, profile.trials_due_at, profile.segments_due_at)
    looks = (at for at in waits if at)
    return Glance(
        profile.touched,
        profile.last_seen,
        min((timer.due for timer in profile.timers.values()), default=NEVER),
        min(looks, default=NEVER),
        profile.refuses,
        profile.n_events == 0,
        any(timer.watch for timer in profile.timers.values()),
    )


class RowCodec(Protocol):
    """Rows as bytes; ``decode(encode(row))`` is the row, and ``glance`` costs no decoding."""

    def encode(self, profile: Profile, memory: ModelMemory) -> bytes:
        """Return a row's bytes."""

    def decode(self, value: bytes) -> tuple[Profile, ModelMemory]:
        """Return the row."""

    def glance(self, value: bytes) -> Glance:
        """Return what ``glance_at`` would say of the row."""
