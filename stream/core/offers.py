"""Offer: Thompson sampling over eligible offers and "nothing", drawn after all filters, propensity logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from online_models.bandits import NOTHING
from schemas.codec import rfc3339
from schemas.commands import Switch
from schemas.ids import id_of
from schemas.outputs import Decision, Explanation
from schemas.reasons import EventKind
from stream.core.causes import Occasion, cause_of
from stream.core.commands import is_stopped
from stream.core.features import OFFER_FEATURES, offer_context
from stream.core.pacing import Budgets
from stream.core.rows import OpenDecision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from online_models.bandits import Choice
    from schemas.catalogue import Offer
    from stream.core.attribution import Attribution
    from stream.core.config import EngineConfig
    from stream.core.learning import Models
    from stream.core.profiles import Moment
    from stream.core.records import Outputs
    from stream.core.reference import Reference
    from stream.core.rows import ModelMemory, Profile
    from stream.core.state import PartitionState

__all__ = ["POLICY", "OfferDesk"]

POLICY = "thompson"
POLICY_OF_MANY = "thompson_hashed"
ON_SITE = "on_site"
OFFERED = "\x1foffered"  # among the times at which slots were filled; no site calls a slot that
DIGITS = 4  # of an explanation
_K = EventKind
_OCCASIONS = frozenset({_K.CART_ADD, _K.CART_VIEW, _K.CHECKOUT})


class OfferDesk:
    """Chooses offers, on the site and in messages; budgets are paced, and stopped hard."""

    def __init__(
        self,
        config: EngineConfig,
        models: Models,
        reference: Reference,
        state: PartitionState,
        attribution: Attribution,
    ) -> None:
        self._config = config.offers
        self._seed = config.seed
        self._window_s = config.attribution.decision_window_s
        self._bandit = models.offers
        self._many = models.many_offers
        self._live = models.live
        self._reference = reference
        self._state = state
        self._budgets = Budgets(config.offers, state, reference)
        self._attribution = attribution

    @property
    def is_open(self) -> bool:
        """Whether there are offers, and models that choose among them."""
        return bool(self._reference.offers) and not is_stopped(self._state.header, Switch.MODELS)

    def offer(self, moment: Moment, memory: ModelMemory, model_version: str, outputs: Outputs) -> None:
        """Make an on-site offer where the event is an occasion for one and the last is long enough ago."""
        event, profile = moment.event, moment.profile
        if not moment.on_time or event.kind not in _OCCASIONS or not self.is_open:
            return
        if event.time - profile.slot_times.get(OFFERED, float("-inf")) < self._config.min_interval_s:
            return
        occasion = Occasion(event.user, profile, memory, event.time, cause_of(event), model_version)
        self.choose(id_of("offer", event.user, ON_SITE, event.message_id), occasion, outputs)
        profile.slot_times[OFFERED] = event.time

    def choose(
        self,
        decision_id: str,
        occasion: Occasion,
        outputs: Outputs,
        *,
        campaign_id: str | None = None,
        dry_run: bool = False,
    ) -> Choice:
        """Draw one of the eligible offers or "nothing", log the decision, and wait for its reward.

        In a dry run nobody is made an offer: it spends nothing, and no reward is waited for.
        """
        profile, now = occasion.profile, occasion.now
        offers = [offer for offer in self._reference.active_offers(now) if self._eligible(offer, profile)]
        eligible = [NOTHING, *(offer.offer_id for offer in offers)]
        prices = [0.0, *(self._budgets.price(offer, now) for offer in offers)]
        context = offer_context(profile, now, message=campaign_id is not None)
        few = len(offers) <= self._config.few
        choice = (self._bandit if few else self._many).choose(
            eligible,
            context,
            [0.0, *(offer.value for offer in offers)],
            [0.0, *(offer.cost * (1.0 + price) for offer, price in zip(offers, prices[1:], strict=True))],
            seed=self._seed,
            decision_id=decision_id,
            categories=["", *(offer.category or "" for offer in offers)],
            at=now,
        )
        outputs.decisions.append(
            Decision(
                decision_id=decision_id,
                kind="offer",
                user_id=occasion.user,
                eligible=eligible,
                action=choice.offer,
                propensity=choice.propensity,
                propensities=list(choice.propensities),
                prices=prices if any(prices) else None,
                policy=self.policy_of(choice),
                campaign_id=campaign_id,
                model_version=occasion.model_version,
                features=dict(zip(OFFER_FEATURES, context, strict=True)),
                reason="explored" if choice.explored else "best",
                explanation=_explained(choice, eligible, self._bandit.name if few else self._many.name),
                cause=occasion.cause,
                decided_at=rfc3339(now),
                dry_run=dry_run,
            )
        )
        outputs.counts["offer", choice.offer] += 1
        if dry_run:
            return choice
        logged = self._live.offered(choice, now)
        if choice.offer != NOTHING:
            chosen = self._reference.offers[choice.offer]
            self._budgets.spend(chosen)
            opened = OpenDecision(
                "offer",
                choice.offer,
                now + self._window_s,
                features=context,
                category=chosen.category or "",
                logged=logged,
            )
            self._attribution.open(decision_id, opened, occasion.user, occasion.memory)
        return choice

    def policy_of(self, choice: Choice) -> str:
        """Name of the policy that chooses among so many."""
        return POLICY if len(choice.propensities) - 1 <= self._config.few else POLICY_OF_MANY

    def _eligible(self, offer: Offer, profile: Profile) -> bool:
        """Eligibility is an input of the choice: a filter afterwards would make the propensity wrong."""
        least, most = offer.eligibility.min_orders, offer.eligibility.max_orders
        if profile.n_orders < (least or 0) or (most is not None and profile.n_orders > most):
            return False
        return self._budgets.affords(offer)


def _explained(choice: Choice, eligible: Sequence[str], model: str) -> Explanation:
    """What the model knew of the offer it chose."""
    place = eligible.index(choice.offer)
    return Explanation(
        model,
        mean=round(choice.means[place], DIGITS),
        deviation=round(choice.deviations[place], DIGITS),
        floor_share=round(choice.floor_share, DIGITS),
    )
