"""Content: items of the categories and brands that a user's latest items are of.

Which item has which attribute value is counted as co-occurrence: on an event with item i that has value v,

    D[v][i] += 1      c_v += 1      C[i][v] += 1

under one half-life, in the bounded rows of :mod:`online_models.cooccurrence`. A value has a row of its own in
the vocabulary. A history asks for the values of its newest items, and each value for its items::

    score(i) = sum over values v of (sum over a of e^(-beta a) [item j_a has v]) D[v][i] / (c_v + 2)

So an item that nobody chose after one of the user's items is proposed by what it is.

References
----------
Pazzani, Billsus: Content-Based Recommendation Systems, The Adaptive Web, 2007.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.cooccurrence import SequentialCooccurrence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from online_models.vocabulary import Vocabulary

__all__ = ["attribute_value", "content_of", "learn_attributes"]

SLOTS, PRUNED = 64, 48  # items of a value: the list of a source is 50 long, and some are consumed already
HALF_LIFE_S = 30 * 86_400.0
MAX_VALUES = 4  # of one item
MARK = "\x1f"  # no producer's id begins with a control character
MAX_TEXT = 120


def attribute_value(name: str, value: str) -> str:
    r"""Id of an attribute's value in the vocabulary, apart from the ids of items.

    >>> attribute_value("category", "shoes")
    '\x1fcategory=shoes'
    """
    return f"{MARK}{name}={value[:MAX_TEXT]}"


def content_of(vocabulary: Vocabulary) -> SequentialCooccurrence:
    """Build the model, empty."""
    return SequentialCooccurrence(
        vocabulary, slots=SLOTS, pruned=PRUNED, ring=1, beta=0.0, half_life_s=HALF_LIFE_S, name="content"
    )


def learn_attributes(
    content: SequentialCooccurrence, item_row: int, values: Sequence[str], at: float, weight: float = 1.0
) -> None:
    r"""Count an event of the item that has just been touched for each value that it has.

    >>> from online_models.fold import ModelSet
    >>> from online_models.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary(1000)
    >>> content = content_of(vocabulary)
    >>> models = ModelSet([content], vocabulary)
    >>> models.begin()
    >>> row = vocabulary.touch("sneaker", 0.0)
    >>> learn_attributes(content, row, [attribute_value("category", "shoes")], 0.0)
    >>> [value for value, _ in content.top(["sneaker"], 1.0, 5)]
    ['\x1fcategory=shoes']
    """
    vocabulary, item = content.vocabulary, np.array([item_row], np.int32)
    item_id = vocabulary.item_id(item_row)
    for value in values[:MAX_VALUES]:
        row = vocabulary.touch(value, at)
        if vocabulary.item_id(item_row) != item_id:
            break  # the item was that of the oldest use, for its event is late: the value has its row
        content.learn_row(row, item, 1, at, weight)
