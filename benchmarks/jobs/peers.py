"""What other libraries take for the same events: a step of learning, and a list of ten.

River's matrix factorisation learns each event and ranks some candidates; Vowpal Wabbit likewise, with
interactions of user and item; implicit fits all events at once, as it is meant to be used, and ranks
everything. A library that is not installed is left out, and the report says so.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

__all__ = ["PEERS", "measured"]

CANDIDATES = 100  # of a list, where a peer ranks candidates: about as many as the blend proposes
FACTORS = 16
LISTS = 200

Event = tuple[str, list[str], float]


def measured(events: Sequence[Event], n_items: int) -> dict[str, Any]:
    """Figures of each peer, or why there are none."""
    found: dict[str, Any] = {}
    for name, (module, measure) in PEERS.items():
        try:
            library = importlib.import_module(module)
        except ImportError:
            found[name] = f"skipped: {module} is not installed"
        else:
            found[name] = {"version": getattr(library, "__version__", "")} | measure(events, n_items)
    return found


def users_of(events: Sequence[Event]) -> list[str]:
    """A made-up user for each event: whoever has the same last item is the same."""
    return [f"u-{history[0]}" if history else "u-new" for _, history, _ in events]


def per_us(began: float, n: int) -> float:
    """Microseconds for each of ``n`` since a moment."""
    return round((time.perf_counter() - began) / n * 1e6, 2)


def _candidates(n_items: int) -> list[str]:
    return [f"sku-{n:06d}" for n in range(min(CANDIDATES, n_items))]


def _river(events: Sequence[Event], n_items: int) -> dict[str, float]:
    from river import reco

    model = reco.BiasedMF(n_factors=FACTORS, seed=1)
    users = users_of(events)
    candidates: set[Hashable] = {*_candidates(n_items)}
    began = time.perf_counter()
    for user, (item, _, _) in zip(users, events, strict=True):
        model.learn_one(user, item, 1.0)  # type: ignore[no-untyped-call]  # River's own
    learn = per_us(began, len(events))
    began = time.perf_counter()
    for user in users[:LISTS]:
        model.rank(user, candidates)[:10]
    return {"learn": learn, "list_of_10": per_us(began, LISTS), "candidates": float(len(candidates))}


def _vowpal_wabbit(events: Sequence[Event], n_items: int) -> dict[str, float]:
    from vowpalwabbit import Workspace

    model = Workspace(f"--quiet --loss_function logistic --lrq ui{FACTORS} --random_seed 1")
    users, candidates = users_of(events), _candidates(n_items)
    began = time.perf_counter()
    for user, (item, _, _) in zip(users, events, strict=True):
        model.learn(f"1 |u {user} |i {item}")
    learn = per_us(began, len(events))
    began = time.perf_counter()
    for user in users[:LISTS]:
        sorted(candidates, key=lambda item: -model.predict(f"|u {user} |i {item}"))[:10]
    took = per_us(began, LISTS)
    model.finish()
    return {"learn": learn, "list_of_10": took, "candidates": float(len(candidates))}


def _implicit(events: Sequence[Event], n_items: int) -> dict[str, float]:
    import numpy as np
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    users = users_of(events)
    rows = {user: n for n, user in enumerate(dict.fromkeys(users))}
    where = [rows[user] for user in users], [int(item[4:]) for item, _, _ in events]
    matrix = csr_matrix((np.ones(len(events), np.float32), where), shape=(len(rows), n_items))
    model = AlternatingLeastSquares(factors=FACTORS, iterations=10, num_threads=1, random_state=1)
    began = time.perf_counter()
    model.fit(matrix, show_progress=False)
    fit = per_us(began, len(events))
    began = time.perf_counter()
    for user in users[:LISTS]:
        model.recommend(rows[user], matrix[rows[user]], N=10)
    return {"fit_per_event": fit, "list_of_10": per_us(began, LISTS), "candidates": float(n_items)}


Measure = Callable[[Sequence[Event], int], dict[str, float]]
PEERS: dict[str, tuple[str, Measure]] = {
    "river_biased_mf": ("river", _river),
    "vowpal_wabbit_lrq": ("vowpalwabbit", _vowpal_wabbit),
    "implicit_als": ("implicit", _implicit),
}
