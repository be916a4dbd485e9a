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


def centres(points: Sequence[Sequence[float]], n: int, seed: int) -> list[tuple[list[float], int]]:
    """At most *n* centres of points with how many points are nearest to each, the most first.

    The same points in the same order give the same centres.

    >>> around = [[0.0, 1.0], [10.0, 9.0], [0.2, 1.0], [9.8, 9.0]] * 20
    >>> [(np.round(centre).tolist(), size) for centre, size in centres(around, 2, seed=0)]
    [([0.0, 1.0], 40), ([10.0, 9.0], 40)]
    """
    from river.cluster import KMeans  # noqa: PLC0415  River takes a second to import

    if not points:
        return []
    table = np.array(points, dtype=float)
    mean, scale = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-9)
    standard = (table - mean) / scale
    model = KMeans(n_clusters=n, halflife=0.05, sigma=1.0, seed=seed)
    rng = np.random.default_rng(seed)
    model.centers = {
        c: defaultdict(float, enumerate(point)) for c, point in enumerate(_spread(standard, n, rng))
    }
    n = len(model.centers)
    for place in rng.permutation(len(standard)).tolist():
        model.learn_one(dict(enumerate(standard[place].tolist())))  # type: ignore[no-untyped-call]
    found = np.array([[model.centers[c][k] for k in range(table.shape[1])] for c in range(n)])
    nearest = ((standard[:, None, :] - found[None, :, :]) ** 2).sum(axis=2).argmin(axis=1)
    # A centre is the mean of its points: the last ones that River saw weigh no more than the first.
    groups = [table[nearest == c] for c in range(n)]
    kept = [([float(x) for x in group.mean(axis=0)], len(group)) for group in groups if len(group)]
    return sorted(kept, key=lambda one: (-one[1], one[0]))


def _spread(points: NDArray[np.float64], n: int, rng: np.random.Generator) -> list[list[float]]:
    """Different points to begin with, each drawn by its squared distance from those before (k-means++)."""
    found = [points[rng.integers(len(points))]]
    while len(found) < n:
        distances = np.min([((points - one) ** 2).sum(axis=1) for one in found], axis=0)
        if distances.max() == 0.0:
            break
        found.append(points[rng.choice(len(points), p=distances / distances.sum())])
    return [one.tolist() for one in found]
