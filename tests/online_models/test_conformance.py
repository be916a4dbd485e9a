"""Every learner keeps every promise: each check of the public suite on a scenario for each learner."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import online_models
from online_models.bandits import NOTHING, ThompsonSampling
from online_models.base import Foldable
from online_models.checks import CHECKS, Scenario
from online_models.click_rate import ClickRate
from online_models.content import attribute_value, content_of
from online_models.cooccurrence import SequentialCooccurrence
from online_models.factorisation import StreamingIALS
from online_models.fold import ModelSet
from online_models.hashed import HashedLogistic
from online_models.hybrid import OnlineBlend
from online_models.many_offers import ManyOffers
from online_models.neighbourhood import ItemNeighbours, UserNeighbours
from online_models.optional_source import Asker
from online_models.popularity import DecayedPopularity
from online_models.proximal import FollowTheRegularizedLeader
from online_models.segment_popularity import SegmentPopularity
from online_models.slate import NewItems
from online_models.vocabulary import Vocabulary

HUGE = (math.nan, math.inf, -math.inf, 1e308, -1e308)
MAX_ROWS = 12

DAY = 86_400.0

Click = tuple[dict[str, str | float | bool], float, float, float]  # features, label, weight, time
Feedback = tuple[str, tuple[float, ...], float, float, float]  # offer, context, label, weight, time
Event = tuple[str, str, float, float]  # user, item, time, weight


def _alone(model: Foldable) -> ModelSet:
    """Make a set of one model that has no items; its vocabulary guards the batch."""
    return ModelSet([model], Vocabulary(2))


def _clicks(make_model: Callable[[], HashedLogistic]) -> Scenario[HashedLogistic, Click]:
    rng = np.random.default_rng(1)

    def make() -> tuple[ModelSet, HashedLogistic]:
        model = make_model()
        return _alone(model), model

    def example(n: int) -> Click:
        device = ("mobile", "desktop", "tablet")[n % 3]
        features: dict[str, str | float | bool] = {
            "device": device,
            "item": f"i{n % 7}",
            "price": float(n % 11),
        }
        if n % 4 == 0:
            features["returning"] = True
        label = float(rng.random() < (0.7 if device == "mobile" else 0.1))
        return features, label, 1.0, n * DAY / 2.0

    hostile: list[Click] = [({"price": number, "item": "i1"}, 1.0, 1.0, DAY) for number in HUGE]
    hostile += [({"item": "i1"}, 1.0, number, DAY) for number in HUGE]
    hostile += [({"item": "i1"}, number, 1.0, DAY) for number in HUGE]
    hostile += [({"item": "i1"}, 1.0, 1.0, number) for number in HUGE]
    hostile += [({"": "", "x" * 1000: "y" * 1000}, 0.0, 0.0, DAY)]
    hostile += [({str(n): True for n in range(300)}, 1.0, 1.0, DAY)]
    return Scenario(
        make=make,
        learn=lambda model, click: model.learn_one(*click),
        answer=lambda model, click: {
            "p": model.predict_proba_one(click[0], click[3]),
            **{one.name: one.log_odds for one in model.explain(click[0], 3, click[3])},
        },
        examples=[example(n) for n in range(60)],
        unknown=[({"new": "field"}, 1.0, 1.0, 30 * DAY), ({}, 0.0, 1.0, 30 * DAY)],
        hostile=hostile,
        fresh=lambda n: ({"item": f"fresh{n}", "n": float(n)}, float(n % 2), 1.0, 31 * DAY),
        reorder=lambda click: (dict(reversed(click[0].items())), *click[1:]),
    )


def _offers() -> Scenario[ThompsonSampling, Feedback]:
    rng = np.random.default_rng(2)
    eligible = ["o0", "o1", "o2", "never", NOTHING]

    def make() -> tuple[ModelSet, ThompsonSampling]:
        model = ThompsonSampling(3, max_offers=4, half_life_s=DAY)
        return _alone(model), model

    def example(n: int) -> Feedback:
        context = (1.0, *rng.normal(size=2).tolist())
        return f"o{n % 5}", context, float(rng.random() < (0.5 if n % 5 == 0 else 0.1)), 1.0, n * DAY / 4.0

    def propensities(model: ThompsonSampling, feedback: Feedback) -> tuple[float, ...]:
        return model.choose(
            eligible,
            feedback[1],
            [5.0] * 5,
            [0.1] * 5,
            seed=3,
            decision_id=repr(feedback),
            categories=["even", "odd", "even", "", ""],
            at=feedback[4],
        ).propensities

    def learn(model: ThompsonSampling, feedback: Feedback) -> object:
        category = ("even", "odd", "")[zlib.crc32(feedback[0].encode()) % 3]
        return model.learn_one(*feedback[:4], category=category, at=feedback[4])

    def answer(model: ThompsonSampling, feedback: Feedback) -> Mapping[str, float]:
        found = dict(zip(eligible, propensities(model, feedback), strict=True))
        return found | {f"mean of {known.offer}": known.mean for known in model.describe()}

    context = (1.0, 0.5, -0.5)
    hostile: list[Feedback] = [("o1", (1.0, number, 0.0), 1.0, 1.0, DAY) for number in HUGE]
    hostile += [("o1", context, 1.0, number, DAY) for number in HUGE]
    hostile += [("o1", context, number, 1.0, DAY) for number in HUGE]
    hostile += [("o1", context, 1.0, 1.0, number) for number in HUGE]
    hostile += [("o1", HUGE[:3], 1.0, 100.0, DAY), ("o1", (1.0,), 1.0, 1.0, DAY)]
    hostile += [(NOTHING, context, 1.0, 1.0, DAY)]
    return Scenario(
        make=make,
        learn=learn,
        answer=answer,
        examples=[example(n) for n in range(60)],
        unknown=[("brand-new", context, 1.0, 1.0, 20 * DAY)],
        hostile=hostile,
        fresh=lambda n: (f"fresh{n}", context, float(n % 2), 1.0, 20 * DAY),
        distribution=propensities,
    )


def _many_offers() -> Scenario[ManyOffers, Feedback]:
    few = _offers()

    def make() -> tuple[ModelSet, ManyOffers]:
        model = ManyOffers(3, 64, half_life_s=DAY)
        return _alone(model), model

    def propensities(model: ManyOffers, feedback: Feedback) -> tuple[float, ...]:
        eligible, money = ["o0", "o1", "o2", "never", NOTHING], ([5.0] * 5, [0.1] * 5)
        return model.choose(
            eligible, feedback[1], *money, seed=3, decision_id=repr(feedback), at=feedback[4]
        ).propensities

    def learn(model: ManyOffers, feedback: Feedback) -> object:
        category = ("even", "odd", "")[zlib.crc32(feedback[0].encode()) % 3]
        return model.learn_offer(*feedback[:4], category=category, at=feedback[4])

    return Scenario(
        make=make,
        learn=learn,
        answer=lambda model, feedback: dict(enumerate(propensities(model, feedback))),  # type: ignore[arg-type]
        examples=few.examples,
        unknown=few.unknown,
        hostile=[one for one in few.hostile if len(one[1]) == 3],
        fresh=few.fresh,
        distribution=propensities,
    )


class Shop:
    """A blend or one of its sources with the users' histories and memories, as the engine keeps them.

    Histories follow the examples and not the calls, so that an undone batch leaves none behind.
    """

    def __init__(self, vocabulary: Vocabulary, model: Any) -> None:
        self.vocabulary = vocabulary
        self.model = model


def _event(n: int) -> Event:
    return f"u{n % 4}", f"i{(n * 7 + n // 4) % 15}", 1_000.0 + 60.0 * n, (1.0, 3.0)[n % 5 == 0]


def _history(event: Event) -> list[str]:
    """Make the items before an event from the event alone: newest first, without its own."""
    n = zlib.crc32(repr(event).encode())
    return [item for item in (f"i{(n + 3 * age) % 15}" for age in range(n % 6)) if item != event[1]]


HOSTILE_EVENTS: list[Event] = [
    *(("u1", "i1", number, 1.0) for number in HUGE),
    *(("u1", "i1", 5_000.0, number) for number in HUGE),
    ("u1", "", 5_000.0, 1.0),
    ("u1", "i1", 5_000.0, 0.0),
    ("u1", "i1", 5_000.0, -1.0),
    ("u1", "i" * 5_000, 5_000.0, 1.0),
]


def _items(
    make_model: Callable[[Vocabulary], Any],
    learn: Callable[[Shop, Event], object],
    answer: Callable[[Shop, Event], Mapping[str, float]],
    members: Callable[[Any], tuple[Foldable, ...]] = lambda model: (model,),
) -> Scenario[Shop, Event]:
    def make() -> tuple[ModelSet, Shop]:
        vocabulary = Vocabulary(MAX_ROWS)
        model = make_model(vocabulary)
        return ModelSet(members(model), vocabulary), Shop(vocabulary, model)

    return Scenario(
        make=make,
        learn=learn,
        answer=answer,
        examples=[_event(n) for n in range(60)],
        unknown=[("nobody", "nothing-known", 9_000.0, 1.0)],
        hostile=HOSTILE_EVENTS,
        fresh=lambda n: (f"u{n}", f"fresh{n}", 10_000.0 + n, 1.0),
    )


def _popularity() -> Scenario[Shop, Event]:
    return _items(
        DecayedPopularity,
        lambda shop, event: shop.model.learn_one(event[1], event[2], event[3]),
        lambda shop, event: (
            {
                f"{half_life}/{item}": count
                for half_life in range(5)
                for item, count in shop.model.top(9_000.0, half_life, 5)
            }
            | {"own": shop.model.count(event[1], 9_000.0, 1)}
        ),
    )


def _cooccurrence() -> Scenario[Shop, Event]:
    return _items(
        lambda vocabulary: SequentialCooccurrence(vocabulary, slots=6, pruned=4),
        lambda shop, event: shop.model.learn_one(event[1], _history(event), event[2], event[3]),
        lambda shop, event: dict(shop.model.top(_history(event), 9_000.0, 8)),
    )


def _factors() -> Scenario[Shop, Event]:
    def learn(shop: Shop, event: Event) -> object:
        row = shop.vocabulary.touch(event[1], event[2])
        rows = np.array(shop.vocabulary.rows(_history(event)), np.int32)
        once = shop.model.learn_one(row, rows, event[2], event[3], b"")
        # A second event of the same user reads the memory of the first, so statistics follow the user.
        row = shop.vocabulary.touch("i0", event[2])
        rows = np.array(shop.vocabulary.rows([event[1], *_history(event)]), np.int32)
        return shop.model.learn_one(row, rows, event[2], event[3], once)

    def answer(shop: Shop, event: Event) -> Mapping[str, float]:
        rows = np.array(shop.vocabulary.rows(_history(event)), np.int32)
        p = shop.model.user_vector(rows, b"")
        if p is None:
            return {}
        best = shop.model.retrieve(p, rows, 5)
        scores = shop.model.score(p, best).tolist()
        return {shop.vocabulary.item_id(row): score for row, score in zip(best.tolist(), scores, strict=True)}

    return _items(lambda vocabulary: StreamingIALS(vocabulary, 4, refresh=4), learn, answer)


def _blend() -> Scenario[Shop, Event]:
    def make_model(vocabulary: Vocabulary) -> OnlineBlend:
        return OnlineBlend(
            vocabulary,
            DecayedPopularity(vocabulary),
            SequentialCooccurrence(vocabulary, slots=6, pruned=4),
            StreamingIALS(vocabulary, 4, refresh=4),
            content=content_of(vocabulary),
            optional=[
                ItemNeighbours(vocabulary, "cosine"),
                UserNeighbours(vocabulary, "euclidean"),
                SegmentPopularity(vocabulary),
            ],
        )

    def learn(shop: Shop, event: Event) -> object:
        history = _history(event)
        asker = Asker(event[0], (event[0][-1:],))
        slate = shop.model.propose(
            history, event[2], 30.0, set(history), asker=asker, newcomers=NewItems(["never met"], [0.5])
        )
        shop.model.learn_one(slate, event[1])
        values = [attribute_value("category", event[1][-1:])]
        memory = shop.model.observe(event[1], history, event[2], event[3], False, b"", values, asker)
        return shop.model.observe("i0", [event[1], *history], event[2], event[3], False, memory)

    def answer(shop: Shop, event: Event) -> Mapping[str, float]:
        history = _history(event)
        asker = Asker(event[0], (event[0][-1:],))
        ranked = shop.model.propose(history, 9_000.0, 30.0, set(history), asker=asker).top(5)
        return {one.item_id: one.score for one in ranked}

    return _items(make_model, learn, answer, lambda model: model.models)


SCENARIOS: dict[type, Scenario[Any, Any]] = {
    ClickRate: _clicks(lambda: ClickRate(64, half_life_s=DAY, crosses=[("device", "item")])),
    FollowTheRegularizedLeader: _clicks(lambda: FollowTheRegularizedLeader(64, half_life_s=DAY, l1=0.01)),
    ThompsonSampling: _offers(),
    ManyOffers: _many_offers(),
    DecayedPopularity: _popularity(),
    SequentialCooccurrence: _cooccurrence(),
    StreamingIALS: _factors(),
    OnlineBlend: _blend(),
}


def learners() -> set[type]:
    """Every class of the package that promises to be foldable; the vocabulary folds as part of each set."""
    promised = {name for name in dir(Foldable) if not name.startswith("_")} | {"name"}
    found = set()
    for module in pkgutil.walk_packages(online_models.__path__, "online_models."):
        for _, member in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if member.__module__.startswith("online_models.") and not getattr(member, "_is_protocol", False):
                found |= {member} if all(hasattr(member, name) for name in promised) else set()
    return found - {Vocabulary}


def test_every_learner_has_a_scenario() -> None:
    """A new learner without a scenario here fails."""
    assert set(SCENARIOS) == learners()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("learner", SCENARIOS, ids=lambda learner: learner.__name__)
def test_conformance(learner: type, check: Callable[[Scenario[Any, Any]], None]) -> None:
    """One learner, one promise."""
    check(SCENARIOS[learner])
