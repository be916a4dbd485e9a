"""Which of several messages goes where caps leave room for fewer, and whether any is worth sending.

A message waits, at most for the decision window, while stronger ones of the same user are about to come due
and would fill the cap. If they are ended by a purchase meanwhile, it goes after all. Stronger is a higher
priority, then a higher expected value: probability of a click times value, less cost; where values are those
of orders, times the probability of an order after the click. To send nothing has an expected value of 0.
Values in different currencies are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.commands import Switch
from schemas.ids import bucket
from stream.core.commands import is_stopped
from stream.core.features import message_features
from stream.core.matching import SEPARATOR
from stream.core.variants import item_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.campaigns import Campaign
    from schemas.outputs import Explanation
    from stream.core.causes import Occasion
    from stream.core.config import CampaignPolicy
    from stream.core.learning import Models
    from stream.core.reference import Reference
    from stream.core.state import PartitionState

__all__ = ["POLICY", "Arbiter", "Worth"]

POLICY: Final = "expected_value"
AFTER_S: Final = 1.0  # how long after the last stronger message it is one's turn


@dataclass(frozen=True, slots=True)
class Worth:
    """What sending is expected to bring, and how the choice between that and nothing was made."""

    features: dict[str, float]  # probabilities, and the expected value in the campaign's currency
    propensity: float  # of sending
    sends: bool
    explored: bool
    explanation: Explanation


class Arbiter:
    """Compares messages of one user."""

    def __init__(
        self,
        policy: CampaignPolicy,
        reference: Reference,
        state: PartitionState,
        models: Models,
        seed: int,
    ) -> None:
        self._policy = policy
        self._reference = reference
        self._state = state
        self._models = models
        self._conversions = policy.values_orders
        self._seed = seed

    def weighs(self, campaign: Campaign) -> bool:
        """Whether a campaign's messages have an expected value; none has while models are stopped."""
        return campaign.value is not None and not is_stopped(self._state.header, Switch.MODELS)

    def features(self, campaign: Campaign, key: str, occasion: Occasion) -> dict[str, str]:
        """What the click model reads of a message about an item; an empty key is no item."""
        item_id = item_of(key)
        category = self._reference.category_of(item_id)
        return message_features(campaign.campaign_id, occasion.user, item_id, category, occasion.profile)

    def yields_until(
        self, campaign: Campaign, key: str, occasion: Occasion, room: int, since: float
    ) -> float | None:
        """When to look again because stronger messages would fill the cap; ``None``: it is this one's turn.

        Parameters
        ----------
        room : int
            Messages that the caps still let through.
        since : float
            When this message first came due; it waits for no longer than the decision window from there.
        """
        now, last = occasion.now, since + self._policy.decision_window_s
        stronger = []
        for ref, timer in occasion.profile.timers.items():
            at = timer.due + self._policy.lateness_s
            if timer.watch or not now <= at < last:
                continue
            campaign_id, _, other_key = ref.partition(SEPARATOR)
            other = self._reference.campaigns.get(campaign_id)
            if other is None or not other.enabled or other.message_class == "transactional":
                continue
            if other.dry_run and not campaign.dry_run:
                continue  # it takes nobody's place
            if self._outranks(other, other_key, campaign, key, occasion):
                stronger.append(at)
        return max(stronger) + AFTER_S if len(stronger) >= room else None

    def worth(self, campaign: Campaign, key: str, occasion: Occasion, decision_id: str) -> Worth:
        """Choose between sending and nothing, each with at least the explored share."""
        features = self.features(campaign, key, occasion)
        now = occasion.now
        expected = self._expected(campaign, features, now)
        explored_share = self._policy.exploration
        propensity = 1.0 - explored_share if expected > 0 else explored_share
        sends = bucket(f"arbitration:{self._seed}", decision_id) < propensity
        explored = sends != (expected > 0)
        told = {"click_probability": self._models.click_probability(features, now)}
        if self._conversions:
            told["conversion_probability"] = self._models.conversion_probability(features, now)
        told["expected_value"] = expected
        return Worth(told, propensity, sends, explored, self._models.explain_click(features, now))

    def _outranks(
        self, other: Campaign, other_key: str, campaign: Campaign, key: str, occasion: Occasion
    ) -> bool:
        if other.priority != campaign.priority:
            return other.priority > campaign.priority
        if not (self.weighs(other) and self.weighs(campaign)) or other.currency != campaign.currency:
            return False
        theirs = self._expected(other, self.features(other, other_key, occasion), occasion.now)
        return theirs > self._expected(campaign, self.features(campaign, key, occasion), occasion.now)

    def _expected(self, campaign: Campaign, features: Mapping[str, str], at: float) -> float:
        probability = self._models.click_probability(features, at)
        if self._conversions:
            probability *= self._models.conversion_probability(features, at)
        return probability * (campaign.value or 0.0) - campaign.cost
