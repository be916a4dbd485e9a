"""Learn: test, then train. Every model scores an event before it learns it; the score feeds the metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from online_models.bandits import NOTHING
from online_models.baskets import learn_order
from online_models.content import attribute_value
from online_models.delayed import delayed_weight
from online_models.hashing import SparseFeatures
from schemas.ids import bucket
from schemas.outputs import Explanation, Term
from schemas.reasons import EventKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from online_models.bandits import ThompsonSampling
    from online_models.cooccurrence import SequentialCooccurrence
    from online_models.drift import DriftWatch
    from online_models.fold import ModelSet
    from online_models.hashed import HashedLogistic
    from online_models.hybrid import OnlineBlend
    from online_models.many_offers import ManyOffers
    from online_models.metrics import ClickMetrics, RankingMetrics
    from schemas.events import Event
    from stream.core.attribution import Feedback
    from stream.core.challenging import ClickTrial
    from stream.core.profiles import Moment
    from stream.core.quality import LiveQuality
    from stream.core.rows import ModelMemory

__all__ = ["Learner", "Models"]

TERMS: Final = 5  # of an explanation
DIGITS: Final = 4


@dataclass(slots=True)
class Models:
    """The learners of one worker and their progressive metrics."""

    blend: OnlineBlend
    baskets: SequentialCooccurrence
    clicks: HashedLogistic
    offers: ThompsonSampling
    many_offers: ManyOffers
    fold: ModelSet
    recommend_metrics: RankingMetrics
    click_metrics: ClickMetrics
    offer_metrics: ClickMetrics
    drift: dict[str, DriftWatch]
    live: LiveQuality
    conversions: HashedLogistic | None = None
    click_trial: ClickTrial | None = None
    won: list[tuple[ClickTrial, float]] = field(default_factory=list)  # and when, not announced yet

    @property
    def serving_clicks(self) -> HashedLogistic:
        """The click model that serves: the incumbent, or a challenger that has won."""
        trial = self.click_trial
        return trial.model if trial is not None and trial.serves else self.clicks

    def click_probability(self, features: Mapping[str, str]) -> float:
        """Probability of a click."""
        return self.serving_clicks.predict_proba_one(features)

    def conversion_probability(self, features: Mapping[str, str]) -> float:
        """Probability that a click on an item leads to an order of it; 1 without a model of that."""
        return 1.0 if self.conversions is None else self.conversions.predict_proba_one(features)

    def explain_click(self, features: Mapping[str, str]) -> Explanation:
        """The strongest terms of the click model, by readable names."""
        model = self.serving_clicks
        terms = [
            Term(one.name, round(one.log_odds, DIGITS), round(one.deviation, DIGITS))
            for one in model.explain(features, TERMS)
        ]
        return Explanation(model.name, terms)


class Learner:
    """Feeds interactions and feedback to the models."""

    def __init__(self, models: Models, negative_share: float = 1.0, late_share: float = 1.0) -> None:
        self._models = models
        self._late_share = late_share
        self._negative_share = negative_share

    def learn(self, moment: Moment, memory: ModelMemory) -> None:
        """Learn an event's interactions; items are taken in the event's order."""
        if not moment.teaches or not (moment.fresh or moment.repeated):
            return
        blend, time = self._models.blend, moment.event.time
        history = moment.history
        for item_id in moment.fresh:
            rank = None
            if item_id in blend.vocabulary:  # an item nobody has met is no candidate of any source
                slate = blend.propose(history, time, moment.gap_s, (), memory.factors, new_only=True)
                rank = slate.rank_of(item_id)
                blend.learn_one(slate, item_id)
            self._models.recommend_metrics.update(rank)
            memory.factors = blend.observe(
                item_id, history, time, 1.0, False, memory.factors, self._values_of(moment.event, item_id)
            )
            history = [item_id, *history][:64]
        for item_id in moment.repeated:
            memory.factors = blend.observe(item_id, history, time, 1.0, repeat=True, memory=memory.factors)
        if moment.event.kind is EventKind.ORDER:
            learn_order(self._models.baskets, [*moment.fresh, *moment.repeated], time)

    def _values_of(self, event: Event, item_id: str) -> list[str]:
        """Attribute values of an item, as the event gives them."""
        for item in event.items:
            if str(item.product_id) == item_id:
                properties = event.properties
                named = (
                    ("category", item.category or properties.category),
                    ("brand", item.brand or properties.brand),
                )
                return [attribute_value(name, value) for name, value in named if value]
        return []

    def _click_weight(self, feedback: Feedback) -> float:
        """1 for a click; impressions without one are sampled, and one that is kept stands for all its share.

        So the model stays calibrated: its labels have the odds of the whole stream. Which are kept is a hash.
        """
        share = self._negative_share
        if feedback.reward or share == 1.0:
            return 1.0
        return 1.0 / share if bucket("negatives", repr(feedback)) < share else 0.0

    def feed(self, feedback: Feedback) -> None:
        """Learn one closed decision or impression from the features logged when it was made."""
        models, reward = self._models, feedback.reward
        if feedback.kind == "click":
            weight = self._click_weight(feedback)
            if weight:
                p = models.clicks.learn_one(_hashed(feedback.features), reward, weight, feedback.at)
                models.click_metrics.update(reward, p, weight)
                models.live.losses["clicks"].update(reward, p, weight, feedback.at)
                if models.drift["clicks"].update((reward - p) ** 2):
                    models.clicks.alarm(feedback.at)
                if models.click_trial is not None and feedback.logged:
                    self._challenge(models.click_trial, feedback, weight, p)
        elif feedback.kind == "conversion" and models.conversions is not None:
            shown = _hashed(feedback.features)
            p = models.conversions.predict_proba_one(shown, feedback.at)
            weight = delayed_weight(reward, p)
            models.conversions.learn_one(shown, reward, weight, feedback.at)
            models.live.losses["conversions"].update(reward, p, weight, feedback.at)
        elif feedback.kind == "offer" and feedback.action != NOTHING:
            offer, x, category, at = feedback.action, feedback.features, feedback.category, feedback.at
            weight = 1.0
            if feedback.delayed:
                p = models.offers.predict_one(offer, x, category=category, at=at)
                weight = delayed_weight(reward, p, self._late_share)
            p = models.offers.learn_one(offer, x, reward, weight, category=category, at=at)
            models.many_offers.learn_offer(offer, x, reward, weight, category=category, at=at)
            models.offer_metrics.update(reward, p, weight)
            models.live.losses["offers"].update(reward, p, weight, at)
            if reward:
                models.live.answered(feedback.logged)
            if models.drift["offers"].update((reward - p) ** 2):
                models.offers.alarm(feedback.at)
                models.many_offers.alarm(feedback.at)

    def _challenge(self, trial: ClickTrial, feedback: Feedback, weight: float, incumbent: float) -> None:
        """Let the challenger predict and learn what the incumbent has just learned, and compare."""
        y, at = feedback.reward, feedback.at
        p = trial.model.learn_one(_hashed(feedback.logged), y, weight, at)
        self._models.live.losses["clicks_challenger"].update(y, p, weight, at)
        if trial.compare(y, weight, incumbent, p):
            self._models.won.append((trial, at))


def _hashed(slots: Sequence[float]) -> SparseFeatures:
    """Features as they were logged."""
    return SparseFeatures(np.array(slots, dtype=np.int32), np.ones(len(slots)), ())
