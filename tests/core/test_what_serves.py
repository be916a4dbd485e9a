"""What serves is what was learned: faded by now, and by nobody who was shown nothing."""

from __future__ import annotations

import random
from unittest import mock

import msgspec
import pytest

from online_models.gate import ChallengerGate
from schemas.campaigns import CampaignConsent
from schemas.outputs import Decision
from stream.assembly import build_models
from stream.core.attribution import Feedback
from stream.core.challenging import ClickTrial
from stream.core.learning import Learner
from stream.settings import Settings
from stream.testing import EPOCH, Driver, cart_campaign, event
from tests.core.shop_events import SMALL, offer

DAY_S = 86_400.0
HOUR_S = 3600.0
NOW = 1.7e9
OFTEN = {"holdout_share": 0.0, "lateness_s": 0.0, "daily_cap": None}


def test_what_was_learned_long_ago_has_faded_for_who_asks() -> None:
    """Twelve half-lives after an advertisement was always clicked it is worth next to nothing."""
    models = build_models(Settings(**SMALL, clicks={"half_life_days": 1.0}))
    models.clicks.begin()
    for n in range(300):
        models.clicks.learn_one({"campaign": "a"}, 1, 1.0, NOW + n)
        models.clicks.learn_one({"campaign": "b"}, 0, 1.0, NOW + n)
    models.clicks.keep()
    asked = {"campaign": "a"}
    soon, late = (models.click_probability(asked, NOW + days * DAY_S) for days in (0.0, 12.0))

    assert soon > 0.9
    assert 0.4 < late < 0.6
    terms = [models.explain_click(asked, NOW + days * DAY_S).terms for days in (0.0, 12.0)]
    strengths = [sum(abs(term.log_odds) for term in found or ()) for found in terms]
    assert strengths[0] > 2 * strengths[1]


def test_a_score_is_that_of_the_day_on_which_somebody_looks() -> None:
    """Everything was clicked on the first day; twelve half-lives later that arms nothing."""
    always = cart_campaign(
        kind="score_threshold",
        min_score=0.8,
        delay_s=60.0,
        consent=CampaignConsent(when_unknown="allow"),
        max_per_day=None,
    )
    settings = Settings(**SMALL, campaigns=OFTEN, clicks={"half_life_days": 1.0})
    stream = Driver(settings=settings, campaigns=[always])
    stream.models.clicks.begin()
    for n in range(300):
        stream.models.clicks.learn_one({"item": f"i{n}"}, 1, 1.0, EPOCH + n)
    stream.models.clicks.keep()
    for user, days in (("soon", 0.01), ("late", 12.0)):
        stream.pipe(event("Product Viewed", user=user, at=days * DAY_S, product_id="p1"))
        stream.advance(HOUR_S)

    assert ["soon"] == [trigger.recipient.user_id for trigger in stream.take("triggers")]


@pytest.mark.parametrize("share", [1.0, 0.1, 0.01])
def test_sampled_zeros_promote_nobody_who_is_worse(share: float) -> None:
    """The incumbent says .05, as it is, the challenger .10: at most one test in 20 may err."""
    promoted = 0
    for seed in range(20):
        rng, gate = random.Random(seed), ChallengerGate("clicks", 0.05, 0)
        gate.begin()
        trial = ClickTrial(gate, True, "log_loss_difference", build_models(Settings(**SMALL)).clicks)
        for _ in range(5000):
            clicked = rng.random() < 0.05
            if clicked or rng.random() < share:
                verdict = trial.compare(float(clicked), 1.0 / share, 0.05, 0.10)
                promoted += verdict is not None and verdict.for_challenger
    assert promoted <= 1


def test_the_gate_is_told_what_zeros_weigh_and_not_what_came() -> None:
    """A click weighs 1 among zeros that weigh 10: both are known before it."""
    challenger = {"clicks": "gaussian", "clicks_crosses": [("position", "category")], "warm_up": 100}
    models = build_models(Settings(**SMALL, challenger=challenger))
    trial = models.click_trial
    assert trial is not None
    models.fold.begin()
    with mock.patch.object(ClickTrial, "compare", return_value=None) as compared:
        Learner(models, 0.1).feed(Feedback("click", "i", [1], 1.0, NOW, logged=[1]))
    assert (1.0, 10.0) == compared.call_args.args[:2]


def reminded(*, dry_run: bool) -> Driver:
    """Twenty reminders with an offer that costs 1 and has a budget of 20, and no answer to any."""
    campaign = cart_campaign(
        kind="browse_abandonment",
        delay_s=60.0,
        offers=True,
        dry_run=dry_run,
        consent=CampaignConsent(when_unknown="allow"),
        max_per_day=None,
    )
    settings = Settings(
        **SMALL, campaigns=OFTEN, offers={"min_interval_s": 1e12, "budget_buffer": 0.0, "pacing": False}
    )
    stream = Driver(
        settings=settings, campaigns=[campaign], offers=[offer("o1", value=1000.0, cost=1.0, budget=20.0)]
    )
    for n in range(20):
        for k in range(3):
            stream.pipe(event("Product Viewed", user=f"u{n}", at=n * 1000.0 + k, product_id="p1"))
        stream.advance(500)
    stream.advance(3 * DAY_S)
    return stream


def test_a_dry_run_spends_nothing_and_teaches_nothing() -> None:
    """Its triggers and decisions are logged; nobody was made an offer, so nobody turned one down."""
    dry, earnest = reminded(dry_run=True), reminded(dry_run=False)
    triggers = dry.take("triggers")

    assert len(triggers) == len(earnest.take("triggers")) > 10
    assert all(trigger.dry_run for trigger in triggers)
    for stream, dry_run in ((dry, True), (earnest, False)):
        decisions = [d for d in stream.take("decisions") if d.kind != "recommendation"]
        of_campaign = {(d.kind, d.dry_run) for d in decisions if d.campaign_id}
        assert of_campaign >= {("offer", dry_run), ("trigger", dry_run)}
        assert not any(d.dry_run for d in decisions if not dry_run or not d.campaign_id)
    assert {} == dry.engine.state.header.spend != earnest.engine.state.header.spend
    assert dry.models.offer_metrics.loss.n == 0 < earnest.models.offer_metrics.loss.n


@pytest.mark.parametrize("stops", [False, True])
def test_learning_goes_on_for_everybody_after_a_stop(*, stops: bool) -> None:
    """Windows that ended meanwhile teach nothing; those that open after it teach again."""
    stream = Driver(
        settings=Settings(**SMALL, offers={"min_interval_s": 1.0}), offers=[offer("o1", value=1e6)]
    )

    def shown(at: float) -> None:
        stream.pipe(
            event("Product List Viewed", user="u", at=at, products=[{"product_id": "p1"}]),
            event("Cart Viewed", user="u", at=at + 1),
        )

    def tell(kind: str) -> None:
        stream.tell(msgspec.json.encode({"command_id": kind, "kind": kind, "switch": "learning"}))

    shown(0.0)
    if stops:
        tell("stop")
    stream.advance(3 * DAY_S)
    if stops:
        tell("resume")
    before = stream.models.click_metrics.loss.n, stream.models.offer_metrics.loss.n
    assert before == ((0, 0) if stops else (1, 1))
    for n in range(5):
        shown((4 + 3 * n) * DAY_S)
        stream.advance(3 * DAY_S - 100)
    after = stream.models.click_metrics.loss.n, stream.models.offer_metrics.loss.n
    assert (before[0] + 5, before[1] + 5) == after


def test_a_reminder_with_an_offer_logs_the_propensity_of_sending() -> None:
    """All offers but "nothing" send: over two actions the mean of one over the propensity is two."""
    campaign = cart_campaign(
        delay_s=60.0, offers=True, consent=CampaignConsent(when_unknown="allow"), max_per_day=None
    )
    stream = Driver(
        settings=Settings(**SMALL, campaigns=OFTEN, offers={"min_interval_s": 1e12}),
        campaigns=[campaign],
        offers=[offer(f"o{n}", value=25.0) for n in range(5)],
        batch_size=50,
    )
    for n in range(100):
        stream.pipe(event("Product Added", user=f"u{n}", at=float(n), product_id="p1"))
    stream.advance(2000)
    logged = stream.take("decisions")
    chosen = {one.user_id: one for one in logged if one.kind == "offer"}
    sends: list[Decision] = [one for one in logged if one.kind == "trigger"]

    assert len(sends) > 50
    for one in sends:
        made = chosen[one.user_id]
        nothing = (made.propensities or [])[made.eligible.index("nothing")]
        assert one.propensity == pytest.approx(1.0 - nothing)
        assert one.propensities == pytest.approx([1.0 - nothing, nothing])
        assert one.policy == made.policy


def test_features_of_a_larger_table_teach_nothing() -> None:
    """A slot beyond the table would be written beside it."""
    models = build_models(Settings(**SMALL))
    models.clicks.begin()
    learner, beyond = Learner(models), models.clicks.n_slots
    learner.feed(Feedback("click", "i", [1, beyond], 1.0, NOW))
    assert models.click_metrics.loss.n == 0
    learner.feed(Feedback("click", "i", [1, beyond - 1], 1.0, NOW))
    assert models.click_metrics.loss.n == 1
