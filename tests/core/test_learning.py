"""Attribution, and what the click model learns from it, through the driver."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from online_models.kernels.logistic import GRID
from schemas.campaigns import CampaignConsent
from stream.core.features import message_features
from stream.core.rows import Profile
from stream.settings import Settings
from stream.testing import Driver, cart_campaign, event
from tests.core.shop_events import SMALL, shown, viewed

DAY = 86_400.0


def test_what_was_met_last_is_in_front_of_the_history() -> None:
    """Also when it was met before: a second look says what somebody is after now."""
    stream = Driver(settings=Settings(**SMALL))
    for at, product_id in enumerate("abca"):
        stream.pipe(viewed("u1", 60.0 * at, product_id))
    stream.pipe(event("Order Completed", user="u1", at=300.0, products=[{"product_id": p} for p in "db"]))

    assert ["b", "d", "a", "c"] == stream.engine.state.profile("u1").ring


def outcomes(stream: Driver) -> tuple[float, float]:
    """How many impressions were learned, and how many of them as clicked."""
    loss = stream.models.click_metrics.loss
    return loss.n, loss._positives


def test_a_click_makes_its_impression_a_positive_and_time_makes_the_rest_negatives() -> None:
    """Three shown, one clicked: one positive at once, two negatives when the window of 1800 s has passed."""
    stream = Driver(settings=Settings(**SMALL))
    stream.pipe(shown("u1", 0, "a", "b", "c"), event("Product Clicked", user="u1", at=10, product_id="b"))
    stream.flush()
    assert (1, 1.0) == outcomes(stream)

    stream.advance(1800)
    assert (3, 1.0) == outcomes(stream)


def test_what_was_shown_again_and_clicked_then_was_shown_in_vain_before() -> None:
    """Ten lists with a, a click after the tenth, two more: one positive at once, nine zeros in their time."""
    stream = Driver(settings=Settings(**SMALL))
    stream.pipe(*(shown("u1", 60.0 * n, "a") for n in range(10)))
    clicks = [event("Product Clicked", user="u1", at=600.0 + n, product_id="a") for n in range(3)]
    stream.pipe(*clicks)
    stream.flush()
    assert (1, 1.0) == outcomes(stream)

    stream.advance(1300)
    assert (3, 1.0) == outcomes(stream)
    stream.advance(1800)
    assert (10, 1.0) == outcomes(stream)


def test_a_click_after_the_window_is_no_positive() -> None:
    """The impression has already been learned as a negative."""
    stream = Driver(settings=Settings(**SMALL))
    stream.pipe(shown("u1", 0, "a"), event("Product Clicked", user="u1", at=1801, product_id="a"))
    stream.flush()

    assert (1, 0.0) == outcomes(stream)


def test_a_click_before_the_list_answers_another_one() -> None:
    """It came late: the impression waits on, and the click that follows it counts."""
    stream = Driver(settings=Settings(**SMALL))
    stream.pipe(shown("u1", 100, "a"), event("Product Clicked", user="u1", at=99, product_id="a"))
    stream.flush()
    assert (0, 0.0) == outcomes(stream)

    stream.pipe(event("Product Clicked", user="u1", at=100, product_id="a"))
    stream.flush()
    assert (1, 1.0) == outcomes(stream)


def test_a_view_before_the_slate_does_not_answer_it() -> None:
    """Of a list that was made at 100 s nothing was viewed at 99 s; what is viewed then closes it."""
    stream = Driver(settings=Settings(**SMALL, recommend={"min_interval_s": 1000.0}))
    for n in range(5):
        stream.pipe(event("Product Viewed", user="other", at=n, product_id=f"p{n}"))
    stream.pipe(event("Product Viewed", user="u1", at=100, product_id="q"))
    stream.flush()
    memory = stream.engine.state.memory("u1")
    for at, n_open in ((99, 1), (101, 0)):
        stream.pipe(event("Product Clicked", user="u1", at=at, product_id="p1"))
        stream.flush()
        assert n_open == len(memory.open)


def test_the_click_model_learns_what_is_clicked() -> None:
    """Item good is clicked whenever it is shown, bad never: their probabilities part."""
    stream = Driver(settings=Settings(**SMALL))
    for n in range(60):
        user, at = f"u{n}", n * 100.0
        stream.pipe(shown(user, at, "good", "bad"))
        stream.pipe(event("Product Clicked", user=user, at=at + 5, product_id="good"))
    stream.advance(DAY)
    clicks = stream.models.clicks

    assert clicks.predict_proba_one({"item": "good"}) > 2 * clicks.predict_proba_one({"item": "bad"})


def click_stream(**clicks: Any) -> Driver:
    """2,000 impressions at several places of a list, a tenth of them clicked, those of place 1 most often."""
    rng = np.random.default_rng(3)
    stream = Driver(settings=Settings(**SMALL, clicks=clicks))
    for n in range(400):
        stream.pipe(shown(f"u{n % 100}", n, "a", "b", "c", "d", "e"))
        for product, p in zip("abcde", (0.3, 0.1, 0.05, 0.03, 0.02), strict=True):
            if rng.random() < p:
                stream.pipe(event("Product Clicked", user=f"u{n % 100}", at=n + 0.5, product_id=product))
    stream.flush()
    stream.advance(1800)
    return stream


@pytest.mark.parametrize(
    ("model", "negative_share"), [("gaussian", 1.0), ("gaussian", 0.1), ("ftrl", 1.0), ("ftrl", 0.5)]
)
def test_sampled_negatives_leave_the_click_model_calibrated(model: str, negative_share: float) -> None:
    """With a share of the negatives, each weighing for the rest, predictions sum to the clicks."""
    stream = click_stream(model=model, negative_share=negative_share)
    measured = stream.models.click_metrics.snapshot()
    n_clicks, n_other = 2000 * 0.1, 2000 * 0.9 * negative_share
    assert n_clicks + n_other == pytest.approx(measured["n"], rel=0.2)
    assert 1.0 == pytest.approx(measured["calibration_ratio"], abs=0.2)


def test_impressions_of_a_user_are_bounded() -> None:
    """A robot that looks at list after list keeps 32 open impressions."""
    stream = Driver(settings=Settings(**SMALL))
    for n in range(30):
        stream.pipe(shown("u1", n, *(f"p{n}-{k}" for k in range(20))))
    stream.flush()

    assert 32 == len(stream.engine.state.profile("u1").impressions)


def test_what_was_scrolled_past_was_not_clicked() -> None:
    """Of four lists of 24 in a row one item is clicked: 95 zeros, also for what there is no room for."""
    stream = Driver(settings=Settings(**SMALL))
    for n in range(4):
        stream.pipe(shown("u1", 10 * n, *(f"p{n}-{k}" for k in range(24))))
    stream.pipe(event("Product Clicked", user="u1", at=50, product_id="p3-0"))
    stream.advance(DAY)
    loss = stream.models.click_metrics.loss

    assert 96 == loss.n
    assert pytest.approx(-math.log(1 / 96) / 96 - 95 / 96 * math.log(95 / 96)) == loss.base_rate()


def test_a_user_who_refuses_learning_changes_no_model() -> None:
    """Purposes {learn: false}: the event is applied, the models keep their bits."""
    stream = Driver(settings=Settings(**SMALL))
    stream.pipe(event("Consent Changed", user="u1", at=0, purposes={"learn": False}))
    stream.flush()
    before = stream.models.fold.digest()
    stream.pipe(viewed("u1", 1, "a"), viewed("u1", 2, "b"), shown("u1", 3, "a", "b"))
    stream.advance(DAY)

    assert before == stream.models.fold.digest()
    assert 2 == stream.engine.state.profile("u1").n_views


def test_what_was_shown_before_a_refusal_is_not_learned_after_it() -> None:
    """The impressions of a user who then refuses expire without teaching anybody."""
    stream = Driver(settings=Settings(**SMALL))
    stream.pipe(
        shown("u1", 0, "a", "b"), event("Consent Changed", user="u1", at=5, purposes={"learn": False})
    )
    stream.flush()
    before = stream.models.fold.digest()
    stream.advance(2 * DAY)

    assert before == stream.models.fold.digest()
    assert [] == stream.engine.state.profile("u1").impressions


def mailed(*reports: tuple[str, float, bool], **more: Any) -> tuple[Driver, list[float]]:
    """Forty reminders, and what the mail system says of each; click probabilities before and after.

    A report is an event, seconds after the message, and whether it comes of every fourth message only;
    ``more`` are settings.
    """
    consent = CampaignConsent(when_unknown="allow")
    campaign = cart_campaign(delay_s=60.0, value=10.0, currency="EUR", consent=consent)
    campaigns = {"holdout_share": 0.0, "lateness_s": 0.0, "exploration": 0.0, "daily_cap": None}
    stream = Driver(settings=Settings(**SMALL, campaigns=campaigns, **more), campaigns=[campaign])
    stream.pipe(*(event("Product Added", user=f"u{n}", at=n, product_id="p") for n in range(40)))
    stream.advance(61)
    triggers = stream.take("triggers")
    features = message_features("cart", "new", "p", None, Profile(n_adds=1))
    before = stream.models.clicks.predict_proba_one(features)
    for name, after_s, rarely in reports:
        for n, trigger in enumerate(triggers[:: 4 if rarely else 1]):
            id_ = trigger.id if n % 2 else trigger.decision.decision_id
            content = {"campaign": {"content": id_}}
            user = str(trigger.recipient.user_id)
            stream.pipe(event(name, user=user, at=101 + after_s, context=content))
    stream.advance(2 * DAY)
    assert len(triggers) == 40
    return stream, [before, stream.models.clicks.predict_proba_one(features)]


def test_clicks_in_mails_teach_the_click_model() -> None:
    """Ten of forty that arrived were clicked: ten 1s, and thirty 0s when the window is over."""
    stream, _ = mailed(
        ("Email Delivered", 1, False), ("Email Opened", 2, False), ("Email Link Clicked", 3, True)
    )
    loss = stream.models.click_metrics.loss

    assert 40 == loss.n
    assert pytest.approx(-math.log(0.25) / 4 - 3 * math.log(0.75) / 4) == loss.base_rate()


def test_clicks_in_mails_teach_the_challenger_too() -> None:
    """It is shown the same forty messages with the same answers, in features of its own."""
    challenger = {"clicks": "gaussian", "clicks_crosses": [("item", "buyer")], "warm_up": 0}
    reports = ("Email Delivered", 1.0, False), ("Email Link Clicked", 3.0, True)
    stream, _ = mailed(*reports, challenger=challenger)
    trial = stream.models.click_trial
    assert trial is not None

    features = message_features("cart", "new", "p", None, Profile(n_adds=1))
    theirs, ours = (model.predict_proba_one(features) for model in (trial.model, stream.models.clicks))

    assert 40 == trial.gate.n
    assert theirs != ours
    assert pytest.approx(ours, abs=0.1) == theirs


def test_an_order_after_a_click_in_a_mail_is_a_conversion() -> None:
    """Ten clicks make ten zeros at once; the one of them who orders makes a one, who never clicked none."""
    clicked = ("Email Link Clicked", 3.0, True)
    stream, _ = mailed(clicked, conversions={"window_s": 3 * DAY})
    for user in ("u0", "u1"):  # every fourth message was clicked
        order = event("Order Completed", user=user, at=2 * DAY, order_id=user, products=[{"product_id": "p"}])
        stream.pipe(order)
    stream.flush()
    loss = stream.models.live.losses["conversions"]._loss

    assert 11 == loss.n
    assert loss._positives > 0.0


def test_a_mail_that_nobody_clicks_becomes_less_likely_to_be_clicked() -> None:
    """Delivered and not clicked lowers the probability; clicks of all raise it."""
    _, (before, ignored) = mailed(("Email Delivered", 1, False))
    _, (same, loved) = mailed(("Email Link Clicked", 1, False))

    assert before == same
    assert ignored < before < loved


@pytest.mark.parametrize("report", [None, "Email Bounced"])
def test_a_mail_system_that_says_nothing_teaches_nothing(report: str | None) -> None:
    """Silence is no 0, nor is a mail that did not arrive; else nothing would be worth sending any more."""
    stream, (before, after) = mailed(*([] if report is None else [(report, 1.0, False)]))

    assert before == after
    assert 0 == stream.models.click_metrics.loss.n


def test_a_risen_error_makes_the_click_model_forget_faster() -> None:
    """What was never clicked is clicked every other time: an alarm, the same at any batch size."""
    found = set()
    for size in (7, 1000):
        stream = Driver(settings=Settings(**SMALL), batch_size=size)
        for n in range(2000):
            stream.pipe(shown(f"u{n}", 20 * n, "a"))
            if n > 1000 and n % 2:
                stream.pipe(event("Product Clicked", user=f"u{n}", at=20 * n + 1, product_id="a"))
        stream.flush()
        stream.advance(1800)
        models = stream.models
        found.add((models.drift["clicks"].n_alarms, models.clicks.clock.n_alarms, models.fold.digest()))
    ((n_alarms, days, _),) = found
    assert n_alarms >= days == 1


def test_a_message_says_which_features_made_a_click_likely() -> None:
    """Terms are mean and deviation of the weights, from the sums that lie in the model's snapshot."""
    campaign = cart_campaign(
        value=9.0, cost=0.0, currency="EUR", consent=CampaignConsent(when_unknown="allow")
    )
    settings = Settings(**SMALL, campaigns={"holdout_share": 0.0, "exploration": 0.0})
    stream = Driver(settings=settings, campaigns=[campaign])
    for n in range(200):
        stream.pipe(shown(f"v{n}", 10.0 * n, "good", "bad"))
        stream.pipe(event("Product Clicked", user=f"v{n}", at=10.0 * n + 5, product_id="good"))
    stream.pipe(event("Product Added", user="u1", at=5000.0, product_id="good"))
    stream.advance(2 * 3600.0)
    (decision,) = [one for one in stream.take("decisions") if one.kind == "trigger"]
    told = decision.explanation
    clicks = stream.models.clicks
    state = dict(zip(clicks.snapshot()["slot"].tolist(), clicks.snapshot()["state"].tolist(), strict=True))
    encoded = clicks.encode({"item": "good"})
    slot = dict(zip(encoded.names, encoded.slots.tolist(), strict=True))["item=good"]
    precision, product = 4.0 + state[slot][0] / GRID, state[slot][1] / GRID

    assert told is not None
    assert "click_rate" == told.model
    assert 5 == len(told.terms)
    sizes = [abs(term.log_odds) for term in told.terms]
    assert sorted(sizes, reverse=True) == sizes
    good = {term.feature: term for term in told.terms}["item=good"]
    assert product / precision == pytest.approx(good.log_odds, abs=1e-4)
    assert precision**-0.5 == pytest.approx(good.deviation, abs=1e-4)
