"""Retrieve, then rank: simple sources propose items, and a small linear ranker learned online orders them.

Sources: sequential co-occurrence, the direct transition from the last item, the factor model, popularity at
several half-lives and among what visits begin with, items of a kind, and what a configuration adds. Each
gives its best items that are not excluded; a softmax ranker under AdaGrad with weights selected by context
orders the union.

Source of the step: Duchi, Hazan, Singer, *Adaptive Subgradient Methods*, JMLR 2011. What it gains is
measured by ``benchmarks/recommend_prequential.py``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from online_models.averaging import share_of
from online_models.content import learn_attributes
from online_models.delta import DeltaError
from online_models.history import HistoryRows
from online_models.kernels.proposing import propose
from online_models.kernels.ranker import softmax_step
from online_models.kernels.retrieval import CONTENT_VALUES, HIT_COLUMNS
from online_models.optional_source import NOBODY
from online_models.popularity import MAX_TIME_S, check_event
from online_models.ranker_features import (
    FIRST_EVENT,
    N_CONTEXTS,
    default_start,
    feature_names,
    gap_class,
    length_class,
    reason_codes,
    visit_begins,
)
from online_models.slate import CODES, NO_NEW_ITEMS, NewItems, Ranked, Reason, ReasonCode, Slate, Source

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from online_models.base import FactorSource, ItemModel, Snapshot
    from online_models.cooccurrence import SequentialCooccurrence
    from online_models.delta import DeltaReader, DeltaWriter
    from online_models.optional_source import Asker, OptionalSource
    from online_models.popularity import DecayedPopularity
    from online_models.vocabulary import Vocabulary

__all__ = ["MAX_HISTORY", "OnlineBlend", "Ranked", "Reason", "ReasonCode", "Slate", "Source"]

MAX_HISTORY = 64
LAST_CALL = 2**31 - 1  # the number of a call is the upper half of a mark
MAX_EXAMPLES = 2**53
# A first event teaches two rows of weights the same, and what people take first is not what they take: from
# 1 on, as all other squares, benchmarks/recommend_windows.py gives newcomers worse lists than popularity.
FIRST_SQUARES = 30.0
LISTED = 4  # times as many as an optional source may propose, for some are excluded


class OnlineBlend:
    """The learned blend of all sources of recommendations.

    As a :class:`~online_models.base.Foldable` it is the ranker alone; :attr:`models` lists it with its
    sources. Its steps answer to the weights they were taken at: the sum of steps that several workers took at
    the same time overshoots. So a batch's ranker is averaged with the one it meets, and counts the less the
    more was taught since the batch began (Xie, Koyejo, Gupta: Asynchronous Federated Optimization, 2019).
    Each context counts for itself: a batch without session starts leaves their weights alone.

    Parameters
    ----------
    vocabulary, popularity, cooccurrence, factors
        The sources, which share the vocabulary. Without a factor model its features are 0.
    candidates_per_source : int
        How many items each source proposes.
    eta : float
        Step of AdaGrad.
    start : mapping of str to float, optional
        Weights of features before anything is learned, by the names in :attr:`feature_names`;
        the rest starts at 0. They serve the first few hundred events.

    Examples
    --------
    >>> from online_models.cooccurrence import SequentialCooccurrence
    >>> from online_models.popularity import DecayedPopularity
    >>> from online_models.vocabulary import Vocabulary
    >>> from online_models.fold import ModelSet
    >>> vocabulary = Vocabulary(1000)
    >>> blend = OnlineBlend(vocabulary, DecayedPopularity(vocabulary), SequentialCooccurrence(vocabulary))
    >>> models = ModelSet(blend.models, vocabulary)
    >>> models.begin()
    >>> memory = blend.observe("bread", [], 0.0, 1.0, False, b"")
    >>> memory = blend.observe("butter", ["bread"], 10.0, 1.0, False, memory)
    >>> models.keep()
    >>> best = blend.propose(["bread"], 20.0, 20.0, {"bread"}).top(1)[0]
    >>> best.item_id, best.source.value
    ('butter', 'sequence')
    """

    name = "ranker"

    def __init__(
        self,
        vocabulary: Vocabulary,
        popularity: DecayedPopularity,
        cooccurrence: SequentialCooccurrence,
        factors: FactorSource | None = None,
        *,
        content: SequentialCooccurrence | None = None,
        optional: Sequence[OptionalSource] = (),
        candidates_per_source: int = 50,
        eta: float = 0.15,
        start: Mapping[str, float] | None = None,
    ) -> None:
        if candidates_per_source < 1 or candidates_per_source > popularity.depth or not eta > 0:
            message = (
                f"candidates_per_source {candidates_per_source}, eta {eta}; 1..{popularity.depth}, above 0"
            )
            raise ValueError(message)
        self.vocabulary = vocabulary
        self.popularity = popularity
        self.cooccurrence = cooccurrence
        self.factors = factors
        self.content = content
        self.optional = tuple(optional)
        self.eta = eta
        self.n_each = candidates_per_source
        self.feature_names = feature_names(popularity.half_lives_s, [source.name for source in optional])
        start = default_start(popularity.half_lives_s) if start is None else start
        unknown = set(start) - set(self.feature_names)
        if unknown:
            message = f"start weights for {sorted(unknown)}; features are {list(self.feature_names)}"
            raise ValueError(message)
        self.spec = (
            f"ranker(format=3, features={self.feature_names}, "
            f"candidates_per_source={candidates_per_source}, "
            f"eta={eta}, "
            f"first_squares={FIRST_SQUARES}, "
            f"start={sorted(start.items())})"
        )
        n_features, n_sources = len(self.feature_names), 4 + len(popularity.rates) + len(optional)
        self.weights = np.zeros((N_CONTEXTS, n_features))
        self.weights[0] = [start.get(feature, 0.0) for feature in self.feature_names]
        self.squares = np.ones((N_CONTEXTS, n_features))
        self.squares[FIRST_EVENT, :] = FIRST_SQUARES
        self._n_learned = [0] * N_CONTEXTS  # examples of the open batch
        self._taught = np.zeros(N_CONTEXTS, np.int64)  # examples of committed batches
        self._old = (self.weights.copy(), self.squares.copy(), self._taught.copy())
        self.groups = np.array(
            [
                CODES.index(code)
                for code in reason_codes(popularity.half_lives_s, [source.code for source in optional])
            ],
            np.int64,
        )
        rank_values = 1.0 - np.log(1.0 + np.arange(self.n_each + 1)) / math.log(1.0 + self.n_each)
        # Work space of one call; marks of other calls are void, so nothing is cleared until numbers run out.
        self._call = 0
        self._marks = np.zeros(vocabulary.max_rows, np.int64)
        self._history = HistoryRows(vocabulary, MAX_HISTORY)
        self._n_places = n_sources * self.n_each
        self._not_asked = (
            np.zeros((len(optional), 0), np.int32),
            np.zeros((len(optional), 0)),
            np.zeros(len(optional), np.int64),
        )
        n_marks = cooccurrence.ring * cooccurrence.refs.shape[1] + self._n_places
        if content is not None:
            n_marks += CONTENT_VALUES * content.refs.shape[1]
        self._read: tuple[Any, ...] = (
            vocabulary.order,
            *cooccurrence.read_arrays,
            *(NO_CONTENT if content is None else content.read_arrays[1:2] + content.read_arrays[3:]),
            popularity.rates,
            popularity.table,
            popularity.list_rows,
            popularity.marks,
            popularity.depth,
            *(NO_FACTORS if factors is None else factors.read_arrays),
            self.weights,
            rank_values,
            self._marks,
            np.zeros((n_marks, HIT_COLUMNS)),
            np.zeros(n_marks, np.int32),
            np.zeros(n_marks),
            np.zeros(n_marks, np.int32),
            np.zeros(self.n_each),
            np.zeros(self.n_each, np.int32),
            np.zeros(self.n_each, np.int32),
            np.zeros(self._n_places, np.int32),
            np.zeros(self._n_places, np.int32),
        )

    def __repr__(self) -> str:
        return f"OnlineBlend({len(self.vocabulary)} items, {len(self.feature_names)} features)"

    @property
    def models(self) -> tuple[ItemModel | OnlineBlend, ...]:
        """The sources and the ranker, for a model set."""
        sources = (self.factors, self.content, *(source.model for source in self.optional))
        return (self.popularity, self.cooccurrence, *(one for one in sources if one is not None), self)

    def propose(
        self,
        history: Sequence[str],
        at: float,
        gap_s: float | None,
        exclude: Collection[str],
        memory: bytes = b"",
        *,
        new_only: bool = False,
        asker: Asker = NOBODY,
        newcomers: NewItems = NO_NEW_ITEMS,
    ) -> Slate:
        """Candidates for a user, scored. Changes nothing.

        Parameters
        ----------
        history : sequence of str
            The user's items, newest first; at most 64 are read. Unknown ids are gaps.
        at : float
            Event time.
        gap_s : float or None
            Seconds since the user's last event about an item; None before any.
        exclude : collection of str
            Items that must not be proposed.
        memory : bytes
            The user's memory as :meth:`observe` returned it.
        new_only : bool
            Whether the items of the history (those that are read) must not be proposed either.
        asker : Asker
            Who asks; optional sources alone read it.
        newcomers : NewItems
            Items that nobody has met, best first.

        Raises
        ------
        ValueError
            When the time is not finite.
        """
        del memory  # it holds the vector that was learned with; the history gives the current one
        if not abs(at) <= MAX_TIME_S:
            message = f"event time {at}; a time within ±{MAX_TIME_S:g} s is needed"
            raise ValueError(message)
        vocabulary = self.vocabulary
        if self._call == LAST_CALL:
            self._marks[:] = self._call = 0
        self._call += 1
        context = gap_class(gap_s), length_class(len(history))
        rows, n_rows, complete = self._history.read(history)
        excluded = vocabulary.rows(exclude) if exclude else []
        new_ids, suits = newcomers
        if new_ids and (-1 in excluded or (new_only and not complete)):
            hidden = {*exclude, *history} if new_only else {*exclude}
            kept = [k for k, item_id in enumerate(new_ids) if item_id not in hidden]
            new_ids, suits = [new_ids[k] for k in kept], [suits[k] for k in kept]
        n_places = self._n_places + len(new_ids)
        features = np.empty((len(self.feature_names), n_places), np.float32)
        numbers = np.empty((2, n_places))
        names = np.empty((3, n_places), np.int64)
        listed = self._listed(rows[:n_rows], at, asker) if self.optional else self._not_asked
        n = propose(
            rows,
            n_rows,
            new_only,
            np.array(excluded, np.int32) if excluded else NO_ROWS,
            at,
            *context,
            visit_begins(gap_s, len(history)),
            listed[0],
            listed[1],
            listed[2],
            np.array(suits) if new_ids else NO_SUITS,
            self._call,
            features,
            numbers,
            names,
            *self._read,
        )
        return Slate(self, history, context, n, (features, numbers, names), new_ids)

    def _listed(
        self, rows: NDArray[np.int32], at: float, asker: Asker
    ) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64]]:
        """What the optional sources list: rows, scores, and how many."""
        n = LISTED * self.n_each  # some of them are excluded
        lists, scores = np.zeros((len(self.optional), n), np.int32), np.zeros((len(self.optional), n))
        lengths = np.zeros(len(self.optional), np.int64)
        for k, source in enumerate(self.optional):
            best, values = source.best(rows, at, asker)
            lengths[k] = length = min(len(best), n)
            lists[k, :length], scores[k, :length] = best[:length], values[:length]
        return lists, scores, lengths

    def learn_one(self, slate: Slate, item_id: str) -> None:
        """Teach the ranker that a user who could have had this slate chose an item.

        Nothing is learned when the item is not among the candidates: it would teach the ranker items it
        never sees.
        """
        if not self.vocabulary.is_open:
            message = "learning needs an open batch: call begin() first"
            raise RuntimeError(message)
        place = slate.place_of(item_id)
        if place is None:
            return
        gap, length = slate.context
        for context in (0, gap, length):
            self._n_learned[context] += 1
        softmax_step(place, len(slate), gap, length, self.eta, slate.columns, self.weights, self.squares)

    def observe(
        self,
        item_id: str,
        history: Sequence[str],
        at: float,
        weight: float,
        repeat: bool,  # noqa: FBT001
        memory: bytes,
        values: Sequence[str] = (),
        asker: Asker = NOBODY,
        *,
        gap_s: float | None = 0.0,
    ) -> bytes:
        """Teach the sources an event.

        Parameters
        ----------
        history : sequence of str
            The user's items before this one, newest first.
        weight : float
            Value of the event's type, above 0.
        repeat : bool
            Whether the user consumed the item before. A repeat counts for popularity alone.
        memory : bytes
            The user's memory, ``b""`` for a new user.
        values : sequence of str
            The item's attribute values, as :func:`online_models.content.attribute_value` writes them.
        asker : Asker
            Whose event it is; optional sources alone read it.
        gap_s : float or None
            Seconds since the user's last event about an item; None before any.

        Returns
        -------
        bytes
            The user's new memory.
        """
        check_event(at, weight)
        row = self.vocabulary.touch(item_id, at)
        self.popularity.learn_row(row, at, weight, visit_begins(gap_s, len(history)))
        if repeat:
            return memory
        rows, n, _ = self._history.read(history)
        self.cooccurrence.learn_row(row, rows, n, at, weight)
        if self.factors is not None:
            memory = self.factors.learn_one(row, rows[:n], at, weight, memory)
        losses = self.vocabulary.losses
        if values and self.content is not None:
            learn_attributes(self.content, row, values, at, weight)
        for source in self.optional:
            if losses != self.vocabulary.losses:  # what was met besides may have taken a row of these
                losses, row = self.vocabulary.losses, self.vocabulary.row(item_id)
                if row < 0:
                    break
                rows, n, _ = self._history.read(history)
            source.learn(row, rows[:n], at, weight, asker)
        return memory

    # The ranker as a model

    def begin(self) -> None:
        """Open a batch."""
        self._old[0][:] = self.weights
        self._old[1][:] = self.squares
        self._old[2][:] = self._taught

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write the ranker as the batch left it, its examples, and how many had been taught before."""
        if self._n_learned[0]:
            examples = np.stack([np.array(self._n_learned, np.int64), self._taught], axis=1)
            delta.add(self.name, {"weights": self.weights, "squares": self.squares, "examples": examples})

    def keep(self) -> None:
        """Close the batch."""
        self._taught += self._n_learned
        self._n_learned = [0] * N_CONTEXTS

    def rollback(self) -> None:
        """Close the batch and undo it."""
        self.weights[:], self.squares[:], self._taught[:] = self._old
        self._n_learned = [0] * N_CONTEXTS

    def fold(self, delta: DeltaReader) -> None:
        """Move the ranker towards where a batch left it, the less the more was taught meanwhile."""
        columns = delta.columns(self.name)
        if not columns:
            return
        examples = columns["examples"]
        counted = examples.shape == (N_CONTEXTS, 2) and examples.dtype == np.int64
        if not counted or not ((examples >= 0) & (examples < MAX_EXAMPLES)).all():
            raise DeltaError(f"a ranker taught by {examples[:1]} examples")
        weights, squares = self._checked(columns)
        n, base = examples.T
        share = share_of(n, self._taught - base)[:, None]
        for own, others in ((self.weights, weights), (self.squares, squares)):
            own[:] = np.where(share == 1.0, others, own + share * (others - own))
        self._taught += n

    def snapshot(self) -> Snapshot:
        """Weights, squared sums, and how many examples taught them, by context."""
        return {
            "weights": self.weights.copy(),
            "squares": self.squares.copy(),
            "taught": self._taught.copy(),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot."""
        self.weights[:], self.squares[:] = self._checked(arrays)
        self._taught[:] = arrays["taught"].astype(np.int64)

    def _checked(
        self, arrays: Mapping[str, NDArray[np.generic]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weights, squares = arrays["weights"].astype(np.float64), arrays["squares"].astype(np.float64)
        if weights.shape != self.weights.shape or squares.shape != self.squares.shape:
            message = f"weights of shape {weights.shape} and {squares.shape}; expected {self.weights.shape}"
            raise DeltaError(message)
        if not (np.isfinite(weights).all() and np.isfinite(squares).all()):
            message = "weights that are no finite numbers"
            raise DeltaError(message)
        return weights, squares


NO_ROWS: NDArray[np.int32] = np.zeros(0, np.int32)
NO_SUITS: NDArray[np.float64] = np.zeros(0)
NO_CONTENT: tuple[NDArray[Any], ...] = (
    np.zeros(3),
    np.zeros((0, 0), np.int32),
    np.zeros((0, 0, 4), np.float32),
    np.zeros((0, 4)),
)
NO_FACTORS: tuple[NDArray[Any], ...] = (
    np.zeros(0),
    np.zeros(0),
    np.zeros((0, 2), np.float32),
    np.zeros((2, 0, 0)),
    np.zeros((0, 0), np.float32),
    np.zeros(1, np.int32),
    np.zeros(0, np.float32),
)
