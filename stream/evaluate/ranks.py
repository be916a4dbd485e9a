"""What ranks of targets amount to: recall, NDCG, reciprocal rank; by slice, by window, with intervals."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.codec import rfc3339
from stream.evaluate.bootstrap import mcnemar, mean_intervals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["MISS", "SLICES", "Occasions", "Shown", "report_ranks"]

MISS = 2**31 - 1  # rank of a target that the ranking does not hold
SLICES = ("session_start", "mid_session", "cold_user", "warm_user", "new_item", "known_item")
WINDOW = 5000
N_SHOWN = 10

Columns = dict[str, "NDArray[np.float64]"]


@dataclass(slots=True)
class Occasions:
    """The scored events, one entry each.

    Attributes
    ----------
    users : list of int
        Whose event it was.
    times : list of float
        Seconds since the epoch.
    slices : list of tuple of bool
        Whether it was a session start, of a cold user, and of a new item.
    """

    users: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    slices: list[tuple[bool, bool, bool]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.users)

    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Which events each slice holds."""
        start, cold, new = np.array(self.slices, dtype=bool).reshape(-1, 3).T
        return dict(zip(SLICES, (start, ~start, cold, ~cold, new, ~new), strict=True))


class Shown:
    """What one recommender did: the rank of each target, and which items stood in its lists of ten."""

    def __init__(self) -> None:
        self.ranks: list[int] = []
        self._times_shown: dict[int, int] = {}
        self._popularity = 0.0
        self._n_shown = 0

    def add(self, rank: int | None, items: Sequence[int], counts: NDArray[np.float64]) -> None:
        """Note one event; ``counts`` holds how often each item was chosen so far."""
        self.ranks.append(MISS if rank is None else rank)
        for item in items:
            self._times_shown[item] = self._times_shown.get(item, 0) + 1
            self._popularity += float(counts[item])
        self._n_shown += len(items)

    def exposure(self, n_items: int) -> dict[str, float]:
        """Coverage of and Gini coefficient over the catalogue, and the mean count of a shown item."""
        if not self._n_shown or not n_items:
            return {}
        shown = np.zeros(n_items)
        shown[: len(self._times_shown)] = sorted(self._times_shown.values(), reverse=True)
        rising = shown[::-1]
        gini = 2.0 * float(np.arange(1, n_items + 1) @ rising) / (n_items * rising.sum())
        return {
            "coverage_at_10": len(self._times_shown) / n_items,
            "gini_at_10": float(gini - (n_items + 1) / n_items),
            "popularity_at_10": self._popularity / self._n_shown,
        }


def report_ranks(
    shown: Mapping[str, Shown], occasions: Occasions, depths: Sequence[int], n_items: int
) -> dict[str, Any]:
    """Report the first recommender with the others as its baselines.

    Every number of ``shown`` is taken on the same events; ``lead`` is paired, by user.
    """
    (ours, *others) = shown
    users = np.array(occasions.users, dtype=np.int64)
    masks = occasions.masks()
    columns = {name: _columns(np.array(one.ranks), depths) for name, one in shown.items()}
    report = _one(columns[ours], users, masks) | shown[ours].exposure(n_items)
    report["baselines"] = {
        name: _one(columns[name], users, masks)
        | shown[name].exposure(n_items)
        | {"lead": _lead(columns[ours], columns[name], users)}
        for name in others
    }
    report["windows"] = _windows(columns, occasions.times, ours)
    return report


def _columns(ranks: NDArray[np.int64], depths: Sequence[int]) -> Columns:
    """Value of each metric for each event: one relevant item, so the ideal gain is 1."""
    gains = 1.0 / np.log2(ranks + 2.0)
    columns = {f"recall_at_{k}": (ranks < k).astype(np.float64) for k in depths}
    columns |= {f"ndcg_at_{k}": np.where(ranks < k, gains, 0.0) for k in depths}
    columns["mrr"] = np.where(ranks == MISS, 0.0, 1.0 / (ranks + 1.0))
    return columns


def _one(columns: Columns, users: NDArray[np.int64], masks: dict[str, NDArray[np.bool_]]) -> dict[str, Any]:
    return _means(columns, users) | {
        "slices": {
            name: _means({metric: values[mask] for metric, values in columns.items()}, users[mask])
            for name, mask in masks.items()
        }
    }


def _means(columns: Columns, users: NDArray[np.int64]) -> dict[str, Any]:
    if not len(users):
        return {"n": 0} | dict.fromkeys(columns) | {"intervals": {}}
    found = mean_intervals(np.stack([*columns.values()], axis=1), users)
    return {
        "n": len(users),
        **{metric: float(values.mean()) for metric, values in columns.items()},
        "intervals": dict(zip(columns, found, strict=True)),
    }


def _lead(ours: Columns, theirs: Columns, users: NDArray[np.int64]) -> dict[str, Any]:
    metrics = [*ours]
    differences = np.stack([ours[metric] - theirs[metric] for metric in metrics], axis=1)
    bounds = mean_intervals(differences, users)
    return {
        metric: {
            "value": float(column.mean()),
            "low": bound[0] if bound else None,
            "high": bound[1] if bound else None,
        }
        for metric, column, bound in zip(metrics, differences.T, bounds, strict=True)
    }


def _windows(columns: dict[str, Columns], times: Sequence[float], ours: str) -> list[dict[str, Any]]:
    """Windows of 5,000 events; a last one of less than half that size joins the one before it."""
    n = len(times)
    edges = [*range(0, n, WINDOW), n]
    if len(edges) > 2 and edges[-1] - edges[-2] < WINDOW // 2:
        del edges[-2]
    windows = []
    for start, end in pairwise(edges):
        span = slice(start, end)
        hits = {name: found["recall_at_10"][span] > 0 for name, found in columns.items()}
        windows.append(
            {
                "n": end - start,
                "from": rfc3339(times[start]),
                "until": rfc3339(times[end - 1]),
                **{metric: float(values[span].mean()) for metric, values in columns[ours].items()},
                "baselines": {
                    name: {
                        "recall_at_10": float(hit.mean()),
                        "mcnemar_p": mcnemar(hits[ours], hit),
                    }
                    for name, hit in hits.items()
                    if name != ours
                },
            }
        )
    return windows
