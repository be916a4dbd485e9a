"""What the blend proposes for one event: scored candidates, and why the best of them are where they are."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

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
LIFT_OF_SOURCE = np.array([[SOURCE_OF[code] is source for source in SOURCES] for code in CODES], np.float64)
FOLLOWS_HISTORY = CODES.index(ReasonCode.FOLLOWS_HISTORY)
FOLLOWS_LAST_ITEM = CODES.index(ReasonCode.FOLLOWS_LAST_ITEM)
N_REASONS = 3


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

    __slots__ = (
        "_blend",
        "_gap",
        "_history",
        "_length",
        "features",
        "orders",
        "popularity",
        "refs",
        "scores",
    )

    def __init__(
        self,
        blend: OnlineBlend,
        history: Sequence[str],
        context: tuple[int, int],
        arrays: tuple[
            NDArray[np.float32],
            NDArray[np.float64],
            NDArray[np.float64],
            NDArray[np.int64],
            NDArray[np.int64],
        ],
    ) -> None:
        self._blend = blend
        self._history = history
        self._gap, self._length = context
        self.features, self.scores, self.popularity, self.orders, self.refs = arrays

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        return f"Slate({len(self)} candidates)"

    @property
    def context(self) -> tuple[int, int]:
        """Rows of the ranker's weights that the context selected: gap and length."""
        return self._gap, self._length

    def item_ids(self, n: int) -> list[str]:
        """The best *n* items, best first; items evicted since are left out."""
        return self._named(self._best(n))

    def top(self, n: int, allowed: Callable[[str], bool] | None = None) -> list[Ranked]:
        """The best *n* items (of those allowed) with scores and reasons, best first.

        Ties go to the more popular item, then to the lower hash of its id.
        """
        best = self._best(n) if allowed is None else self._allowed(n, allowed)
        if not len(best):
            return []
        item_ids = self._named(best)
        causes = self._blend.cooccurrence.causes(item_ids, self._history)
        lifts = self._blend.contributions(self, best)
        # All items at once: benchmarks/models.py, top(10) with reasons.
        largest = np.argsort(-lifts, axis=1, kind="stable")[:, :N_REASONS].tolist()
        sources = (lifts @ LIFT_OF_SOURCE).argmax(axis=1).tolist()
        scores = self.scores[best].tolist()
        named = zip(item_ids, scores, sources, largest, lifts.tolist(), causes, strict=True)
        return [
            Ranked(item_id, score, SOURCES[source], self._reasons(codes, lift, cause))
            for item_id, score, source, codes, lift, cause in named
        ]

    def rank_of(self, item_id: str) -> int | None:
        """Place of an item, 0 for the best; None when it is not a candidate."""
        place = self.place_of(item_id)
        if place is None:
            return None
        return place_of(place, self.scores, self.popularity, self.orders)

    def place_of(self, item_id: str) -> int | None:
        """Number of an item among the unordered candidates."""
        reference = self._blend.vocabulary.reference(item_id)
        if reference < 0:
            return None
        place = find_reference(reference, self.refs)
        return None if place < 0 else place

    def _best(self, n: int) -> NDArray[np.int64]:
        if n <= 0 or not len(self):
            return NO_PLACES
        return best_places(
            n, self.scores, self.popularity, self.orders, self.refs, self._blend.vocabulary.generation
        )

    def _allowed(self, n: int, allowed: Callable[[str], bool]) -> NDArray[np.int64]:
        """The best *n* of those allowed; all are looked at only when twice as many are not enough."""
        best = self._best(2 * n)
        kept = [k for k, item_id in enumerate(self._named(best)) if allowed(item_id)]
        if len(kept) < n and len(best) < len(self):
            best = self._best(len(self))
            kept = [k for k, item_id in enumerate(self._named(best)) if allowed(item_id)]
        return best[kept[:n]]

    def _named(self, places: NDArray[np.int64]) -> list[str]:
        return self._blend.vocabulary.item_ids((self.refs[places] & 0xFFFFFFFF).tolist())

    def _reasons(self, codes: list[int], lift: list[float], cause: str | None) -> tuple[Reason, ...]:
        return tuple(
            Reason(CODES[code], lift[code], self._named_cause(code, cause))
            for code in codes
            if lift[code] > 0.0
        )

    def _named_cause(self, code: int, cause: str | None) -> str | None:
        if code == FOLLOWS_HISTORY:
            return cause
        if code == FOLLOWS_LAST_ITEM and self._history:
            return self._history[0]
        return None


NO_PLACES: NDArray[np.int64] = np.zeros(0, np.int64)
