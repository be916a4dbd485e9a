"""Matrix factorisation of implicit feedback, solved exactly on each event and additive over workers.

The maths is in :mod:`online_models.kernels.factors`, reasons and numbers in
``docs/models/factorisation.md``.
No table of users is kept: what the model remembers of a user is a few hundred bytes that live with the user's
other state and come in with each event.

References
----------
Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_models.base import Snapshot
from online_models.delta import STEP, DeltaError, DeltaReader, DeltaWriter
from online_models.journal import Journal
from online_models.kernels import factor_scores, factors
from online_models.kernels.factor_scores import MAX_FACTOR
from online_models.vocabulary import Vocabulary

__all__ = ["StreamingIALS"]

MAX_WEIGHT = 255.0 / 16.0  # weights are kept in sixteenths, in one byte
MIN_RIDGE = 1e-3  # keeps a system of one item solvable in float32
_NO_MEMORY = np.frombuffer(b"", np.uint32)
_VERSION = 1


class StreamingIALS:
    """Streaming implicit ALS with additive item statistics and refresh.

    Parameters
    ----------
    vocabulary : Vocabulary
        Shared with the other item models; the model subscribes to its evictions.
    n_factors : int
        16 equals 32 within the blend.
    w0, lambda_ : float
        Weight of the unobserved, and ridge. From λ = 10 on the factors collapse.
    beta : float
        Recency: an item of age a in the user's history counts e^(−βa).
    gamma : float
        Decay of an item's statistics for each event of the item.
    kappa : float
        The users who did not choose an item weigh at most this many times those its statistics remember, each
        by w0. Keeps the vectors' size where it is, however many users come; ``inf`` counts every user.
    ring : int
        Items of a history that are used.
    refresh, resolve : int
        Newest other items of the user whose statistics follow the user, and of these, that are solved again.
    scan_limit : int
        With more items of several events than this :meth:`retrieve` proposes none, so that the cost of an
        event stays flat; :meth:`score` still orders what other sources propose.

    Examples
    --------
    >>> vocabulary = Vocabulary(max_rows=100)
    >>> model = StreamingIALS(vocabulary, n_factors=4)
    >>> vocabulary.begin()
    >>> model.begin()
    >>> memory, history = b"", np.zeros(0, np.int32)
    >>> for at, item in enumerate(["a", "b", "c"]):
    ...     row = vocabulary.touch(item, float(at))
    ...     memory = model.learn_one(row, history, float(at), 1.0, memory)
    ...     history = np.r_[np.int32(row), history].astype(np.int32)
    >>> model.user_vector(history, memory).shape, len(memory)
    ((4,), 44)
    """

    name = "factors"

    def __init__(
        self,
        vocabulary: Vocabulary,
        n_factors: int = 16,
        *,
        w0: float = 0.1,
        lambda_: float = 1.0,
        beta: float = 0.2,
        gamma: float = 0.98,
        kappa: float = 100.0,
        ring: int = 64,
        refresh: int = 16,
        resolve: int = 0,
        scan_limit: int = 100_000,
    ) -> None:
        if not 1 <= n_factors <= 128:
            raise ValueError(f"n_factors is {n_factors}; it must be from 1 to 128")
        if not (w0 >= 0.0 and lambda_ >= MIN_RIDGE and beta >= 0.0 and 0.0 < gamma <= 1.0):
            raise ValueError(
                f"w0 {w0}, beta {beta} at least 0; lambda_ {lambda_} at least .001; gamma {gamma} in (0, 1]"
            )
        if not kappa > 0.0:
            raise ValueError(f"kappa is {kappa}; it must be above 0")
        if not (1 <= refresh <= 255 and 0 <= resolve <= refresh and ring >= 1):
            raise ValueError(
                f"refresh {refresh} from 1 to 255, resolve {resolve} up to refresh, ring {ring} at least 1"
            )
        self.n_factors = n_factors
        self.spec = (
            f"factors(format=3, n_factors={n_factors}, w0={w0!r}, lambda_={lambda_!r}, beta={beta!r}, "
            f"gamma={gamma!r}, kappa={kappa!r}, ring={ring}, refresh={refresh}, resolve={resolve})"
        )
        self._vocabulary = vocabulary
        self._w0, self._lambda = w0, lambda_
        self._decay = np.exp(-beta * np.arange(ring))
        self._settings = np.array([w0, lambda_, gamma, refresh, resolve, kappa], np.float64)
        width = n_factors * (n_factors + 1) // 2 + 2 * n_factors + 2
        self._table = np.zeros((vocabulary.max_rows, width), np.float32)
        self._shown = (
            np.zeros((n_factors, vocabulary.max_rows), np.float32),
            np.zeros(1 + vocabulary.max_rows, np.int32),
            np.zeros(vocabulary.max_rows, np.int32),
        )
        self._gram = np.zeros((2, n_factors, n_factors))
        self._gram_before = np.zeros_like(self._gram)
        self._journal = Journal(self._table)
        self._undo = (self._journal.book, self._journal.old)
        self._words = np.zeros(1 + n_factors + 2 * refresh, np.uint32)
        self._scan = np.zeros(min(scan_limit, vocabulary.max_rows), np.float32)
        self._seen = np.zeros(vocabulary.max_rows, np.int64)  # the marks of the calls before are void
        self._call = 0
        self._n_ops = 0
        self._steps: list[int] = []
        self._op_items = np.zeros((64, 2 + refresh + resolve), np.int32)
        self._op_numbers = np.zeros((64, 1 + 2 * n_factors + refresh), np.float32)
        self._open = False
        self.read_arrays: tuple[NDArray[Any], ...] = (
            self._decay,
            self._settings,
            self._table,
            self._gram,
            *self._shown[:2],
            self._scan,
        )
        vocabulary.subscribe(self.clear_row)

    # Reading

    def user_vector(self, history: NDArray[np.int32], memory: bytes) -> NDArray[np.float32] | None:
        """Fold the user in from the rows of their items, newest first; None when none of them is known.

        The memory is not read: it holds the vector that was learned with, and this one is current.
        """
        del memory
        p = np.empty(self.n_factors, np.float32)
        known = factor_scores.user(history, self._decay, self._w0, self._lambda, self._table, self._gram, p)
        return p if known else None

    def score(self, p_u: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.float64]:
        """Scores of rows, 0 for the unknown; shape ``(len(rows),)``."""
        out = np.empty(len(rows))
        factor_scores.score(p_u, rows, self._table, out)
        return out

    def retrieve(self, p_u: NDArray[np.float32], excluded: NDArray[np.int32], n: int) -> NDArray[np.int32]:
        """Rows of the *n* best items that are not excluded, best first, ties by the hash of the id.

        Items of a single event are not among them.
        """
        columns, shown, _ = self._shown
        rows = np.empty(min(n, int(shown[0])), np.int32)
        if shown[0] > len(self._scan) or not len(rows):
            return rows[:0]
        self._call += 1
        self._seen[excluded[excluded >= 0]] = self._call
        found = factor_scores.top(
            p_u,
            self._call,
            self._seen,
            self._vocabulary.order,
            columns,
            shown,
            self._scan,
            rows,
            np.empty(len(rows)),
        )
        return rows[:found]

    def explain(self, history: NDArray[np.int32], row: int) -> NDArray[np.float64]:
        """What each item of the history adds to the score of a row; exact, shape ``(len(history),)``.

        Reference: section 5 of Hu, Koren and Volinsky 2008.
        """
        out = np.zeros(len(history))
        factor_scores.terms(history, row, self._decay, self._w0, self._lambda, self._table, self._gram, out)
        return out

    def norm(self) -> float:
        """Frobenius norm of G_Q: a collapse of the factors shows here first."""
        return float(np.sqrt((self._gram[0] ** 2).sum()))

    # Learning

    def learn_one(
        self, row: int, history: NDArray[np.int32], at: float, weight: float, memory: bytes
    ) -> bytes:
        """Learn that a user chose an item.

        Parameters
        ----------
        row : int
            The item's row; the vocabulary was touched for this event.
        history : int32[h]
            Rows of the user's earlier items, newest first, −1 for unknown ones.
        at : float
            Event time; the model decays by counts and does not use it.
        weight : float
            Importance, kept in sixteenths up to 15.9; below 1/32 nothing is learned.
        memory : bytes
            What this method returned for the user's event before, or ``b""``.

        Returns
        -------
        bytes
            The user's new memory, at most ``4 + 4·n_factors + 8·refresh`` bytes.

        Raises
        ------
        RuntimeError
            When no batch is open.
        ValueError
            When the weight is negative or not finite.
        """
        del at
        if not self._open:
            raise RuntimeError("learning needs an open batch: call begin() first")
        if not 0.0 <= weight < math.inf:
            raise ValueError(f"weight is {weight}; it must be finite and not negative")
        weight_code = round(min(weight, MAX_WEIGHT) * 16.0)
        if weight_code == 0:
            return memory
        n = self._n_ops
        if n == len(self._op_items):
            self._op_items = np.concatenate([self._op_items, np.zeros_like(self._op_items)])
            self._op_numbers = np.concatenate([self._op_numbers, np.zeros_like(self._op_numbers)])
        vocabulary, journal = self._vocabulary, self._journal
        n_words = factors.learn(
            row,
            history,
            weight_code,
            self._read(memory),
            self._decay,
            self._settings,
            vocabulary.order,
            vocabulary.generation,
            vocabulary.indices,
            vocabulary.table,
            self._table,
            journal.book,
            journal.old,
            self._gram,
            *self._shown,
            n,
            self._op_items,
            self._op_numbers,
            self._words,
        )
        self._steps.append(vocabulary.step)
        self._n_ops = n + 1
        return self._words[:n_words].tobytes()

    def _read(self, memory: bytes) -> NDArray[np.uint32]:
        """Words of a memory; none when its version or size cannot be ours."""
        if len(memory) < 4 or memory[0] != _VERSION or memory[1] != self.n_factors:
            return _NO_MEMORY
        if len(memory) != 4 + 4 * self.n_factors + 8 * memory[2] or memory[3]:
            return _NO_MEMORY
        return np.frombuffer(memory, np.uint32)

    # One batch

    def begin(self) -> None:
        """Open a batch."""
        if self._open:
            raise RuntimeError("a batch is open already: keep() or rollback() it first")
        self._journal.begin()
        self._gram_before[:] = self._gram
        self._open = True

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write the batch's operations in order."""
        n = self._n_ops
        delta.add(
            self.name,
            {
                STEP: np.array(self._steps, np.int32),
                "items": self._op_items[:n],
                "numbers": self._op_numbers[:n],
            },
        )

    def keep(self) -> None:
        """Close the batch and keep what it learned."""
        self._journal.keep()
        self._close()

    def rollback(self) -> None:
        """Close the batch and undo it, bit for bit."""
        rows = self._journal.rows.copy()
        self._journal.rollback()
        factors.show(rows, self._table, self._gram, *self._shown)
        self._gram[:] = self._gram_before
        self._close()

    def _close(self) -> None:
        self._n_ops = 0
        self._steps.clear()
        self._open = False

    def fold(self, delta: DeltaReader) -> None:
        """Apply a committed batch's operations in order."""
        columns = delta.columns(self.name)
        if not columns:
            return
        items, numbers = columns["items"], columns["numbers"]
        widths = (self._op_items.shape[1], self._op_numbers.shape[1])
        if items.shape[1:] != widths[:1] or numbers.shape[1:] != widths[1:] or numbers.dtype != np.float32:
            raise DeltaError(
                f"factor operations of {items.shape[1:]} items and {numbers.shape[1:]} numbers; {widths} fit"
            )
        if not (np.abs(numbers) <= 2.0 * MAX_FACTOR).all():  # also false for NaN
            raise DeltaError("a factor operation holds a number that is not finite or out of range")
        self._call += 1
        factors.fold(
            delta.item_rows(items),
            numbers.copy(),  # a kernel would be compiled again for read-only arrays
            self._settings,
            self._vocabulary.order,
            self._table,
            self._undo,
            self._gram,
            *self._shown,
            self._call,
            self._seen,
        )

    def clear_row(self, row: int) -> None:
        """Forget the item of a row: it is about to pass to another."""
        factors.clear(row, self._table, self._undo, self._gram, *self._shown)

    # State

    def snapshot(self) -> Snapshot:
        """Rows of the vocabulary's items, and the Gram matrices."""
        return {"table": self._table[: len(self._vocabulary)].copy(), "gram": self._gram.copy()}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot; the vocabulary's was restored before."""
        table, gram = arrays["table"].astype(np.float32), arrays["gram"].astype(np.float64)
        n = len(table)
        if n > len(self._table) or table.shape[1:] != self._table.shape[1:] or gram.shape != self._gram.shape:
            raise ValueError(
                f"a snapshot of shapes {table.shape}, {gram.shape}; {self._table.shape} rows fit"
            )
        if not (np.isfinite(table).all() and np.isfinite(gram).all()):
            raise ValueError("a snapshot of factors holds numbers that are not finite")
        self._table[:] = 0.0
        self._table[:n] = table
        self._gram[:] = gram
        factors.show(np.arange(len(self._table)), self._table, self._gram, *self._shown)

    def digest_arrays(self, rows: NDArray[np.int64]) -> Iterable[NDArray[np.generic]]:
        """Statistics, vectors and counts in the order of the rows, and the Gram matrices."""
        yield self._table[rows]
        yield self._gram
