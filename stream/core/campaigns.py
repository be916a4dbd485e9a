"""Campaign: arm, move, cancel and fire timers; every check is made again when a timer fires.

One live timer per (user, campaign, key); the key is the product. Re-arming moves it.
A timer fires at ``due + lateness_s``, before the record that brings the watermark there is applied, so a
conversion up to ``lateness_s`` late still cancels. That moment, not the watermark, is the time of the
decision: on ordered input the result does not depend on the partition count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.codec import rfc3339
from schemas.ids import id_of
from schemas.outputs import Cause
from schemas.reasons import EventKind
from stream.core.causes import Occasion
from stream.core.state import Timer

if TYPE_CHECKING:
    from schemas.catalogue import Campaign
    from schemas.events import Event, Product
    from stream.core.config import CampaignPolicy
    from stream.core.messages import Messenger
    from stream.core.profiles import Moment
    from stream.core.records import Outputs
    from stream.core.reference import Reference
    from stream.core.state import Due, PartitionState, Profile

__all__ = ["ARMING", "CANCELLING", "Campaigns"]

_K = EventKind
# Which events arm a timer, and which cancel the timer of the same product, by kind of campaign.
ARMING: dict[str, EventKind] = {"cart_abandonment": _K.CART_ADD, "browse_abandonment": _K.VIEW}
CANCELLING: dict[str, frozenset[EventKind]] = {
    "cart_abandonment": frozenset({_K.ORDER, _K.CART_REMOVE}),
    "browse_abandonment": frozenset({_K.ORDER, _K.CART_ADD}),
}
_SEPARATOR = "\x1f"
MAX_TEXT = 256  # characters of a name that a timer keeps: 64 timers must fit into one record of the changelog


class Campaigns:
    """The timers of all campaigns in one partition."""

    def __init__(
        self, policy: CampaignPolicy, reference: Reference, state: PartitionState, messenger: Messenger
    ) -> None:
        self._policy = policy
        self._reference = reference
        self._state = state
        self._messenger = messenger

    def advance(self, moment: Moment, outputs: Outputs) -> None:
        """Let an accepted event cancel timers, then arm or move those it gives reason for."""
        event, profile = moment.event, moment.profile
        if profile.timers:
            self._cancel(event, profile, outputs)
        if not moment.on_time:
            return
        for campaign in self._reference.active_campaigns():
            if ARMING[campaign.kind] is event.kind:
                for item in event.items:
                    self._arm(campaign, event, item, profile, outputs)

    def fire(self, due: Due, model_version: str, outputs: Outputs) -> None:
        """Fire a timer that is still live and was not moved."""
        profile = self._state.profile(due.user)
        timer = profile.timers.get(due.ref)
        if timer is None or timer.due + self._policy.lateness_s != due.at:
            return
        del profile.timers[due.ref]
        self._state.dirty.add(due.user)
        campaign_id, _, key = due.ref.partition(_SEPARATOR)
        campaign = self._reference.campaigns.get(campaign_id)
        if campaign is None:
            outputs.counts["campaign", campaign_id, "cancelled"] += 1
            return
        trigger_id = id_of(campaign_id, due.user, key, timer.message_id)
        cause = Cause(timer.message_id, timer.event, rfc3339(timer.event_time))
        memory = self._state.memory(due.user)
        occasion = Occasion(due.user, profile, memory, due.at, cause, model_version)
        self._messenger.send(campaign, timer, trigger_id, occasion, outputs)

    def _cancel(self, event: Event, profile: Profile, outputs: Outputs) -> None:
        """A conversion cancels its products; an order that names none cancels all: never write to a buyer."""
        if event.kind not in {_K.ORDER, _K.CART_REMOVE, _K.CART_ADD}:
            return
        item_ids = {str(item.product_id) for item in event.items}
        everything = event.kind is _K.ORDER and not item_ids
        for ref in list(profile.timers):
            campaign_id, _, key = ref.partition(_SEPARATOR)
            campaign = self._reference.campaigns.get(campaign_id)
            ends = campaign is not None and event.kind in CANCELLING[campaign.kind]
            if ends and (everything or key in item_ids):
                del profile.timers[ref]
                outputs.counts["campaign", campaign_id, "cancelled"] += 1

    def _arm(
        self, campaign: Campaign, event: Event, item: Product, profile: Profile, outputs: Outputs
    ) -> None:
        item_id = str(item.product_id)
        if profile.bought.get(item_id, float("-inf")) >= event.time:
            return  # the purchase was applied first, this event came late
        if campaign.kind == "browse_abandonment" and profile.views.get(item_id, 0) < campaign.min_views:
            return
        ref = f"{campaign.campaign_id}{_SEPARATOR}{item_id}"
        live = profile.timers.get(ref)
        if live is not None and live.event_time > event.time:
            return
        if live is None and len(profile.timers) >= self._policy.max_timers:
            outputs.counts["campaign", campaign.campaign_id, "not_armed"] += 1
            return
        due = event.time + campaign.delay_s
        context = {"product_id": item_id} | {
            name: value[:MAX_TEXT] if isinstance(value, str) else value
            for name in ("name", "category", "brand", "price", "quantity")
            if (value := getattr(item, name)) is not None
        }
        profile.timers[ref] = Timer(due, event.message_id, event.name, event.time, context)
        self._state.schedule(due + self._policy.lateness_s, event.user, "campaign", ref)
        outputs.counts["campaign", campaign.campaign_id, "moved" if live else "armed"] += 1
