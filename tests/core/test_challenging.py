"""A challenger learns and is scored in silence, and serves only while the gate is open."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

import numpy as np
import pytest

from online_models.click_rate import ClickRate
from schemas.outputs import Decision
from stream.assembly import build_models
from stream.settings import Settings
from stream.testing import EPOCH, Driver, event

SMALL: dict[str, Any] = {"max_items": 256, "click_slots": 2**12}
# Clicks depend on the pair of list position and category: only a model with that cross can tell.
BETTER = {"clicks": "gaussian", "clicks_crosses": [("position", "category")], "warm_up": 100}
PLAIN = {"clicks": "gaussian", "clicks_crosses": [("category", "buyer")], "warm_up": 100}


def pages(n: int, start: int = 0, rates: tuple[float, float] = (0.6, 0.1)) -> list[bytes]:
    """Lists of two items; shoes in front and hats behind are clicked at the first rate of two."""
    rng = np.random.default_rng(5)
    found = []
    for at in range(start, start + n):
        user = f"u{at}"
        categories = rng.choice(["shoes", "hats"], 2).tolist()
        products = [
            {"product_id": f"{category}-{(at + 7 * place) % 40}", "category": category, "position": place + 1}
            for place, category in enumerate(categories)
        ]
        found.append(event("Product List Viewed", user=user, at=60.0 * at, list_id="home", products=products))
        for place, product in enumerate(products):
            likely = (place == 0) == (product["category"] == "shoes")
            if rng.random() < rates[not likely]:
                found.append(
                    event(
                        "Product Clicked",
                        user=user,
                        at=60.0 * at + 1 + place,
                        product_id=product["product_id"],
                    )
                )
    return found


# Everybody's taste turns round after three hundred pages.
TURNING = pages(300, rates=(0.95, 0.02)), pages(75, start=300, rates=(0.02, 0.95))


def shop(challenger: dict[str, Any], n: int = 700, batch_size: int = 50) -> Driver:
    """A driver that has seen so many pages."""
    stream = Driver(settings=Settings(**SMALL, challenger=challenger), batch_size=batch_size)
    stream.pipe(*pages(n))
    stream.flush()
    return stream


def promotions(stream: Driver) -> list[Decision]:
    """Promotions in the decision log."""
    return [decision for decision in stream.take("decisions") if decision.kind == "promotion"]


def test_a_better_challenger_is_promoted_once_and_then_serves() -> None:
    """The decision says on what evidence; before it the incumbent's probability is the one that counts."""
    stream = shop(BETTER)
    trial = stream.models.click_trial
    assert trial is not None
    (decision,) = promotions(stream)
    asked = {"position": "1", "category": "shoes"}

    assert trial.serves
    assert trial.gate.name == decision.action
    assert decision.features is not None
    assert decision.features["log_wealth"] >= -math.log(0.005)
    assert 1.0 == decision.features["round"]
    assert 0.005 == decision.features["alpha"]
    assert 0 < decision.features["examples"]
    assert 0 < trial.gate.n
    assert 2 == trial.gate.round
    assert trial.model.predict_proba_one(asked) == stream.models.click_probability(asked, 0.0)
    assert trial.model.predict_proba_one(asked) != stream.models.clicks.predict_proba_one(asked)


def test_a_challenger_that_gets_worse_is_demoted() -> None:
    """Tastes turn round: what the challenger has learned of places misleads, and the incumbent serves."""
    stream = Driver(settings=Settings(**SMALL, challenger=BETTER | {"warm_up": 500}), batch_size=50)
    trial = stream.models.click_trial
    assert trial is not None
    served = []
    for records in TURNING:
        stream.pipe(*records)
        stream.flush()
        served.append(trial.serves)
    up, down = promotions(stream)
    asked = {"position": "1", "category": "shoes"}
    assert up.features is not None
    assert down.features is not None

    assert [True, False] == served
    assert (trial.gate.name, "incumbent") == (up.action, down.action)
    assert up.decision_id != down.decision_id
    assert up.features["log_loss_difference"] > 0.0 > down.features["log_loss_difference"]
    assert (2.0, 0.01 / 6) == (down.features["round"], down.features["alpha"])
    assert down.features["log_wealth"] >= -math.log(0.01 / 6)
    assert 3 == trial.gate.round
    assert stream.models.clicks.predict_proba_one(asked) == stream.models.click_probability(asked, 0.0)


def test_batches_crashes_and_restarts_change_no_demotion() -> None:
    """The same two decisions, whatever the batches, and though some are read twice."""
    settings = Settings(**SMALL, challenger=BETTER | {"warm_up": 500})
    restored = build_models(settings)
    logged, digests = [], set()
    for batch_size, crash_every in ((50, 0), (1, 0), (10_000, 100)):
        stream = Driver(settings=settings, batch_size=batch_size)
        for n, record in enumerate(TURNING[0] + TURNING[1], 1):
            stream.pipe(record)
            if crash_every and n % crash_every == 0:
                stream.crash()
                stream.flush()
        stream.flush()
        logged.append(promotions(stream))
        digests.add(stream.models.fold.digest())
        restored.fold.restore(stream.models.fold.snapshot())

    assert restored.click_trial is not None

    assert 3 == restored.click_trial.gate.round
    assert not restored.click_trial.serves
    assert ["incumbent"] == [one.action for one in logged[0][1:]]
    assert logged[0] == logged[1] == logged[2]
    assert 1 == len(digests)


def test_a_challenger_that_is_the_same_is_never_promoted() -> None:
    """It loses as much as the incumbent, example by example."""
    stream = shop(PLAIN)
    trial = stream.models.click_trial
    assert trial is not None

    assert [] == promotions(stream)
    assert not trial.serves
    assert 0.0 == trial.gate.mean_difference
    assert 300 < trial.gate.n


def test_a_gate_that_only_tells_changes_nothing() -> None:
    """Outputs but the promotion are those without a challenger, and the incumbent goes on serving."""
    stream, without = shop(BETTER | {"promotes": False}), shop({})
    trial = stream.models.click_trial
    assert trial is not None
    asked = {"position": "1", "category": "shoes"}
    logged = stream.take("decisions")

    assert without.take("decisions") == [one for one in logged if one.kind != "promotion"]
    assert without.take("recommendations") == stream.take("recommendations")
    assert trial.gate.is_open
    assert without.models.click_probability(asked, 0.0) == stream.models.click_probability(asked, 0.0)
    assert (
        without.models.clicks.snapshot()["state"].tolist()
        == stream.models.clicks.snapshot()["state"].tolist()
    )


def test_its_loss_is_that_of_predictions_before_learning() -> None:
    """The difference of the two progressive losses, by the live measures of both, without decay."""
    stream = shop(BETTER | {"warm_up": 0, "alpha": 1e-300}, n=200)
    trial = stream.models.click_trial
    assert trial is not None
    losses = stream.models.live.losses
    difference = losses["clicks"].snapshot()["log_loss"] - losses["clicks_challenger"].snapshot()["log_loss"]

    # 200 minutes of a half-life of a day: weights differ by 10 %.
    assert difference == pytest.approx(trial.gate.mean_difference, rel=0.1)


def test_batches_and_crashes_change_nothing() -> None:
    """The same decision at the same example, whatever the batches, and though some are read twice."""
    whole, single = shop(BETTER), shop(BETTER, batch_size=1)
    crashing = Driver(settings=Settings(**SMALL, challenger=BETTER), batch_size=10_000)
    for n, record in enumerate(pages(700)):
        crashing.pipe(record)
        if n % 100 == 99:
            crashing.crash()
            crashing.flush()
    crashing.flush()
    logged = promotions(whole)

    assert logged == promotions(single) == promotions(crashing)
    assert whole.models.fold.digest() == single.models.fold.digest() == crashing.models.fold.digest()


def test_the_verdict_lies_in_the_log_of_deltas() -> None:
    """A worker that folds the deltas, or restores a snapshot, has the same gate and challenger."""
    settings = Settings(**SMALL, challenger=BETTER)
    stream = Driver(settings=settings, batch_size=10_000)
    follower = build_models(settings)
    records = pages(700)
    for start in range(0, len(records), 200):
        stream.models.fold.begin()
        for record in records[start : start + 200]:
            stream.pipe(record)
        waiting = stream._waiting
        stream._waiting = []
        stream.engine.process(waiting)
        follower.fold.fold(stream.models.fold.delta())
        stream.models.fold.keep()
    restored = build_models(settings)
    restored.fold.restore(stream.models.fold.snapshot())

    for models in (follower, restored):
        assert models.click_trial is not None
        assert models.click_trial.serves
        assert stream.models.fold.digest() == models.fold.digest()


def test_a_challenger_can_come_and_go() -> None:
    """Deltas and snapshots with a challenger, without one, or with another are all read."""
    records = pages(50)
    for ours in ({}, BETTER, PLAIN):
        stream = Driver(settings=Settings(**SMALL, challenger=ours), batch_size=10_000)
        stream.models.fold.begin()
        stream.engine.process([])
        stream.models.fold.keep()
        stream.pipe(*records)
        stream.flush()
        for theirs in ({}, BETTER, PLAIN):
            other = build_models(Settings(**SMALL, challenger=theirs))
            other.fold.restore(stream.models.fold.snapshot())
            same = stream.models.clicks.snapshot()["state"].tolist()
            assert same == other.clicks.snapshot()["state"].tolist()
            if other.click_trial is not None:
                assert (ours == theirs) == (other.click_trial.model.snapshot()["slot"].size > 0)


class Later(ClickRate):
    """The click model of a version with another layout."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.spec += " another layout"


def test_names_of_optional_models_tell_their_layout() -> None:
    """What another version learned is passed by, as is what other settings did; it is never folded."""
    settings = Settings(**SMALL, challenger=PLAIN, conversions={"window_s": 3600.0})

    def names() -> set[str]:
        models = build_models(settings)
        assert models.click_trial is not None
        assert models.conversions is not None
        return {models.click_trial.model.name, models.click_trial.gate.name, models.conversions.name}

    ours = names()
    assert ours == names()
    with mock.patch("stream.assembly.ClickRate", Later):
        assert ours.isdisjoint(names())


# Recommendations

RANKER = {"recommend": True, "recommend_candidates": 20, "recommend_rate": 0.5, "warm_up": 50}


def walks(n: int) -> list[bytes]:
    """Views of users who follow a chain of items, with detours."""
    rng = np.random.default_rng(8)
    places = [0] * 40
    found = []
    for at in range(n):
        user = int(rng.integers(40))
        places[user] = places[user] + 1 if rng.random() < 0.7 else int(rng.integers(80))
        found.append(
            event("Product Viewed", user=f"u{user}", at=70.0 * at, product_id=f"i{places[user] % 80}")
        )
    return found


def browsed(challenger: dict[str, Any], n: int = 500, batch_size: int = 50) -> Driver:
    """A driver that has seen so many views."""
    stream = Driver(settings=Settings(**SMALL, challenger=challenger), batch_size=batch_size)
    stream.pipe(*walks(n))
    stream.flush()
    return stream


def test_a_ranker_is_compared_by_the_reciprocal_rank_of_the_next_item() -> None:
    """The mean gain is the difference of the mean reciprocal ranks; 0 where the item is no candidate."""
    models = build_models(Settings(**SMALL, challenger=RANKER | {"warm_up": 0}))
    trial = models.rank_trial
    assert trial is not None
    trial.gate.begin()
    for incumbent, challenger in ((0, 1), (3, 0), (None, 4), (9, None)):
        trial.compare(incumbent, challenger)

    assert (1 / 2 - 1 + 1 - 1 / 4 + 1 / 5 - 1 / 10) / 4 == pytest.approx(trial.gate.mean_difference, abs=1e-6)


def test_a_ranker_on_trial_changes_no_output() -> None:
    """It learns, and what is shown is what is shown without it."""
    stream, without = browsed(RANKER | {"promotes": False}), browsed({})
    trial = stream.models.rank_trial
    assert trial is not None

    assert 100 < trial.gate.n
    assert trial.blend.weights.tolist() != stream.models.blend.weights.tolist()
    assert without.take("recommendations") == stream.take("recommendations")
    assert without.take("decisions") == [one for one in stream.take("decisions") if one.kind != "promotion"]


def test_a_ranker_that_has_won_serves() -> None:
    """With the gate open, slates are its own, and their decisions say so."""
    stream = browsed(RANKER)
    trial = stream.models.rank_trial
    assert trial is not None
    stream.take("decisions")
    stream.take("recommendations")
    stream.models.fold.begin()
    for _ in range(200):
        trial.gate.update(0.9, 1.0, 1.0)
    stream.models.fold.keep()
    stream.pipe(event("Product Viewed", user="new", at=90_000.0, product_id="i5"))
    (slate,) = stream.take("recommendations")
    (decision,) = stream.take("decisions")
    at = 90_000.0 + EPOCH
    expected = trial.blend.propose(["i5"], at, 0.0, (), b"", new_only=True).top(10)

    assert trial.serves
    assert "blend_challenger" == decision.policy
    assert [one.item_id for one in expected] == [one.item_id for one in slate.items]


def test_batches_and_crashes_change_no_ranker_on_trial() -> None:
    """The same weights and evidence to the last bit."""
    crashing = Driver(settings=Settings(**SMALL, challenger=RANKER), batch_size=10_000)
    for n, record in enumerate(walks(500)):
        crashing.pipe(record)
        if n % 90 == 0:
            crashing.crash()
            crashing.flush()
    crashing.flush()
    digests = {
        stream.models.fold.digest() for stream in (browsed(RANKER), browsed(RANKER, batch_size=1), crashing)
    }

    assert 1 == len(digests)
