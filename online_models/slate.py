"""What the blend proposes for one event: scored candidates, and why the best of them are where they are."""

from __future__ import annotations

from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from online_models.kernels.ranker import explain
from online_models.kernels.top_n import best_places, find_reference, place_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from online_models.hybrid import OnlineBlend

__all__ = ["CODES", "NO_NEW_ITEMS", "NewItems", "Ranked", "Reason", "ReasonCode", "Slate", "Source"]


class Source(StrEnum):
    """Where an item comes from: the source whose terms lift it most."""

    SEQUENCE = "sequence"
    TRANSITION = "transition"
    FACTORS = "factors"
    POPULARITY = "popularity"
    FRESHNESS = "freshness"
    CONTENT = "content"
    NEIGHBOURS = "neighbours"
    ORDERS = "orders"
    OWN_PAST = "own_past"


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
    POPULAR_FIRST = "popular_first"
    RECENT_ACTIVITY = "recent_activity"
    SAME_KIND = "same_kind"
    NEW_OF_THE_KIND = "new_of_the_kind"
    SIMILAR_ITEMS = "similar_items"
    SIMILAR_USERS = "similar_users"
    POPULAR_IN_SEGMENT = "popular_in_segment"


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
    ReasonCode.POPULAR_FIRST: Source.POPULARITY,
    ReasonCode.RECENT_ACTIVITY: Source.FRESHNESS,
    ReasonCode.SAME_KIND: Source.CONTENT,
    ReasonCode.NEW_OF_THE_KIND: Source.CONTENT,
    ReasonCode.SIMILAR_ITEMS: Source.NEIGHBOURS,
    ReasonCode.SIMILAR_USERS: Source.NEIGHBOURS,
    ReasonCode.POPULAR_IN_SEGMENT: Source.POPULARITY,
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


class NewItems(NamedTuple):
    """Items that nobody has met yet, best first.

    Attributes
    ----------
    suits : sequence of float
        How well each suits the user, from 0 to 1.
    """

    item_ids: Sequence[str]
    suits: Sequence[float]


NO_NEW_ITEMS = NewItems((), ())


class Slate:
    """The candidates of one event with their features and scores, as they were when it was proposed.

    A slate is a value: learning afterwards does not change its scores.
    """

    __slots__ = ("_blend", "_history", "_n", "_names", "_newcomers", "_numbers", "columns", "context")

    def __init__(
        self,
        blend: OnlineBlend,
        history: Sequence[str],
        context: tuple[int, int],
        n: int,
        arrays: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]],
        newcomers: Sequence[str] = (),
    ) -> None:
        self._blend = blend
        self._history = history
        self.context = context  # rows of the ranker's weights that were selected: gap and length
        self._n = n
        self._newcomers = newcomers  # candidates without a row of the vocabulary
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

    def top(self, n: int, withheld: Collection[str] = ()) -> list[Ranked]:
        """The best *n* items that are not withheld, with scores and reasons, best first.

        Ties go to the more popular item, then to the lower hash of its id.
        """
        scores, lifts, reasons = self._explained(self._chosen(n, withheld))
        history = self._history
        last = history[0] if history else None
        ranked = []
        for score, lift, (*codes, source, row, age) in zip(
            scores[0].tolist(), lifts.tolist(), reasons, strict=True
        ):
            named = {FOLLOWS_HISTORY: history[age] if age >= 0 else None, FOLLOWS_LAST_ITEM: last}
            why = tuple(Reason(CODES[code], lift[code], named.get(code)) for code in codes if code >= 0)
            ranked.append(Ranked(self._named_one(row), score, SOURCES[source], why))
        return ranked

    def rows(self, n: int, withheld: Collection[str] = ()) -> list[tuple[str, float, str, list[str]]]:
        """As :meth:`top`, as text: item, score to six digits, source, and reasons.

        A reason is ``follows_history:p17`` where a history item is the reason, else the code alone.
        Lists of reasons are shared: they are for reading.
        """
        scores, _, reasons = self._explained(self._chosen(n, withheld))
        history = self._history
        shown = []
        for score, (a, b, c, source, row, age) in zip(scores[1].tolist(), reasons, strict=True):
            texts, at_history, at_last = SPELLED[a, b, c]
            if at_history >= 0 and age >= 0:
                texts = texts.copy()
                texts[at_history] += f":{history[age]}"
            if at_last >= 0 and history:
                texts = texts.copy()
                texts[at_last] += f":{history[0]}"
            shown.append((self._named_one(row), score, SOURCE_TEXTS[source], texts))
        return shown

    def rank_of(self, item_id: str) -> int | None:
        """Place of an item, 0 for the best; None when it is not a candidate."""
        place = self.place_of(item_id)
        return None if place is None else place_of(place, self._n, self._numbers, self._names)

    def place_of(self, item_id: str) -> int | None:
        """Number of an item among the unordered candidates."""
        reference = self._blend.vocabulary.reference(item_id)
        if reference < 0:
            if item_id not in self._newcomers:
                return None
            reference = -1 - self._newcomers.index(item_id)
        place = find_reference(reference, self._n, self._names)
        return None if place < 0 else place

    def _best(self, n: int) -> NDArray[np.int64]:
        if n <= 0 or not self._n:
            return NO_PLACES
        return best_places(n, self._n, self._numbers, self._names, self._blend.vocabulary.generation)

    def _chosen(self, n: int, withheld: Collection[str]) -> NDArray[np.int64]:
        """The best *n* that are not withheld; all are looked at only when twice as many are not enough."""
        if not withheld:
            return self._best(n)
        best = self._best(2 * n)
        kept = [k for k, item_id in enumerate(self._named(best)) if item_id not in withheld]
        if len(kept) < n and len(best) < self._n:
            best = self._best(self._n)
            kept = [k for k, item_id in enumerate(self._named(best)) if item_id not in withheld]
        return best[kept[:n]]

    def _explained(
        self, places: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[list[int]]]:
        """Scores, lift of each code above the slate's mean, and what :func:`explain` says of each."""
        blend, m = self._blend, len(places)
        scores, lifts = np.empty((2, m)), np.empty((m, len(CODES)))
        reasons = np.empty((m, 6), np.int64)
        explain(
            places,
            self._n,
            *self.context,
            self.columns,
            self._numbers,
            self._names,
            blend.weights,
            blend.groups,
            NUMBER_OF_SOURCE,
            scores,
            lifts,
            reasons,
        )
        return scores, lifts, reasons.tolist()

    def _named(self, places: NDArray[np.int64]) -> list[str]:
        references = self._names[0, places].tolist()
        return [self._named_one(one & 0xFFFFFFFF if one >= 0 else one) for one in references]

    def _named_one(self, row: int) -> str:
        """Id of a row, or of a newcomer by its reference, which is below 0."""
        return self._blend.vocabulary.ids[row] if row >= 0 else self._newcomers[-row - 1]


def _spelled(codes: tuple[int, ...]) -> tuple[list[str], int, int]:
    """Texts of codes, and where among them a history item and the last are to be named, −1 for nowhere."""
    kept = [code for code in codes if code >= 0]
    places = [kept.index(code) if code in kept else -1 for code in (FOLLOWS_HISTORY, FOLLOWS_LAST_ITEM)]
    return [TEXTS[code] for code in kept], places[0], places[1]


SPELLED = {codes: _spelled(codes) for codes in product(range(-1, len(CODES)), repeat=3)}
NO_PLACES: NDArray[np.int64] = np.zeros(0, np.int64)
