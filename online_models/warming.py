"""Compile every kernel before the first event, by playing a few made-up events through small models."""

from __future__ import annotations

from online_models.bandits import ThompsonSampling
from online_models.click_rate import ClickRate
from online_models.content import content_of
from online_models.cooccurrence import SequentialCooccurrence
from online_models.factorisation import StreamingIALS
from online_models.fold import ModelSet
from online_models.hybrid import OnlineBlend
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary

__all__ = ["warm_up"]

OFFERS = ["nothing", "a"]


def warm_up() -> None:
    """Compile all kernels for the argument types that models use; a second call is cheap.

    It takes most of a minute on a machine that has not compiled them before, and about a second where
    numba's cache is warm. Call it before a worker reports that it is ready.
    """
    for factors in (False, True):
        vocabulary = Vocabulary(max_rows=3)
        blend = OnlineBlend(
            vocabulary,
            DecayedPopularity(vocabulary),
            SequentialCooccurrence(vocabulary, slots=2, pruned=1),
            StreamingIALS(vocabulary, n_factors=2) if factors else None,
            content=content_of(vocabulary),
        )
        click_rate, offers = ClickRate(n_slots=16), ThompsonSampling(1)
        models = ModelSet([*blend.models, click_rate, offers], vocabulary)
        models.begin()
        _play(blend, click_rate, offers)
        models.keep()
        models.begin()
        _play(blend, click_rate, offers)
        delta = models.delta()
        models.rollback()
        models.fold(delta)
        models.restore(models.snapshot())
        models.digest()


def _play(blend: OnlineBlend, click_rate: ClickRate, offers: ThompsonSampling) -> None:
    """Items enough to evict one, and one call of everything that reads or learns."""
    history: list[str] = []
    memory = b""
    for at, item_id in enumerate(("a", "b", "c", "b", "d")):
        slate = blend.propose(history, float(at), 1.0, {"a"}, memory)
        blend.learn_one(slate, item_id)
        slate.rank_of(item_id)
        slate.top(2)
        memory = blend.observe(item_id, history, float(at), 1.0, False, memory)
        history.insert(0, item_id)
    blend.popularity.top(5.0, 0, 2)
    blend.popularity.learn_one("b", 6.0)
    blend.cooccurrence.learn_one("b", ["d"], 7.0)
    blend.cooccurrence.top(["b"], 8.0, 2)
    blend.vocabulary.refer(0)
    features = click_rate.encode({"a": "b", "c": 1.0})
    click_rate.predict_proba_one(features)
    click_rate.learn_one(features, 1)
    click_rate.explain(features, 1)
    offers.choose(OFFERS, [1.0], [1.0, 1.0], [0.0, 0.0], seed=0, decision_id="d")
    offers.learn_one("a", [1.0], 1)
    offers.describe()
