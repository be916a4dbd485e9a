"""Streaming implicit ALS in additive form.

One row of the table holds an item: ``[A (lower triangle, K(K+1)/2) | b (K) | q (K) | n, solved]``, float32;
``gram`` holds G_Q = Σ q qᵀ over solved items and G_P = Σ p pᵀ over users, float64[2, K, K].
Solved vectors of items with more than one event are repeated in ``columns``, float32[K, n_rows], by factor,
to score them all along rows; ``shown``, int32[1 + n_rows], holds their number and the row of each column, and
``places``, int32[n_rows], one more than a row's column, or 0. To score the long tail of items with one event
would cost most of the time and finds nothing (``benchmarks/recommend_prequential.py``).

An event (user, item i) with the user's vector p before and p' after its solve, and weight ω::

    p'  = (w0·G_Q + λI + Σ_a e^{-βa} q_a q_aᵀ)⁻¹ Σ_a (e^{-βa} + w0) q_a    ages a, i has 0
    G_P += p'p'ᵀ - p pᵀ
    A_i  = γA_i + ω p'p'ᵀ          b_i = γb_i + ω(1 + w0) p'          n_i += 1
    A_j += w_j (p'p'ᵀ - p pᵀ)      b_j += w_j (1 + w0)(p' - p)        j: the user's newest other items
    q    = (w0·s·G_P + λI + A)⁻¹ b   for i and the newest few j;  G_Q += q'q'ᵀ - q qᵀ

with w_j = ω_j γ^(n_j - n_j at that entry): the contribution follows the user; s = min(1, κ tr A / tr G_P).
A forgets and G_P does not: it holds every user there ever was. Without s the penalty of an item that goes on
being chosen would outgrow its evidence, and all vectors with it would fade away.
An operation carries p', p, every w_j and which items were solved. Folding adds, and solves these again: a
vector that came with the operation would not know what others taught at the same time, and the last one
folded would win. Where nobody else taught anything the statistics have the learner's bits, and so has the
solution.
G_Q always equals the sum over the vectors that are in the table.
Products enter the Gram matrices rounded to a grid of powers of two, so the sums are exact, free of order, and
never drift; taking an old vector away removes exactly what it once added.

References
----------
Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008.
He, Zhang, Kan, Chua: Fast Matrix Factorization for Online Recommendation with Implicit Feedback, SIGIR 2016.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from online_models.kernels._jit import kernel, part, wide
from online_models.kernels.cholesky import solve_in_place
from online_models.kernels.factor_scores import MAX_FACTOR, plausible, user_system
from online_models.kernels.journal import remember
from online_models.kernels.vocabulary import refer

__all__ = ["clear", "fold", "learn", "show"]

# numba: float(x) of a float32 stays a float32, so values of the table are widened by np.float64(x).

_GRID = 2.0**24  # entries of one product are at most 64, so sums of 8 million of them are exact
_COUNT = 2.0**24  # counts are kept modulo this, where float32 is still exact
_INIT_STEP = (
    0.1 / 37837.0
)  # four uniform 16-bit numbers have this standard deviation: sqrt(4 (2**32 - 1) / 12)


@kernel
def _start(row: int, order: NDArray[np.int64], table: NDArray[np.float32], at_q: int, n_factors: int) -> None:
    """Give a new item its first vector, nearly normal with deviation .1, from the hash of its id alone.

    Integers only: the same bits on every machine.
    """
    seed = (order[row] ^ (order[row] >> 31)) & 0x7FFFFFFF
    for k in range(n_factors):
        total = 0
        for piece in range(4):
            word = (seed + (4 * k + piece + 1) * 0x1E3779B1) & 0x7FFFFFFF
            word = ((word ^ (word >> 15)) * 0x45D9F3B) & 0x7FFFFFFF
            word = ((word ^ (word >> 15)) * 0x45D9F3B) & 0x7FFFFFFF
            total += (word >> 9) & 0xFFFF
        table[row, at_q + k] = (total - 131070) * _INIT_STEP


@part
def _move_gram(
    gram: NDArray[np.float64], new: NDArray[np.float32], old: NDArray[np.float32], had: bool
) -> None:
    """Replace the outer product of ``old``, if it was in, by that of ``new``; exact on the grid."""
    n = gram.shape[0]
    for k in range(n):
        for m in range(n):
            change = np.rint(np.float64(new[k]) * np.float64(new[m]) * _GRID)
            if had:
                change -= np.rint(np.float64(old[k]) * np.float64(old[m]) * _GRID)
            gram[k, m] += change / _GRID


@part
def _add_statistics(
    row: int,
    new: NDArray[np.float32],
    old: NDArray[np.float32],
    weight: float,
    others: NDArray[np.int32],
    weights: NDArray[np.float32],
    gamma: float,
    w0: float,
    order: NDArray[np.int64],
    table: NDArray[np.float32],
    book: NDArray[np.int64],
    kept: NDArray[np.float32],
    gram_p: NDArray[np.float64],
) -> None:
    """Add what one event says to its item and to the user's other items; rows of -1 are not here."""
    n = new.shape[0]
    triangle = n * (n + 1) // 2
    at_count = table.shape[1] - 2
    _move_gram(gram_p, new, old, True)
    difference = np.empty(triangle + n)
    at = 0
    for k in range(n):
        for m in range(k + 1):
            difference[at] = np.float64(new[k]) * np.float64(new[m])
            at += 1
    for k in range(n):
        difference[triangle + k] = (1.0 + w0) * np.float64(new[k])
    if row >= 0:
        remember(row, table, book, kept)
        if table[row, at_count] == 0.0 and table[row, at_count + 1] == 0.0:
            _start(row, order, table, triangle + n, n)
        for c in range(triangle + n):
            table[row, c] = gamma * np.float64(table[row, c]) + weight * difference[c]
        count = np.float64(table[row, at_count]) + 1.0
        table[row, at_count] = 0.0 if count == _COUNT else count
    at = 0
    for k in range(n):
        for m in range(k + 1):
            difference[at] -= np.float64(old[k]) * np.float64(old[m])
            at += 1
    for k in range(n):
        difference[triangle + k] -= (1.0 + w0) * np.float64(old[k])
    for other in range(others.shape[0]):
        j = wide(others[other])
        if j < 0:
            continue
        remember(j, table, book, kept)
        w = np.float64(weights[other])
        for c in range(triangle + n):
            table[j, c] = np.float64(table[j, c]) + w * difference[c]


@part
def _replace_vector(
    row: int,
    new: NDArray[np.float32],
    table: NDArray[np.float32],
    book: NDArray[np.int64],
    kept: NDArray[np.float32],
    gram_q: NDArray[np.float64],
) -> None:
    """Give an item a solved vector; its first random one never was in the Gram matrix."""
    n = new.shape[0]
    at_q = n * (n + 1) // 2 + n
    solved = table.shape[1] - 1
    remember(row, table, book, kept)
    _move_gram(gram_q, new, table[row, at_q : at_q + n], table[row, solved] != 0.0)
    for k in range(n):
        table[row, at_q + k] = new[k]
    table[row, solved] = 1.0


@part
def _show(
    row: int,
    n: int,
    table: NDArray[np.float32],
    columns: NDArray[np.float32],
    shown: NDArray[np.int32],
    places: NDArray[np.int32],
) -> None:
    """Bring an item's column to its vector: into a new column, or out of its own, as the table says."""
    at_count = table.shape[1] - 2
    place = places[row]
    if table[row, at_count + 1] != 0.0 and table[row, at_count] != 1.0:
        if place == 0:
            shown[0] += 1
            place = shown[0]
            shown[place] = row
            places[row] = place
        for k in range(n):
            columns[k, place - 1] = table[row, at_count - n + k]
    elif place > 0:  # the last column takes its place
        last = shown[0]
        for k in range(n):
            columns[k, place - 1] = columns[k, last - 1]
        shown[place] = shown[last]
        places[shown[last]] = place
        places[row] = 0
        shown[0] = last - 1


@kernel
def show(
    rows: NDArray[np.int64],
    table: NDArray[np.float32],
    gram: NDArray[np.float64],
    columns: NDArray[np.float32],
    shown: NDArray[np.int32],
    places: NDArray[np.int32],
) -> None:
    """Bring the columns of rows to their vectors, after the table was changed elsewhere."""
    for row in rows:
        _show(row, gram.shape[1], table, columns, shown, places)


@part
def _solve_item(
    row: int,
    settings: NDArray[np.float64],
    table: NDArray[np.float32],
    gram_p: NDArray[np.float64],
    q: NDArray[np.float32],
) -> bool:
    w0, lambda_, kappa = settings[0], settings[1], settings[5]
    n = q.shape[0]
    evidence = 0.0
    everybody = 0.0
    for k in range(n):
        evidence += np.float64(table[row, k * (k + 3) // 2])
        everybody += gram_p[k, k]
    unseen = w0
    if kappa * evidence < everybody:
        unseen = w0 * kappa * max(evidence, 0.0) / everybody
    a = np.empty((n, n))
    b = np.empty(n)
    at = 0
    for k in range(n):
        for m in range(k + 1):
            a[m, k] = unseen * gram_p[m, k] + np.float64(table[row, at])
            at += 1
        a[k, k] += lambda_
    for k in range(n):
        b[k] = table[row, at + k]
    if not solve_in_place(a, b):
        return False
    for k in range(n):
        q[k] = min(max(b[k], -MAX_FACTOR), MAX_FACTOR)
    return True


@part
def _tag(row: int, order: NDArray[np.int64], generation: NDArray[np.int64]) -> int:
    """32 bits that stand for an item while it has its row."""
    return int((order[row] ^ (generation[row] * 0x9E3779B1)) & 0xFFFFFFFF)


@kernel
def learn(
    row: int,
    history: NDArray[np.int32],
    weight_code: int,
    memory: NDArray[np.uint32],
    decay: NDArray[np.float64],
    settings: NDArray[np.float64],
    order: NDArray[np.int64],
    generation: NDArray[np.int64],
    indices: NDArray[np.int64],
    strings: NDArray[np.int64],
    table: NDArray[np.float32],
    book: NDArray[np.int64],
    kept: NDArray[np.float32],
    gram: NDArray[np.float64],
    columns: NDArray[np.float32],
    shown: NDArray[np.int32],
    places: NDArray[np.int32],
    n_operations: int,
    all_items: NDArray[np.int32],
    all_numbers: NDArray[np.float32],
    memory_out: NDArray[np.uint32],
) -> int:
    """Learn one event in place and record its operation; return the number of words of the new memory.

    Parameters
    ----------
    history : int32[h]
        Rows of the user's earlier items, newest first, -1 for unknown ones.
    weight_code : int
        Weight of the event in sixteenths, 1 to 255.
    memory : uint32
        Words ``[head, p..., tags..., counts...]`` of the user, or none; header and size are checked.
    settings : float64[6]
        w0, λ, γ, refresh, resolve, κ.
    order, generation, indices, strings
        Of the vocabulary: hashes of ids, generations, batch-local indices and the batch's table of strings.
    all_items : int32[n, 1 + refresh + 1 + resolve]
        Receives at ``n_operations`` indices: the item, the refreshed, the solved; -1 where there is none.
    all_numbers : float32[n, 1 + 2K + refresh]
        Receives there the weight, p', p, the weights of the refreshed.
    """
    w0, lambda_, gamma = settings[0], settings[1], settings[2]
    refresh, resolve = int(settings[3]), int(settings[4])
    n = gram.shape[1]
    triangle = n * (n + 1) // 2
    at_q = triangle + n
    at_count = table.shape[1] - 2
    op_items = all_items[n_operations]
    op_numbers = all_numbers[n_operations]
    op_items[:] = -1
    op_numbers[:] = 0.0
    p_new = op_numbers[1 : 1 + n]
    p_old = op_numbers[1 + n : 1 + 2 * n]
    weights = op_numbers[1 + 2 * n : 1 + 2 * n + refresh]
    known_entries = 0
    if memory.shape[0] > 0 and plausible(memory[1 : 1 + n].view(np.float32)):
        known_entries = int(np.int64(memory[0]) >> 16)
        p_old[:] = memory[1 : 1 + n].view(np.float32)

    remember(row, table, book, kept)
    if table[row, at_count] == 0.0 and table[row, at_count + 1] == 0.0:
        _start(row, order, table, at_q, n)
    a = w0 * gram[0]
    b = np.zeros(n)
    for k in range(n):
        a[k, k] += lambda_
        q_k = np.float64(table[row, at_q + k])
        b[k] = (1.0 + w0) * q_k
        for m in range(n):
            a[k, m] += q_k * np.float64(table[row, at_q + m])
    user_system(history, decay[1:], w0, table, at_q, a, b)
    if solve_in_place(a, b):
        for k in range(n):
            p_new[k] = min(max(b[k], -MAX_FACTOR), MAX_FACTOR)
    else:
        p_new[:] = p_old

    weight = weight_code / 16.0
    op_items[0] = refer(row, indices, strings)
    op_numbers[0] = weight
    # The contributions of the user's newest items follow the user. Their entries go on into the new memory.
    others = np.full(refresh, -1, np.int32)
    tag_at = 1 + n
    entries = 1
    memory_out[tag_at] = _tag(row, order, generation)
    for at in range(min(refresh, history.shape[0])):
        j = wide(history[at])
        if j < 0 or j == row:
            continue
        tag = _tag(j, order, generation)
        for entry in range(known_entries):
            if np.int64(memory[tag_at + entry]) != tag:
                continue
            packed = np.int64(memory[tag_at + known_entries + entry])
            behind = np.int64(table[j, at_count]) - (packed & 0xFFFFFF)
            if behind < 0:
                behind += np.int64(_COUNT)
            w = float(packed >> 24) / 16.0 * gamma**behind
            others[at] = j
            weights[at] = w
            op_items[1 + at] = refer(j, indices, strings)
            if entries < refresh:
                memory_out[tag_at + entries] = tag
                memory_out[tag_at + refresh + entries] = packed
                entries += 1
            break
    _add_statistics(row, p_new, p_old, weight, others, weights, gamma, w0, order, table, book, kept, gram[1])
    memory_out[tag_at + refresh] = int(table[row, at_count]) | (weight_code << 24)

    q = np.empty(n, np.float32)
    for solve in range(1 + resolve):
        j = row if solve == 0 else -1
        if 0 < solve <= min(refresh, history.shape[0]):
            j = wide(others[solve - 1])
        if j < 0:
            continue
        if _solve_item(j, settings, table, gram[1], q):
            op_items[1 + refresh + solve] = refer(j, indices, strings)
            _replace_vector(j, q, table, book, kept, gram[0])
        _show(j, n, table, columns, shown, places)

    memory_out[0] = 1 | (n << 8) | (entries << 16)  # version, K, entries
    memory_out[1 : 1 + n] = p_new.view(np.uint32)
    for entry in range(entries):  # close the gap behind the tags
        memory_out[tag_at + entries + entry] = memory_out[tag_at + refresh + entry]
    return int(1 + n + 2 * entries)


@kernel
def fold(
    rows: NDArray[np.int32],
    numbers: NDArray[np.float32],
    settings: NDArray[np.float64],
    order: NDArray[np.int64],
    table: NDArray[np.float32],
    journal: tuple[NDArray[np.int64], NDArray[np.float32]],
    gram: NDArray[np.float64],
    columns: NDArray[np.float32],
    shown: NDArray[np.int32],
    places: NDArray[np.int32],
    call: int,
    marks: NDArray[np.int64],
) -> None:
    """Apply recorded operations in order.

    Parameters
    ----------
    rows : int32[n, 1 + refresh + 1 + resolve]
        Items of the operations here, -1 where there is none. Of the places at which an item is solved only
        the last is left: nothing that is folded reads the vectors in between.
    call, marks : int, int64[n_rows]
        Work space: places that hold another number than this call's are void.
    """
    w0, gamma = settings[0], settings[2]
    refresh, resolve = int(settings[3]), int(settings[4])
    book, kept = journal
    n = gram.shape[1]
    for at in range(rows.shape[0] - 1, -1, -1):
        for place in range(1 + refresh, 2 + refresh + resolve):
            j = rows[at, place]
            if j >= 0 and marks[j] == call:
                rows[at, place] = -1
            elif j >= 0:
                marks[j] = call
    q = np.empty(n, np.float32)
    for at in range(rows.shape[0]):
        row = wide(rows[at, 0])
        _add_statistics(
            row,
            numbers[at, 1 : 1 + n],
            numbers[at, 1 + n : 1 + 2 * n],
            np.float64(numbers[at, 0]),
            rows[at, 1 : 1 + refresh],
            numbers[at, 1 + 2 * n :],
            gamma,
            w0,
            order,
            table,
            book,
            kept,
            gram[1],
        )
        for solve in range(1 + resolve):
            j = wide(rows[at, 1 + refresh + solve])
            if j >= 0 and _solve_item(j, settings, table, gram[1], q):
                _replace_vector(j, q, table, book, kept, gram[0])
                _show(j, n, table, columns, shown, places)
        if row >= 0:
            _show(row, n, table, columns, shown, places)


@kernel
def clear(
    row: int,
    table: NDArray[np.float32],
    journal: tuple[NDArray[np.int64], NDArray[np.float32]],
    gram: NDArray[np.float64],
    columns: NDArray[np.float32],
    shown: NDArray[np.int32],
    places: NDArray[np.int32],
) -> None:
    """Forget an item and take its vector out of the Gram matrix."""
    book, kept = journal
    n = gram.shape[1]
    at_q = n * (n + 1) // 2 + n
    remember(row, table, book, kept)
    if table[row, table.shape[1] - 1] != 0.0:
        _move_gram(gram[0], np.zeros(n, np.float32), table[row, at_q : at_q + n], True)
    table[row, :] = 0.0
    _show(row, n, table, columns, shown, places)
