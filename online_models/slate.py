"""What the blend proposes for one event: scored candidates, and why the best of them are where they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels.top_n import best_places, place_of

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
SOURCE_OF_CODE = tuple(SOURCE_OF[code] for code in CODES)
N_REASONS = 3


@dataclass(frozen=True, slots=True)
class Reason:
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


@dataclass(frozen=True, slots=True)
class Ranked:
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
        return [item_id for _, item_id in self._best(n)]

    def top(self, n: int, allowed: Callable[[str], bool] | None = None) -> list[Ranked]:
        """The best *n* items that are allowed, with scores and reasons, best first.

        Ties go to the more popular item, then to the lower hash of its id.
        """
        best = self._best(n, allowed)
        if not best:
            return []
        chosen = np.array([place for place, _ in best], np.int64)
        lifts = self._blend.contributions(self, chosen).tolist()
        return [
            self._ranked(item_id, float(self.scores[place]), lift)
            for (place, item_id), lift in zip(best, lifts, strict=True)
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
        places = np.flatnonzero(self.refs == reference)
        return int(places[0]) if len(places) else None

    def _best(self, n: int, allowed: Callable[[str], bool] | None = None) -> list[tuple[int, str]]:
        if n <= 0 or not len(self):
            return []
        wanted = n if allowed is None else len(self)
        places = best_places(wanted, self.scores, self.popularity, self.orders)
        referred = self._blend.vocabulary.referred
        named = zip(places.tolist(), map(referred, self.refs[places].tolist()), strict=True)
        shown = (
            (place, item_id)
            for place, item_id in named
            if item_id is not None and (allowed is None or allowed(item_id))
        )
        return list(islice(shown, n))

    def _ranked(self, item_id: str, score: float, lift: list[float]) -> Ranked:
        by_source = dict.fromkeys(SOURCES, 0.0)
        for source, value in zip(SOURCE_OF_CODE, lift, strict=True):
            by_source[source] += value
        largest = sorted(range(len(lift)), key=lambda k: (-lift[k], k))[:N_REASONS]
        reasons = tuple(
            Reason(CODES[k], lift[k], self._cause(CODES[k], item_id)) for k in largest if lift[k] > 0.0
        )
        return Ranked(item_id, score, max(SOURCES, key=by_source.__getitem__), reasons)

    def _cause(self, code: ReasonCode, item_id: str) -> str | None:
        if code is ReasonCode.FOLLOWS_LAST_ITEM:
            return self._history[0] if self._history else None
        if code is ReasonCode.FOLLOWS_HISTORY:
            return self._blend.cooccurrence.cause(item_id, self._history)
        return None
