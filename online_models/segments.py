"""Centres of what users have in common, learned by River's incremental k-means over one pass.

They are proposals: a centre is declared, with a version, before anybody belongs to it. So nothing of this is
state of a worker.

Reference
---------
Sculley: Web-scale k-means clustering, WWW 2010 (incremental updates of the nearest centre).
Arthur, Vassilvitskii: k-means++: the advantages of careful seeding, SODA 2007 (where to begin).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["centres"]


def centres(
    points: Sequence[Sequence[float]], n: int, rng: np.random.Generator
) -> list[tuple[list[float], int]]:
    """At most *n* centres of points with how many points are nearest to each, the most first.

    The same points in the same order and the same draws give the same centres.

    >>> around = [[0.0, 1.0], [10.0, 9.0], [0.2, 1.0], [9.8, 9.0]] * 20
    >>> [(np.round(centre).tolist(), size) for centre, size in centres(around, 2, np.random.default_rng(0))]
    [([0.0, 1.0], 40), ([10.0, 9.0], 40)]
    """
    from river.cluster import KMeans  # noqa: PLC0415  River takes a second to import

    if not points:
        return []
    table = np.array(points, dtype=float)
    begin = _spread(table, n, rng)
    model = KMeans(n_clusters=len(begin), halflife=0.05)
    model.centers = {c: defaultdict(float, enumerate(point)) for c, point in enumerate(begin)}
    for place in rng.permutation(len(table)).tolist():
        model.learn_one(dict(enumerate(table[place].tolist())))  # type: ignore[no-untyped-call]
    found = np.array([[model.centers[c][k] for k in range(table.shape[1])] for c in range(len(begin))])
    # A centre is the mean of its points: the last ones that River saw weigh no more than the first.
    nearest = _nearest(table, found)
    means = np.array([table[nearest == c].mean(axis=0) for c in range(len(found)) if (nearest == c).any()])
    sizes = np.bincount(_nearest(table, means), minlength=len(means)).tolist()
    return sorted(zip(means.tolist(), sizes, strict=True), key=lambda one: (-one[1], one[0]))


def _nearest(points: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.intp]:
    nearest: NDArray[np.intp] = ((points[:, None, :] - to[None, :, :]) ** 2).sum(axis=2).argmin(axis=1)
    return nearest


def _spread(points: NDArray[np.float64], n: int, rng: np.random.Generator) -> list[list[float]]:
    """Different points to begin with, each drawn by its squared distance from those before (k-means++)."""
    found = [points[rng.integers(len(points))]]
    while len(found) < n:
        distances = np.min([((points - one) ** 2).sum(axis=1) for one in found], axis=0)
        if distances.max() == 0.0:
            break
        found.append(points[rng.choice(len(points), p=distances / distances.sum())])
    return [one.tolist() for one in found]
