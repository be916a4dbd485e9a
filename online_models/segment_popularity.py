"""Popularity within the segments of a user: an optional source of the blend.

On an event of a member of segments s with item i, ``d_si <- d_si + 1`` and ``c_s <- c_s + 1`` under one
half-life; an item's score is the sum over the user's segments of ``d_si / (c_s + 2)``. Where a segment is
small the score is, too, and the blend goes by the popularity among all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.content import MAX_VALUES, attribute_value, learn_attributes
from online_models.cooccurrence import SequentialCooccurrence
from online_models.neighbourhood import D, Scores, fade_of, neighbours_of
from online_models.slate import ReasonCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from online_models.optional_source import Asker
    from online_models.vocabulary import Vocabulary

__all__ = ["SegmentPopularity"]

HALF_LIFE_S = 7 * 86_400.0


class SegmentPopularity:
    """What members of the user's segments choose.

    Parameters
    ----------
    vocabulary : Vocabulary
        Shared with the other item models; segments have rows of it, too.

    Examples
    --------
    >>> from online_models.fold import ModelSet
    >>> from online_models.optional_source import Asker
    >>> from online_models.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary(100)
    >>> source = SegmentPopularity(vocabulary)
    >>> models = ModelSet([source.model], vocabulary)
    >>> models.begin()
    >>> nothing = np.zeros(0, np.int32)
    >>> for item, segment in [("tea", "vip"), ("milk", "vip"), ("milk", "vip"), ("beer", "new")]:
    ...     source.learn(vocabulary.touch(item, 0.0), nothing, 0.0, 1.0, Asker("ann", (segment,)))
    >>> rows, scores = source.best(nothing, 0.0, Asker("bob", ("vip",)))
    >>> [vocabulary.item_id(row) for row in rows], scores.tolist()
    (['milk', 'tea'], [0.4, 0.2])
    """

    name = "segment_popularity"
    code = ReasonCode.POPULAR_IN_SEGMENT

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.model = SequentialCooccurrence(
            vocabulary, slots=192, pruned=128, ring=1, beta=0.0, half_life_s=HALF_LIFE_S, name=self.name
        )

    def __repr__(self) -> str:
        return "SegmentPopularity()"

    def learn(self, row: int, history: NDArray[np.int32], at: float, weight: float, asker: Asker) -> None:
        """Count an event in each of the user's segments."""
        del history
        learn_attributes(self.model, row, _values(asker), at, weight)

    def best(
        self, history: NDArray[np.int32], at: float, asker: Asker
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Rows of items and their scores, best first."""
        del history
        model, found = self.model, Scores(self.model)
        for row in model.vocabulary.rows(_values(asker)):
            if row < 0:
                continue
            items, cells = neighbours_of(model, row)
            fade = fade_of(model, row, at)
            found.add(items, cells[:, D].astype(np.float64) * fade / (model.heads[row, 1] * fade + 2.0))
        return found.best()


def _values(asker: Asker) -> list[str]:
    return [attribute_value("segment", segment) for segment in asker.segments[:MAX_VALUES]]
