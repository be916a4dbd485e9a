"""What the blend proposes for one event: scored candidates, and why the best of them are where they are."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from online_models.kernels.ranker import explain
from online_models.kernels.top_n import best_places, find_reference, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from online_models.hybrid import OnlineBlend

__all__ = ["CODES", "Ranked", "Reason", "ReasonCode", "Slate", "Source"]


class Source(StrEnum):
    """Where an item comes from: the source whose terms lift it most."""

    SEQUENCE = "sequence"
    TRANSITION = "transition"
    FACTORS = "factors"
    POPULARITY = "popularity"
    FRESHNESS = "freshness"


class ReasonCode(StrEnum):
    """Why an item stands where it does."""

    FOLLOWS_HISTORY = "follows_history"
    FOLLOWS_LAST_ITEM = "follows_last_item"
    SIMILAR_TASTE = "similar_taste"
    POPULAR_NOW = "popular_now"
    POPULAR_TODAY = "popular_today"
    POPULAR_THIS_WEEK = "popular_this_week"
    POPULAR_THIS_MONTH = "popular_this_month"
    POPULAR_ALL_TIME = "popular_all_time"
    RECENT_ACTIVITY = "recent_activity"


CODES = tuple(ReasonCode)
SOURCE_OF = {
    ReasonCode.FOLLOWS_HISTORY: Source.SEQUENCE,
    ReasonCode.FOLLOWS_LAST_ITEM: Source.TRANSITION,
    ReasonCode.SIMILAR_TASTE: Source.FACTORS,
    ReasonCode.POPULAR_NOW: Source.POPULARITY,
    ReasonCode.POPULAR_TODAY: Source.POPULARITY,
    ReasonCode.POPULAR_THIS_WEEK: Source.POPULARITY,
    ReasonCode.POPULAR_THIS_MONTH: Source.POPULARITY,
    ReasonCode.POPULAR_ALL_TIME: Source.POPULARITY,
    ReasonCode.RECENT_ACTIVITY: Source.FRESHNESS,
}
SOURCES = tuple(Source)
TEXTS = [code.value for code in CODES]
SOURCE_TEXTS = [source.value for source in SOURCES]
NUMBER_OF_SOURCE = np.array([SOURCES.index(SOURCE_OF[code]) for code in CODES], np.int64)
FOLLOWS_HISTORY = CODES.index(ReasonCode.FOLLOWS_HISTORY)
FOLLOWS_LAST_ITEM = CODES.index(ReasonCode.FOLLOWS_LAST_ITEM)


class Reason(NamedTuple):
    """One group of terms of a score.

    Attributes
    ----------
    contribution : float
        How much these terms lift the item above the mean of its slate.
    item_id : str or None
        The history item that speaks loudest, where the code follows the history.
    """

    code: ReasonCode
    contribution: float
    item_id: str | None = None


class Ranked(NamedTuple):
    """One item of a slate, with the largest reasons first."""

    item_id: str
    score: float
    source: Source
    reasons: tuple[Reason, ...]


class Slate:
    """The candidates of one event with their features and scores, as they were when it was proposed.

    A slate is a value: learning afterwards does not change its scores.
    """

    __slots__ = ("_blend", "_history", "_n", "_names", "_numbers", "columns", "context")

    def __init__(
        self,
        blend: OnlineBlend,
        history: Sequence[str],
        context: tuple[int, int],
        n: int,
        arrays: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]],
    ) -> None:
        self._blend = blend
        self._history = history
        self.context = context  # rows of the ranker's weights that were selected: gap and length
        self._n = n
        self.columns, self._numbers, self._names = arrays

    def __len__(self) -> int:
        return self._n

    def __repr__(self) -> str:
        return f"Slate({len(self)} candidates)"

    @property
    def features(self) -> NDArray[np.float32]:
        """One candidate a row, one feature a column."""
        return self.columns[:, : self._n].T

    @property
    def scores(self) -> NDArray[np.float64]:
        """The ranker's scores."""
        return self._numbers[0, : self._n]

    def item_ids(self, n: int) -> list[str]:
        """The best *n* items, best first; items evicted since are left out."""
        return self._named(self._best(n))

    def top(self, n: int, allowed: Callable[[str], bool] | None = None) -> list[Ranked]:
        """The best *n* items (of those allowed) with scores and reasons, best first.

        Ties go to the more popular item, then to the lower hash of its id.
        """
        best = self._chosen(n, allowed)
        lifts, reasons = self._explained(best)
        scores, causes = self._numbers[0, best].tolist(), self._causes(best)
        explained = zip(self._named(best), scores, reasons.tolist(), lifts.tolist(), causes, strict=True)
        return [
            Ranked(
                item_id,
                score,
                SOURCES[source],
                tuple(Reason(CODES[k], lift[k], self._named_cause(k, cause)) for k in codes if k >= 0),
            )
            for item_id, score, (source, *codes), lift, cause in explained
        ]

    def rows(
        self, n: int, allowed: Callable[[str], bool] | None = None
    ) -> list[tuple[str, float, str, list[str]]]:
        """As :meth:`top`, as text: item, score to six digits, source, and reasons.

        A reason is ``follows_history:p17`` where a history item is the reason, else the code alone.
        """
        best = self._chosen(n, allowed)
        _, reasons = self._explained(best)
        scores, causes = self._numbers[0, best].round(6).tolist(), self._causes(best)
        last = self._history[0] if self._history else None
        shown = []
        for item_id, score, (source, a, b, c), cause in zip(
            self._named(best), scores, reasons.tolist(), causes, strict=True
        ):
            texts = [TEXTS[a], TEXTS[b], TEXTS[c]] if c >= 0 else [TEXTS[k] for k in (a, b) if k >= 0]
            if cause is not None and FOLLOWS_HISTORY in (a, b, c):
                texts[(a, b, c).index(FOLLOWS_HISTORY)] += f":{cause}"
            if last is not None and FOLLOWS_LAST_ITEM in (a, b, c):
                texts[(a, b, c).index(FOLLOWS_LAST_ITEM)] += f":{last}"
            shown.append((item_id, score, SOURCE_TEXTS[source], texts))
        return shown

    def rank_of(self, item_id: str) -> int | None:
        """Place of an item, 0 for the best; None when it is not a candidate."""
        place = self.place_of(item_id)
        return None if place is None else place_of(place, self._n, self._numbers, self._names)

    def place_of(self, item_id: str) -> int | None:
        """Number of an item among the unordered candidates."""
        reference = self._blend.vocabulary.reference(item_id)
        if reference < 0:
            return None
        place = find_reference(reference, self._n, self._names)
        return None if place < 0 else place

    def _best(self, n: int) -> NDArray[np.int64]:
        if n <= 0 or not self._n:
            return NO_PLACES
        return best_places(n, self._n, self._numbers, self._names, self._blend.vocabulary.generation)

    def _chosen(self, n: int, allowed: Callable[[str], bool] | None) -> NDArray[np.int64]:
        """The best *n* of those allowed; all are looked at only when twice as many are not enough."""
        if allowed is None:
            return self._best(n)
        best = self._best(2 * n)
        kept = [k for k, item_id in enumerate(self._named(best)) if allowed(item_id)]
        if len(kept) < n and len(best) < self._n:
            best = self._best(self._n)
            kept = [k for k, item_id in enumerate(self._named(best)) if allowed(item_id)]
        return best[kept[:n]]

    def _explained(self, places: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Lift of each code above the slate's mean, and of each one its source and three codes or −1."""
        blend, m = self._blend, len(places)
        lifts, reasons = np.empty((m, len(CODES))), np.empty((m, 4), np.int64)
        gap, length = self.context
        groups, sources = blend.groups, NUMBER_OF_SOURCE
        explain(places, self._n, gap, length, self.columns, blend.weights, groups, sources, lifts, reasons)
        return lifts, reasons

    def _named(self, places: NDArray[np.int64]) -> list[str]:
        return self._blend.vocabulary.item_ids((self._names[0, places] & 0xFFFFFFFF).tolist())

    def _causes(self, places: NDArray[np.int64]) -> list[str | None]:
        """The history item that speaks loudest for each candidate."""
        history = self._history
        return [history[age] if age >= 0 else None for age in self._names[2, places].tolist()]

    def _named_cause(self, code: int, cause: str | None) -> str | None:
        if code == FOLLOWS_HISTORY:
            return cause
        if code == FOLLOWS_LAST_ITEM and self._history:
            return self._history[0]
        return None


NO_PLACES: NDArray[np.int64] = np.zeros(0, np.int64)
