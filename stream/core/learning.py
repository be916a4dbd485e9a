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
from online_models.optional_source import NOBODY, Asker
from online_models.slate import NO_NEW_ITEMS
from schemas.ids import bucket
from schemas.outputs import Explanation, Term
from schemas.reasons import EventKind
from stream.core.reference import Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from online_models.bandits import ThompsonSampling
    from online_models.cooccurrence import SequentialCooccurrence
    from online_models.drift import DriftWatch
    from online_models.fold import ModelSet
    from online_models.gate import Verdict
    from online_models.hashed import HashedLogistic
    from online_models.hybrid import OnlineBlend, Slate
    from online_models.many_offers import ManyOffers
    from online_models.metrics import ClickMetrics, RankingMetrics
    from online_models.slate import NewItems
    from schemas.catalogue import Item
    from schemas.events import Event
    from stream.core.attribution import Feedback
    from stream.core.challenging import ClickTrial, RankTrial, Trial
    from stream.core.newcomers import Newcomers
    from stream.core.profiles import Moment
    from stream.core.quality import LiveQuality
    from stream.core.rows import ModelMemory

__all__ = ["Learner", "Models", "asker_of"]

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
    rank_trial: RankTrial | None = None
    newcomers: Newcomers | None = None
    verdicts: list[tuple[Trial, Verdict, float]] = field(default_factory=list)  # and when; to be announced

    @property
    def trials(self) -> dict[str, Trial]:
        """Challengers, by what they challenge."""
        found = {"clicks": self.click_trial, "recommend": self.rank_trial}
        return {name: trial for name, trial in found.items() if trial is not None}

    @property
    def serving_blend(self) -> OnlineBlend:
        """The blend that serves: the incumbent, or a challenger while it has won."""
        trial = self.rank_trial
        return trial.blend if trial is not None and trial.serves else self.blend

    @property
    def serving_clicks(self) -> HashedLogistic:
        """The click model that serves: the incumbent, or a challenger while it has won."""
        trial = self.click_trial
        return trial.model if trial is not None and trial.serves else self.clicks

    def newcomers_for(self, history: Sequence[str], at: float, items: Rows[Item]) -> NewItems:
        """Items of the catalogue that the models have not met, for somebody with a history."""
        return NO_NEW_ITEMS if self.newcomers is None else self.newcomers.of(history, at, items)

    def click_probability(self, features: Mapping[str, str], at: float) -> float:
        """Probability of a click at an event time: what was learned has faded by then."""
        return self.serving_clicks.predict_proba_one(features, at)

    def conversion_probability(self, features: Mapping[str, str], at: float) -> float:
        """Probability that a click on an item leads to an order of it; 1 without a model of that."""
        return 1.0 if self.conversions is None else self.conversions.predict_proba_one(features, at)

    def explain_click(self, features: Mapping[str, str], at: float) -> Explanation:
        """The strongest terms of the click model at an event time, by readable names."""
        model = self.serving_clicks
        terms = [
            Term(one.name, round(one.log_odds, DIGITS), round(one.deviation, DIGITS))
            for one in model.explain(features, TERMS, at)
        ]
        return Explanation(model.name, terms)


def asker_of(moment: Moment, blend: OnlineBlend) -> Asker:
    """Who asks, for the optional sources, where there are any."""
    if not blend.optional:
        return NOBODY
    return Asker(moment.event.user, tuple(sorted(moment.profile.segments)))


class Learner:
    """Feeds interactions and feedback to the models."""

    def __init__(
        self,
        models: Models,
        negative_share: float = 1.0,
        late_share: float = 1.0,
        items: Rows[Item] | None = None,
    ) -> None:
        self._models = models
        self._items = Rows() if items is None else items
        self._late_share = late_share
        self._negative_share = negative_share

    def learn(self, moment: Moment, memory: ModelMemory) -> None:
        """Learn an event's interactions; items are taken in the event's order."""
        if not moment.teaches or not (moment.fresh or moment.repeated):
            return
        blend, time = self._models.blend, moment.event.time
        history = moment.history
        asker, gap_s = asker_of(moment, blend), moment.gap_s
        for item_id in moment.fresh:
            rank = self._rank(item_id, moment, history, memory, asker)
            self._models.recommend_metrics.update(rank)
            values = self._values_of(moment.event, item_id)
            memory.factors = blend.observe(
                item_id, history, time, 1.0, False, memory.factors, values, asker, gap_s=gap_s
            )
            history = [item_id, *history][:64]
        for item_id in moment.repeated:
            memory.factors = blend.observe(
                item_id, history, time, 1.0, repeat=True, memory=memory.factors, gap_s=gap_s
            )
        if moment.event.kind is EventKind.ORDER:
            learn_order(self._models.baskets, [*moment.fresh, *moment.repeated], time)

    def _rank(
        self,
        item_id: str,
        moment: Moment,
        history: Sequence[str],
        memory: ModelMemory,
        asker: Asker,
    ) -> int | None:
        """Place of an item in the slate that its user would have had; the rankers learn from it."""
        models, time, items = self._models, moment.event.time, self._items
        met, new = item_id in models.blend.vocabulary, models.newcomers
        if not met and (new is None or not new.may_offer(item_id, time, items)):
            return None
        newcomers = models.newcomers_for(history, time, items)
        if not met and item_id not in newcomers.item_ids:
            return None

        def slate_of(blend: OnlineBlend) -> Slate:
            return blend.propose(
                history,
                time,
                moment.gap_s,
                (),
                memory.factors,
                new_only=True,
                asker=asker,
                newcomers=newcomers,
            )

        slate = slate_of(models.blend)
        rank = slate.rank_of(item_id)
        models.blend.learn_one(slate, item_id)
        if (trial := models.rank_trial) is not None:
            theirs = slate_of(trial.blend)
            if (verdict := trial.compare(rank, theirs.rank_of(item_id))) is not None:
                models.verdicts.append((trial, verdict, time))
            trial.blend.learn_one(theirs, item_id)
        return rank

    def _values_of(self, event: Event, item_id: str) -> Sequence[str]:
        """Attribute values of an item, as the event gives them, else as the catalogue does."""
        for item in event.items:
            if str(item.product_id) == item_id:
                properties = event.properties
                named = (
                    ("category", item.category or properties.category),
                    ("brand", item.brand or properties.brand),
                )
                if values := [attribute_value(name, value) for name, value in named if value]:
                    return values
        newcomers = self._models.newcomers
        return newcomers.values(item_id, self._items) if newcomers is not None else ()

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
        if feedback.kind == "click":
            self._learn_click(feedback)
        elif feedback.kind == "conversion":
            self._learn_conversion(feedback)
        elif feedback.kind == "offer" and feedback.action != NOTHING:
            self._learn_offer(feedback)

    def _learn_click(self, feedback: Feedback) -> None:
        models, reward, weight = self._models, feedback.reward, self._click_weight(feedback)
        if not weight or not _fit(feedback.features, models.clicks):
            return
        p = models.clicks.learn_one(_hashed(feedback.features), reward, weight, feedback.at)
        models.click_metrics.update(reward, p, weight)
        models.live.losses["clicks"].update(reward, p, weight, feedback.at)
        if models.drift["clicks"].update((reward - p) ** 2):
            models.clicks.alarm(feedback.at)
        trial = models.click_trial
        if trial is not None and feedback.logged and _fit(feedback.logged, trial.model):
            self._challenge(trial, feedback, weight, p)

    def _learn_conversion(self, feedback: Feedback) -> None:
        models, reward = self._models, feedback.reward
        if models.conversions is None or not _fit(feedback.features, models.conversions):
            return
        shown = _hashed(feedback.features)
        p = models.conversions.predict_proba_one(shown, feedback.at)
        weight = delayed_weight(reward, p)
        models.conversions.learn_one(shown, reward, weight, feedback.at)
        models.live.losses["conversions"].update(reward, p, weight, feedback.at)

    def _learn_offer(self, feedback: Feedback) -> None:
        models, reward = self._models, feedback.reward
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
        if (verdict := trial.compare(y, 1.0 / self._negative_share, incumbent, p)) is not None:
            self._models.verdicts.append((trial, verdict, at))


def _fit(slots: Sequence[float], model: HashedLogistic) -> bool:
    """Whether features were hashed for such a table; those from before it was made smaller teach nothing."""
    return max(slots, default=0) < model.n_slots


def _hashed(slots: Sequence[float]) -> SparseFeatures:
    """Features as they were logged."""
    return SparseFeatures(np.array(slots, dtype=np.int32), np.ones(len(slots)), ())
