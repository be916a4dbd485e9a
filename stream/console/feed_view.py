"""Fold a feed of events and outputs into what a marketer looks at. Pure: times are arguments."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.codec import parse_time
from stream.console.exposition import WorkerCounts

if TYPE_CHECKING:
    from schemas.outputs import Decision, Recommendation, Trigger

__all__ = ["FeedView", "OfferBelief", "ShownMessage", "ShownOffer", "ShownRecommendation"]

N_LATEST = 8
N_RATES = 40
MAX_WAITING = 100_000  # events remembered by id until an output names them: 20 MB
MAX_LATENCIES = 200_000  # the last ones; 7 MB
LIVE_LATENCIES = 500  # the last seconds of these
RATE_WINDOW_S = 3.0
MAX_MONEY = 1e12  # the contract's limit of any number
NO_OFFER = "nothing"

_WORDS = {
    "follows_history": "goes with",
    "follows_last_item": "often follows",
    "similar_taste": "similar taste",
    "popular_now": "popular now",
    "popular_today": "popular today",
    "popular_this_week": "popular this week",
    "popular_this_month": "popular this month",
    "popular_all_time": "popular",
    "popular_first": "popular to begin with",
    "recent_activity": "active lately",
    "same_kind": "of the kind viewed",
    "new_of_the_kind": "new, of the kind viewed",
    "similar_items": "chosen by the same people",
    "similar_users": "chosen by similar people",
    "popular_in_segment": "popular in the segment",
}
_OF_HISTORY = {"follows_history", "follows_last_item"}
_WHY = {"cart_abandonment": "left in cart", "browse_abandonment": "viewed again"}


@dataclass(frozen=True, slots=True)
class ShownRecommendation:
    """A published list: names of its first items, and why the first stands there."""

    user: str
    slot: str
    items: tuple[str, ...]
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message handed to the campaign system; ``clock`` is its time of day, UTC."""

    clock: str
    user: str
    campaign: str
    product: str
    why: str
    offer: str | None


@dataclass(frozen=True, slots=True)
class OfferBelief:
    """What the bandit knows of an offer at its reference context.

    ``mean`` and ``deviation`` are of the response probability; ``pulls`` are decisions whose outcome was
    learned, ``rewards`` the responses among them.
    """

    offer: str
    mean: float
    deviation: float
    pulls: float
    rewards: float


@dataclass(frozen=True, slots=True)
class ShownOffer:
    """An offer: belief (none for "nothing", or before the first outcome), and how often it was chosen.

    ``recent_share`` is of the last 200 choices; ``least_propensity`` the smallest probability that any
    choice gave it.
    """

    offer: str
    belief: OfferBelief | None
    chosen: int
    share: float
    recent_share: float
    least_propensity: float


class FeedView:
    """All that is shown, kept up to date by one call per event or output.

    Parameters
    ----------
    names : mapping
        Names of the items, by id; an item without one is shown by its id.
    """

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self._names = dict(names or {})
        self.worker = WorkerCounts()
        self.n_recommendations = 0
        self.recommendations: deque[ShownRecommendation] = deque(maxlen=N_LATEST)
        self.sources: Counter[str] = Counter()
        self.messages: deque[ShownMessage] = deque(maxlen=N_LATEST)
        self.sent: Counter[str] = Counter()
        self.suppressed: Counter[str] = Counter()
        self.dead_letters: Counter[str] = Counter()
        self.lists: Counter[str] = Counter()  # "shop", "nudge": lists shown; "... clicked": of these
        self.n_orders = 0
        self.revenue: dict[str, float] = {}
        self.rates: deque[float] = deque(maxlen=N_RATES)
        self._samples: deque[tuple[float, int]] = deque()
        self._offers: Counter[str] = Counter()
        self._recent_offers: deque[str] = deque(maxlen=200)
        self._least: dict[str, float] = {}
        self._beliefs: dict[str, OfferBelief] = {}
        self._appended: OrderedDict[str, float] = OrderedDict()
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._latencies: deque[float] = deque(maxlen=MAX_LATENCIES)
        self._live_latencies: deque[float] = deque(maxlen=LIVE_LATENCIES)

    # --- what comes in ---------------------------------------------------------------------------------

    def event(self, fields: object, appended: float) -> None:
        """Take note of an input event as it stands in the log, appended at a time in s since the epoch.

        Anything may come: what is no event, or was seen before, changes nothing.
        """
        if not isinstance(fields, dict) or not isinstance(message_id := fields.get("messageId"), str):
            return
        if message_id in self._appended:
            return
        _put(self._appended, message_id, appended)
        if (seen := self._seen.pop(message_id, None)) is not None:
            self._note_latency(seen - appended)
        properties = fields.get("properties")
        if isinstance(properties, dict):
            self._behaviour(fields.get("event"), properties)

    def recommendation(self, output: Recommendation, seen: float) -> None:
        """Take note of a list that became visible at a time, s since the epoch."""
        self.n_recommendations += 1
        self._visible(output.cause.message_id, seen)
        if not output.items:
            return
        first = output.items[0]
        self.sources.update(item.source for item in output.items)
        reason = self._reason(first.reasons[0]) if first.reasons else first.source
        items = tuple(self.name(item.item_id) for item in output.items[:3])
        self.recommendations.append(
            ShownRecommendation(output.user_id, output.slot, items, first.source, reason)
        )

    def trigger(self, output: Trigger) -> None:
        """Take note of a message to send."""
        self.sent[output.campaign_id] += 1
        kind = output.decision.reasons[0] if output.decision.reasons else ""
        waited_s = parse_time(output.send_at) - parse_time(output.cause.timestamp)
        why = f"{_WHY.get(kind, kind)}, {waited_s / 60:.0f} min ago"
        product = output.context.get("name") or self.name(str(output.context.get("product_id", "")))
        user = output.recipient.user_id or output.recipient.anonymous_id or "?"
        clock = output.send_at[11:16]
        self.messages.append(
            ShownMessage(clock, user, output.campaign_id, str(product), why, output.offer_id)
        )

    def decision(self, output: Decision, seen: float) -> None:
        """Take note of a decision: offers are counted as choices, suppressions and holdouts by reason."""
        if output.kind in {"suppression", "holdout"}:
            self.suppressed[output.reason or output.kind] += 1
        if output.kind != "offer":
            return
        if output.campaign_id is None:
            self._visible(output.cause.message_id, seen)
        self._offers[output.action] += 1
        self._recent_offers.append(output.action)
        for offer, propensity in zip(output.eligible, output.propensities or (), strict=False):
            self._least[offer] = min(propensity, self._least.get(offer, 1.0))

    def dead_letter(self, code: str) -> None:
        """Take note of a rejected record."""
        self.dead_letters[code] += 1

    def believe(self, beliefs: Sequence[OfferBelief]) -> None:
        """Replace what is known of the offers."""
        self._beliefs = {belief.offer: belief for belief in beliefs}

    def sample(self, worker: WorkerCounts, now: float) -> None:
        """Take a worker's counts at a time; the rate is the difference to those of some seconds before."""
        self.worker = worker
        self._samples.append((now, worker.consumed))
        while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_WINDOW_S:
            self._samples.popleft()
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        if last > first:
            self.rates.append((after - before) / (last - first))

    # --- what is shown ---------------------------------------------------------------------------------

    def name(self, item_id: str) -> str:
        """Name of an item, else its id."""
        return self._names.get(item_id, item_id)

    @property
    def rate(self) -> float:
        """Events per second over the last seconds."""
        return self.rates[-1] if self.rates else 0.0

    @property
    def offers(self) -> list[ShownOffer]:
        """Offers by expected response, the best first; "nothing" last."""
        total, recent = self._offers.total(), len(self._recent_offers)
        counts = Counter(self._recent_offers)
        shown = [
            ShownOffer(
                offer,
                self._beliefs.get(offer),
                self._offers[offer],
                self._offers[offer] / total if total else 0.0,
                counts[offer] / recent if recent else 0.0,
                self._least.get(offer, 0.0),
            )
            for offer in {*self._offers, *self._beliefs, *self._least}
        ]
        return sorted(
            shown, key=lambda o: (o.offer == NO_OFFER, -(o.belief.mean if o.belief else 0.0), o.offer)
        )

    def freshness_ms(self, *, live: bool = False) -> dict[str, float]:
        """From append of an event to its answer in a reader's hands: p50, p99 in ms, and how many.

        Only answers that follow at once count: lists and on-site offers; a message waits on purpose.
        """
        values = sorted(self._live_latencies if live else self._latencies)
        if not values:
            return {"n": 0}
        return {
            "p50": round(1000 * _quantile(values, 0.5), 1),
            "p99": round(1000 * _quantile(values, 0.99), 1),
            "n": len(values),
        }

    def click_share(self, lists: str) -> float | None:
        """Share of the shown lists ("shop" or "nudge") that were clicked; none before the first."""
        shown = self.lists[lists]
        return self.lists[f"{lists} clicked"] / shown if shown else None

    def summary(self) -> dict[str, Any]:
        """All of it as JSON values."""
        worker = self.worker
        return {
            "events": {
                "consumed": worker.consumed,
                "accepted": worker.accepted,
                "unknown": worker.unknown,
                "duplicate": worker.duplicate,
                "rejected": dict(sorted(worker.rejected.items())),
            },
            "dead_letters": dict(sorted(self.dead_letters.items())),
            "shop": {
                "orders": self.n_orders,
                "revenue": {currency: round(money, 2) for currency, money in sorted(self.revenue.items())},
                "lists": {
                    kind: {"shown": self.lists[kind], "clicked": self.lists[f"{kind} clicked"]}
                    for kind in ("shop", "nudge")
                },
            },
            "recommendations": {
                "published": self.n_recommendations,
                "items_by_source": dict(self.sources.most_common()),
            },
            "offers": {shown.offer: _offer_summary(shown) for shown in self.offers},
            "triggers": dict(sorted(self.sent.items())),
            "suppressed": dict(self.suppressed.most_common()),
            "campaigns": {
                campaign: funnel | {"suppressed": worker.suppressed.get(campaign, {})}
                for campaign, funnel in sorted(worker.funnel.items())
            },
            "models": worker.quality,
            "freshness_ms": self.freshness_ms(),
        }

    # --- pieces ----------------------------------------------------------------------------------------

    def _behaviour(self, name: object, properties: dict[str, Any]) -> None:
        lists = "nudge" if "decision_id" in properties else "shop"
        match name:
            case "Product List Viewed":
                self.lists[lists] += 1
            case "Product Clicked" if "list_id" in properties:
                self.lists[f"{lists} clicked"] += 1
            case "Order Completed":
                self.n_orders += 1
                total, currency = properties.get("total"), properties.get("currency")
                if isinstance(total, int | float) and isinstance(currency, str) and abs(total) <= MAX_MONEY:
                    self.revenue[currency] = self.revenue.get(currency, 0.0) + total
            case _:
                pass

    def _visible(self, message_id: str, seen: float) -> None:
        """Join an output with its event; whichever is read first waits for the other."""
        appended = self._appended.get(message_id)
        if appended is not None:
            self._note_latency(seen - appended)
        else:
            _put(self._seen, message_id, seen)

    def _note_latency(self, seconds: float) -> None:
        self._latencies.append(seconds)
        self._live_latencies.append(seconds)

    def _reason(self, reason: str) -> str:
        code, _, item_id = reason.partition(":")
        words = _WORDS.get(code, code.replace("_", " "))
        if code not in _OF_HISTORY:
            return words
        return f"{words} {self.name(item_id) if item_id else 'your history'}"


def _offer_summary(shown: ShownOffer) -> dict[str, Any]:
    belief = shown.belief
    known = (
        {}
        if belief is None
        else {
            "posterior_mean": round(belief.mean, 6),
            "posterior_deviation": round(belief.deviation, 6),
            "outcomes": belief.pulls,
            "responses": belief.rewards,
        }
    )
    return {
        "chosen": shown.chosen,
        "share": round(shown.share, 4),
        "least_propensity": round(shown.least_propensity, 6),
        **known,
    }


def _put(window: OrderedDict[str, float], key: str, value: float) -> None:
    window[key] = value
    if len(window) > MAX_WAITING:
        window.popitem(last=False)


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Smallest value that at least a share ``q`` of the values do not exceed (nearest rank)."""
    return ordered[max(0, -(-int(q * 1000) * len(ordered) // 1000) - 1)]
