"""Zeros that are learned too early do not bias a model that weighs them."""

from __future__ import annotations

import numpy as np
import pytest

from online_models.bandits import ThompsonSampling
from online_models.click_rate import ClickRate
from online_models.delayed import delayed_weight


@pytest.mark.parametrize("late_share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("p", [0.01, 0.2, 0.7])
def test_expected_gradients_are_those_of_the_true_labels(p: float, late_share: float) -> None:
    """At the true probability the weighted examples of one event cancel: it is where learning comes to rest.

    Of events p respond, a share of them late; a late one was a 0 before. An example's gradient is w (y - p).
    """
    ones = p * delayed_weight(1, p, late_share)
    zeros = (1.0 - p + p * late_share) * delayed_weight(0, p, late_share)
    assert ones * (1.0 - p) == pytest.approx(zeros * p)


def learned_rate(late_share: float, *, weighted: bool) -> float:
    """What a click model learns of a rate of .3 whose ones partly come 200 events after a zero."""
    rng = np.random.default_rng(7)
    model = ClickRate(n_slots=8)
    model.begin()
    waiting: list[int] = []

    def learn(y: int) -> None:
        weight = delayed_weight(y, model.predict_proba_one({}), late_share) if weighted else 1.0
        model.learn_one({}, y, weight)

    for n in range(20_000):
        converts = rng.random() < 0.3
        late = rng.random() < late_share
        learn(int(converts and not late))
        if converts and late:
            waiting.append(n + 200)
        if waiting and waiting[0] <= n:
            waiting.pop(0)
            learn(1)
    return model.predict_proba_one({})


@pytest.mark.parametrize("late_share", [0.5, 1.0])
def test_weights_make_up_for_false_zeros(late_share: float) -> None:
    """With weights the rate is .3 within .03; without, false zeros pull it below .27."""
    assert learned_rate(late_share, weighted=True) == pytest.approx(0.3, abs=0.03)
    assert learned_rate(late_share, weighted=False) < 0.27


def test_the_offers_model_predicts_what_it_learns_from() -> None:
    """predict_one gives the probability that learn_one scores with."""
    model = ThompsonSampling(2)
    model.begin()
    for n in range(20):
        predicted = model.predict_one("a", [1.0, n / 10.0], category="c")
        assert predicted == pytest.approx(model.learn_one("a", [1.0, n / 10.0], n % 2, category="c"))
    assert 0.0 == model.predict_one("nothing", [1.0, 0.0])
