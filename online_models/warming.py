"""Compile every kernel before the first event, by playing a few made-up events through small models."""

from __future__ import annotations

import numpy as np

from online_models.bandits import ThompsonSampling
from online_models.click_rate import ClickRate
from online_models.content import content_of
from online_models.cooccurrence import SequentialCooccurrence
from online_models.factorisation import StreamingIALS
from online_models.fold import ModelSet
from online_models.hybrid import OnlineBlend
from online_models.kernels._jit import n_compiled
from online_models.kernels.vocabulary import touch
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary

__all__ = ["is_cold", "warm_up"]

OFFERS = ["nothing", "a"]
ITEMS = ("a", "b", "c", "b", "d")  # enough to evict one


def warm_up(*, backwards: bool = False) -> None:
    """Compile all kernels for the argument types that models use; a second call is cheap.

    It takes most of a minute on a machine that has not compiled them before, and about a second where
    numba's cache is warm. Two processes that begin at the two ends share the work: what either has compiled
    the other finds in the cache. Call it before a worker reports that it is ready.
    """
    for step in STEPS[::-1] if backwards else STEPS:
        step()


def is_cold() -> bool:
    """Whether there is something to compile: the smallest kernel was not in the cache."""
    before = n_compiled(touch)
    _vocabulary()
    return n_compiled(touch) > before


def _vocabulary() -> None:
    vocabulary = Vocabulary(max_rows=3)
    models = ModelSet([], vocabulary)
    models.begin()
    vocabulary.touch("a", 0.0)
    models.rollback()


def _proposals() -> None:
    vocabulary = Vocabulary(max_rows=3)
    popularity, cooccurrence = DecayedPopularity(vocabulary), SequentialCooccurrence(vocabulary)
    factors, content = StreamingIALS(vocabulary, n_factors=2), content_of(vocabulary)
    blend = OnlineBlend(vocabulary, popularity, cooccurrence, factors, content=content)
    models = ModelSet([popularity, blend], vocabulary)
    models.begin()
    popularity.learn_one("a", 0.0)
    slate = blend.propose([], 1.0, 1.0, {"b"})
    blend.learn_one(slate, "a")
    slate.rank_of("a")
    slate.top(2)
    _close(models)


def _popularity() -> None:
    vocabulary = Vocabulary(max_rows=3)
    popularity = DecayedPopularity(vocabulary)
    models = ModelSet([popularity], vocabulary)
    models.begin()
    for at, item_id in enumerate(ITEMS):
        popularity.learn_one(item_id, float(at))
    popularity.top(5.0, 0, 2)
    _close(models)


def _cooccurrence() -> None:
    vocabulary = Vocabulary(max_rows=3)
    cooccurrence = SequentialCooccurrence(vocabulary, slots=2, pruned=1)
    models = ModelSet([cooccurrence], vocabulary)
    models.begin()
    for at, item_id in enumerate(ITEMS):
        cooccurrence.learn_one(item_id, ITEMS[:at], float(at))
    cooccurrence.top(["b"], 8.0, 2)
    vocabulary.refer(0)
    _close(models)


def _factors() -> None:
    vocabulary = Vocabulary(max_rows=3)
    factors = StreamingIALS(vocabulary, n_factors=2)
    models = ModelSet([factors], vocabulary)
    models.begin()
    memory, history = b"", np.zeros(0, np.int32)
    for at, item_id in enumerate(ITEMS):
        row = vocabulary.touch(item_id, float(at))
        memory = factors.learn_one(row, history, float(at), 1.0, memory)
        history = np.array([row, *history], np.int32)
    _close(models)


def _clicks() -> None:
    click_rate = ClickRate(n_slots=16)
    models = ModelSet([click_rate], Vocabulary(max_rows=3))
    models.begin()
    features = click_rate.encode({"a": "b", "c": 1.0})
    click_rate.predict_proba_one(features)
    click_rate.learn_one(features, 1)
    click_rate.explain(features, 1)
    delta = models.delta()
    models.rollback()
    for _ in range(2):  # as if two workers had learned at the same time
        models.fold(delta)
    models.begin()
    click_rate.learn_one(features, 1)
    _close(models)


def _offers() -> None:
    offers = ThompsonSampling(1)
    models = ModelSet([offers], Vocabulary(max_rows=3))
    models.begin()
    offers.choose(OFFERS, [1.0], [1.0, 1.0], [0.0, 0.0], seed=0, decision_id="d")
    offers.learn_one("a", [1.0], 1)
    offers.describe()
    _close(models)


def _close(models: ModelSet) -> None:
    """All that becomes of a batch."""
    delta = models.delta()
    models.rollback()
    models.fold(delta)
    models.begin()
    models.keep()
    models.restore(models.snapshot())
    models.digest()


STEPS = (_vocabulary, _proposals, _popularity, _cooccurrence, _factors, _clicks, _offers)
