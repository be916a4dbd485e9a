"""The simulated shop: shoppers on one timeline, and how they react to what Nudge publishes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from stream.simulating.goods import Offer, draw_offers, goods, rfc3339, stream
from stream.simulating.hostile import Hostile
from stream.simulating.shoppers import Recommended, Shopper, Step, Steps

__all__ = ["Shop", "simulate"]

EVENTS_PER_VISIT = 9.8  # measured; the rate that was asked for rests on it
_LONGEST_THINK_S = 8.0
_SEED_LIMIT = 1 << 64  # half of a Philox key
_HOSTILE_STREAM = (1 << 40) + 2
_MAX_WAITING = 2  # recommendations a shopper's next pages show; older ones are out of date


class Shop:
    """A shop whose shoppers' true preferences are known.

    Parameters
    ----------
    seed : int
        Every draw comes from Philox streams keyed by it, below 2^64.
    n_users, n_items : int
        Shoppers (anonymous ones included) and items.
    start : float
        Time of the first events, seconds since the epoch.
    duration_s : float
        The span over which popularity drifts; halfway a new bestseller appears.
        The shop stays open after it.
    events_per_s : float
        Wanted mean rate of good events, all shoppers together.
    anonymous_share, deny_share, hostile_share, promotion_share : float
        Shoppers who never log in; shoppers who deny consent when asked; bad records per good one; visits on
        which the shop itself shows an offer at random (set 0 when offers come through :meth:`react`).

    Raises
    ------
    ValueError
        A size, rate or share is out of its range.
    """

    def __init__(
        self,
        seed: int,
        *,
        start: float,
        n_users: int = 500,
        n_items: int = 300,
        duration_s: float = 3600.0,
        events_per_s: float = 50.0,
        anonymous_share: float = 0.2,
        deny_share: float = 0.12,
        hostile_share: float = 0.01,
        promotion_share: float = 0.3,
    ) -> None:
        if not 0 <= seed < _SEED_LIMIT or n_users < 1:
            raise ValueError(f"seed is {seed} and n_users {n_users}; from 0 to 2^64 - 1, and at least 1")
        if not (duration_s > 0 and events_per_s > 0):
            raise ValueError(f"duration_s is {duration_s} and events_per_s {events_per_s}; both above 0")
        shares = (anonymous_share, deny_share, hostile_share, promotion_share)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"anonymous, deny, hostile and promotion share are {shares}; each from 0 to 1")
        self.now = start
        self._seed = seed
        self._start = start
        self._duration_s = duration_s
        self.goods = goods(seed, n_items)
        self.offers: dict[str, Offer] = {offer.offer_id: offer for offer in draw_offers(seed)}
        choices = tuple(self.offers.values())
        self._shoppers = [
            Shopper(
                seed,
                index,
                self.goods,
                choices,
                anonymous_share=anonymous_share,
                deny_share=deny_share,
                promotion_share=promotion_share,
            )
            for index in range(n_users)
        ]
        self._by_id = {shopper.id: shopper for shopper in self._shoppers}
        self._hostile = Hostile(hostile_share, stream(seed, _HOSTILE_STREAM))
        self._n_sent = dict.fromkeys(self._by_id, 0)
        # Half of a shopper's time is spent in visits at most; the rest is the gap between them.
        seconds_per_event = n_users / events_per_s
        self._think_s = min(_LONGEST_THINK_S, seconds_per_event / 2)
        self._mean_gap_s = EVENTS_PER_VISIT * (seconds_per_event - self._think_s)
        # A shopper comes as often as its activity says; the mean over all is what was asked for.
        mean = sum(shopper.activity for shopper in self._shoppers) / n_users
        self._activity = {shopper.id: max(shopper.activity / mean, 0.05) for shopper in self._shoppers}
        self._timeline: list[tuple[float, int, Shopper, Steps, bool]] = []
        self._n_scheduled = 0
        for shopper in self._shoppers:
            first_gap_s = float(shopper.rng.random()) * self._gap_s(shopper)
            self._schedule(start + first_gap_s, shopper, shopper.visit(), regular=True)

    # --- the timeline ----------------------------------------------------------------------------------

    def next_events(self, until: float) -> list[bytes]:
        """Let time pass to `until`; return the records sent before it, in order of event time.

        Bad records aside: they follow the good one that they were made from.
        Records carry no line end. Where calls are split does not matter.
        """
        records: list[bytes] = []
        while self._timeline and self._timeline[0][0] < until:
            time_s, _, shopper, steps, regular = heapq.heappop(self._timeline)
            shopper.progress = (time_s - self._start) / self._duration_s
            step = next(steps, None)
            for think, more in shopper.later:
                self._schedule(time_s + think * self._think_s, shopper, more)
            shopper.later.clear()
            if step is not None:
                records += self._send(shopper, time_s, step)
                self._schedule(time_s + step.think * self._think_s, shopper, steps, regular=regular)
            elif regular:
                gap_s = float(shopper.rng.exponential()) * self._gap_s(shopper)
                self._schedule(time_s + gap_s, shopper, shopper.visit(), regular=True)
        self.now = max(self.now, until)
        return records

    def _schedule(self, time_s: float, shopper: Shopper, steps: Steps, *, regular: bool = False) -> None:
        """Take the next step of a sequence at a time; a regular visit is followed by another, after a gap."""
        self._n_scheduled += 1  # orders what is due at the same time
        heapq.heappush(self._timeline, (time_s, self._n_scheduled, shopper, steps, regular))

    def _send(self, shopper: Shopper, time_s: float, step: Step) -> list[bytes]:
        record = self._encode(shopper, time_s, step)
        bad = self._hostile.after(record, time_s)
        return [record] if bad is None else [record, bad]

    def _gap_s(self, shopper: Shopper) -> float:
        return self._mean_gap_s / self._activity[shopper.id]

    def _encode(self, shopper: Shopper, time_s: float, step: Step) -> bytes:
        self._n_sent[shopper.id] += 1
        record = orjson.dumps(
            {
                "type": "track",
                "messageId": f"sim{self._seed}-{shopper.id}-{self._n_sent[shopper.id]}",
                "anonymousId" if shopper.anonymous else "userId": shopper.id,
                "timestamp": rfc3339(time_s),
                "event": step.event,
                "properties": step.properties,
                **({} if step.context is None else {"context": step.context}),
            }
        )
        return bytes(bytearray(record))  # a copy of the right size: orjson's own result keeps a larger buffer

    # --- the closed loop -------------------------------------------------------------------------------

    def react(self, decision: Mapping[str, Any]) -> None:
        """Show a shopper what Nudge published: a recommendation, an offer decision or a trigger, decoded.

        A recommended list appears on the shopper's next page, an offer at once, and a triggered e-mail
        arrives; events that follow carry ``properties.decision_id``.
        What is addressed to nobody here, or is of another kind, changes nothing.
        """
        if "campaign_id" in decision and "recipient" in decision:
            self._receive(decision)
        elif "slot" in decision and "items" in decision:
            self._recommend(decision)
        elif decision.get("kind") == "offer":
            shopper = self._by_id.get(str(decision.get("user_id")))
            offer = self.offers.get(str(decision.get("action")))
            if shopper is not None and offer is not None:
                steps = shopper.promotion(offer, _decision_id(decision))
                self._schedule(self.now, shopper, steps)

    def _recommend(self, recommendation: Mapping[str, Any]) -> None:
        shopper = self._by_id.get(str(recommendation.get("user_id")))
        decision_id = _decision_id(recommendation)
        ids = [item.get("item_id") for item in recommendation["items"] if isinstance(item, Mapping)]
        items = tuple(self.goods.index[item_id] for item_id in ids if item_id in self.goods.index)
        if shopper is None or decision_id is None or not items:
            return
        shopper.waiting.append(Recommended(decision_id, str(recommendation["slot"]), items))
        del shopper.waiting[:-_MAX_WAITING]

    def _receive(self, trigger: Mapping[str, Any]) -> None:
        recipient = trigger["recipient"]
        if not isinstance(recipient, Mapping):
            return
        shopper = self._by_id.get(str(recipient.get("user_id") or recipient.get("anonymous_id")))
        if shopper is None:
            return
        decision = trigger.get("decision")
        decision_id = _decision_id(decision) if isinstance(decision, Mapping) else None
        context = trigger.get("context")
        product = context.get("product_id") if isinstance(context, Mapping) else None
        came_for = self.goods.index.get(product) if isinstance(product, str) else None
        campaign_id = str(trigger["campaign_id"])
        email_id = str(trigger.get("id", campaign_id))
        self._schedule(self.now, shopper, shopper.email(email_id, campaign_id, decision_id, came_for))

    # --- the truth -------------------------------------------------------------------------------------

    @property
    def user_ids(self) -> Sequence[str]:
        """Ids of all shoppers, anonymous ones included."""
        return tuple(self._by_id)

    def click_probability(self, offer_id: str, user_id: str) -> float:
        """Return the true probability that a shopper who is shown the offer clicks it."""
        return self._by_id[user_id].click_probability(self.offers[offer_id])

    def conversion_probability(self, offer_id: str, user_id: str) -> float:
        """Return the true probability that a shopper who is shown the offer clicks it and buys."""
        return self.click_probability(offer_id, user_id) * self.offers[offer_id].buy_rate

    def expected_value(self, offer_id: str, user_id: str) -> float:
        """Return what showing the offer is worth: clicks by its value, less its cost, in EUR."""
        offer = self.offers[offer_id]
        return self.click_probability(offer_id, user_id) * offer.value - offer.cost

    def best_offer(self, user_id: str) -> str:
        """Return the offer with the highest expected value for a shopper."""
        return max(self.offers, key=lambda offer_id: self.expected_value(offer_id, user_id))

    def appeal(self, item_id: str, user_id: str) -> float:
        """Return the true probability that a shopper who looks at the item in a list clicks it."""
        return self._by_id[user_id].appeal(self.goods.index[item_id])


def _decision_id(decision: Mapping[str, Any]) -> str | None:
    decision_id = decision.get("decision_id")
    return decision_id if isinstance(decision_id, str) else None


def simulate(
    *,
    seed: int,
    n_users: int = 500,
    n_items: int = 300,
    start: float,
    duration_s: float,
    events_per_s: float = 50.0,
    anonymous_share: float = 0.2,
    deny_share: float = 0.12,
    hostile_share: float = 0.01,
) -> Iterator[bytes]:
    """Yield the records of a shop that nobody advises, without line ends; parameters as :class:`Shop`'s.

    In order of event time, apart from the `hostile_share` of bad ones.
    """
    shop = Shop(
        seed,
        n_users=n_users,
        n_items=n_items,
        start=start,
        duration_s=duration_s,
        events_per_s=events_per_s,
        anonymous_share=anonymous_share,
        deny_share=deny_share,
        hostile_share=hostile_share,
    )
    slice_s = 1000.0 / events_per_s  # about a thousand records at a time
    n_slices = int(duration_s // slice_s)
    for n in range(1, n_slices + 1):
        yield from shop.next_events(start + n * slice_s)
    yield from shop.next_events(start + duration_s)
