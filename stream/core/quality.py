"""Live quality: how good the models and what we show have been over the last day or so of event time.

Of one worker, from its start on, with bounded memory; nothing that is decided depends on it. A slate is
judged by the user's next event: does it bring one of the items, and would the most popular items have had it?
The value of the offers' policy is answers per decision, by inverse propensity scoring of logged decisions.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Final

from online_models.recent import RecentExposure, RecentLoss, RecentShares, RecentValues
from stream.core.profiles import MAX_RING
from stream.core.rows import ROUNDING_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from online_models.choice import Choice
    from online_models.popularity import DecayedPopularity
    from stream.core.profiles import Moment
    from stream.core.rows import ModelMemory

__all__ = ["ENOUGH", "LOSSES", "POLICIES", "LiveQuality"]

LOSSES: Final = ("log_loss", "normalised_entropy", "calibration_ratio")
POLICIES: Final = ("running", "greedy", "uniform")
ENOUGH: Final = 100  # observations behind a number that is watched: a rate's standard error is at most .05
POPULAR: Final = 2  # the half-life of the popular list among those of the popularity model: a week
POPULAR_S: Final = 60.0  # the popular list is at least so old before it is renewed
POPULAR_SLATES: Final = 1023  # and has judged so many slates, fewer of them in the beginning
EVERY: Final = 4  # of a user's events, one is judged


class LiveQuality:
    """Decayed measures, told by the stages as they go."""

    def __init__(self, popularity: DecayedPopularity, n_items: int, decision_window_s: float) -> None:
        self.losses = {"clicks": RecentLoss(), "offers": RecentLoss()}
        self._popularity = popularity
        self._n_items = n_items
        self._window_s = decision_window_s
        self._hits = RecentValues(2)
        self._exposure = RecentExposure()
        self._arms = RecentShares()
        self._values = RecentValues(len(POLICIES))
        self._popular: dict[str, int] = {}  # item -> place
        self._popular_at = float("-inf")
        self._judged = 0
        self._judges = 0  # how many slates the list judges before it is renewed

    def judge(self, moment: Moment, memory: ModelMemory) -> None:
        """Compare the user's newest slate with the first item that this event brings, if it is the next one.

        Before feedback closes the slate. Every fourth event of a user is judged: to look costs microseconds.
        """
        if moment.profile.n_events % EVERY or not moment.fresh or not memory.open:
            return
        event, last_s = moment.event, moment.gap_s
        for decision in reversed(memory.open.values()):
            if decision.kind == "recommendation":
                shown_at = decision.deadline - self._window_s
                if last_s is None or shown_at < event.time - last_s - ROUNDING_S:
                    return
                item_id = moment.fresh[0]
                hit = f"\n{item_id}\n" in decision.action
                self._hits.decided(event.time)
                popular = self._is_popular(item_id, moment.history, event.time)
                if hit or popular:
                    self._hits.scored((float(hit), float(popular)), event.time)
                return

    def shown(self, item_ids: Sequence[str], at: float) -> None:
        """Count the items of a slate that goes out."""
        self._exposure.update(item_ids, at)

    def offered(self, choice: Choice, at: float) -> list[float]:
        """Count a choice among offers; return its time and weights, to be kept until it is answered.

        The weights are those of the greedy and of the uniform policy over the one that chose.
        """
        self._arms.update(choice.offer, at)
        self._values.decided(at)
        greedy = 0.0 if choice.explored else 1.0 / choice.propensity
        return [at, greedy, 1.0 / (len(choice.propensities) * choice.propensity)]

    def answered(self, logged: Sequence[float]) -> None:
        """Count the answer to an offer, from what :meth:`offered` returned."""
        if logged:
            self._values.scored((1.0, logged[1], logged[2]), logged[0])

    def snapshot(self, n_catalogue: int, least: int = 1) -> dict[str, dict[str, float]]:
        """All numbers that are defined, by measure and then by what tells them apart.

        Parameters
        ----------
        n_catalogue : int
            Items of the catalogue; without one those that the models know are taken.
        least : int
            A number with fewer observations behind it is left out.
        """
        known = n_catalogue or len(self._popularity.vocabulary)
        told = {name: loss.snapshot() for name, loss in self.losses.items() if loss.n >= least}
        found: dict[str, dict[str, float]] = {
            measure: {name: numbers[measure] for name, numbers in told.items() if measure in numbers}
            for measure in LOSSES
        }
        hits, values = (one.intervals() if one.n >= least else [] for one in (self._hits, self._values))
        found["slate_hit_rate"] = {
            name: hit.estimate for name, hit in zip(("shown", "popularity"), hits, strict=False)
        }
        if self._exposure.n >= least:
            found["catalogue_coverage"] = {"": self._exposure.coverage(known)}
            found["exposure_gini"] = {"": self._exposure.gini(known)}
        if self._arms.n >= least:
            found["offer_entropy"] = {"": self._arms.entropy()}
        found["offer_policy_value"] = {
            f"{policy}.{bound}": number
            for policy, interval in zip(POLICIES, values, strict=False)
            for bound, number in interval._asdict().items()
        }
        return {
            measure: {name: number for name, number in numbers.items() if isfinite(number)}
            for measure, numbers in found.items()
        }

    def _is_popular(self, item_id: str, history: Sequence[str], at: float) -> bool:
        """Whether an item is among the most popular ones that are new to the user, as many as a slate has."""
        self._judged += 1
        if self._judged > self._judges and at - self._popular_at >= POPULAR_S:
            self._judged, self._popular_at = 0, at
            self._judges = min(2 * self._judges + 1, POPULAR_SLATES)
            top = self._popularity.top(at, POPULAR, self._n_items + MAX_RING)
            self._popular = {name: place for place, (name, _) in enumerate(top)}
        place = self._popular.get(item_id)
        if place is None:
            return False
        if place < self._n_items:
            return True
        known = sum(self._popular.get(name, place) < place for name in history)
        return place - known < self._n_items
