"""Campaign: arm, move, end and fire timers; every check is made again when a timer fires.

One live timer per (user, campaign, key); the key is the product, the user, or the user's cart. Re-arming
moves it. A timer fires at ``due + lateness_s``, before the record that brings the watermark there is applied,
so a conversion up to ``lateness_s`` late still ends it. An event that comes when its timer would be due
already makes it due at once, so what belongs to it may come as late. The moment at which a timer fires is the
time of the decision, not the watermark: on ordered input nothing depends on the partition count.

Occasions come from events (:meth:`Campaigns.advance`), from changes of items
(:meth:`Campaigns.look_at_items`) and from segments (:meth:`Campaigns.segment_changed`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.codec import rfc3339
from schemas.commands import Switch
from schemas.ids import id_of
from schemas.outputs import Cause
from schemas.reasons import EventKind, SuppressionReason
from stream.core.causes import Occasion
from stream.core.checks import DueMessage
from stream.core.commands import is_stopped
from stream.core.conditions import Facts, always
from stream.core.features import message_features
from stream.core.matching import SEPARATOR, latest_occasion, note
from stream.core.milestones import crossed
from stream.core.objections import (
    NEVER_BEFORE,
    asked_of,
    begins_anew,
    carted,
    emptied,
    fits,
    spoken_against,
    was_before,
)
from stream.core.rows import Match
from stream.core.rules import RuleBook
from stream.core.segments import TIME_PASSED
from stream.core.state import Due
from stream.core.timers import context_of, is_named, sku_in, timer_of
from stream.core.variants import item_of, key_of, sku_of
from stream.core.watching import begin_watch, springs, watch_again

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from schemas.events import Event, Product
    from stream.core.causes import SegmentChange
    from stream.core.config import CampaignPolicy
    from stream.core.messages import Messenger
    from stream.core.profiles import Moment
    from stream.core.records import Outputs
    from stream.core.reference import Reference
    from stream.core.rows import ModelMemory, Profile, Timer
    from stream.core.rules import Rule
    from stream.core.state import PartitionState

    Context = dict[str, str | float | list[str]]

__all__ = ["Campaigns"]

_NOT_NOW = SuppressionReason.INELIGIBLE


@dataclass(slots=True)
class _Scene:
    """To whom something happens and when, and where what comes of it goes.

    ``ended`` is what was asked already. ``now`` is not the time of an event that came late: what it gives
    reason for waits from now on, for what belongs to it may come as late.
    """

    user: str
    now: float
    profile: Profile
    memory: ModelMemory
    model_version: str
    outputs: Outputs
    ended: dict[tuple[str, str, float], bool] = field(default_factory=dict)


class Campaigns:
    """The timers of all campaigns in one partition."""

    def __init__(
        self,
        policy: CampaignPolicy,
        reference: Reference,
        state: PartitionState,
        messenger: Messenger,
        click_probability: Callable[[Mapping[str, str], float], float],
    ) -> None:
        self._policy = policy
        self._reference = reference
        self._state = state
        self._messenger = messenger
        self._click_probability = click_probability
        self._rules = RuleBook()
        self._rules_revision = -1
        self._items_revision = -1

    def advance(  # noqa: C901  see the comment within
        self, moment: Moment, memory: ModelMemory, model_version: str, outputs: Outputs
    ) -> None:
        """Let an accepted event end timers, then arm or move those it gives reason for."""
        event, profile, book = moment.event, moment.profile, self._book()
        kind = event.kind
        arming = book.arming.get(kind) if moment.on_time else None
        if not arming and kind not in book.remembered and not profile.timers:
            return
        facts = self._facts(event, profile)
        if kind in book.remembered:
            note(facts, event, profile, book)
        if profile.timers and kind in book.ending:
            self._end(event, profile, outputs)
        if profile.timers and event.is_cart:
            self._end_left_out(event, profile, outputs)
        if not arming:
            return
        now = max(event.time, self._state.header.watermark)
        scene = _Scene(event.user, now, profile, memory, model_version, outputs)
        plain = Facts(profile, event.time)
        match = Match(event.time, event.message_id, event.name)
        for rule in arming.concerned(event.name, plain):
            where, audience = rule.arming.where, rule.rest
            if rule.key == "product":
                for fact in facts:
                    if (
                        fact.product is not None
                        and (audience is always or audience(fact))
                        and (where is always or where(fact))
                    ):
                        self._arm_product(rule, fact.product, match, scene)
            elif audience is always or audience(plain):
                met = facts if where is always else [fact for fact in facts if where(fact)]
                if met:
                    self._arm_user(rule, event, met, match, scene)

    def segment_changed(
        self, change: SegmentChange, memory: ModelMemory, model_version: str, outputs: Outputs
    ) -> None:
        """Let a user's entry into a segment, or exit, arm the campaigns that wait for it."""
        profile = self._state.profile(change.user)
        now = change.time if change.event == TIME_PASSED else max(change.time, self._state.header.watermark)
        scene = _Scene(change.user, now, profile, memory, model_version, outputs)
        for rule in self._book().by_segment.get(change.segment, ()):
            wanted = (rule.campaign.segment_change == "entry") == change.entered
            if wanted and rule.audience(Facts(profile, change.time)):
                match = Match(change.time, change.message_id, change.event)
                self._arm(rule, change.segment, match, {"segment": change.segment}, scene)

    def is_awaited(self) -> bool:
        """Whether an item changed since the last look that a timer may wait for."""
        changes = self._reference.items.changes
        if changes.revision == self._items_revision:
            return False
        changed = changes.since(self._items_revision)
        watched = self._state.watched()
        return bool(watched) if changed is None else not set(changed).isdisjoint(watched)

    def look_at_items(self, outputs: Outputs) -> None:
        """Let changed items spring the timers that wait for them; the watermark is the time of that.

        Called before a batch and before idle time passes. After a start everything that is waited for is
        looked at, for nobody knows what changed meanwhile.
        """
        items = self._reference.items
        if items.changes.revision == self._items_revision:
            return
        changed = items.changes.since(self._items_revision)
        self._items_revision = items.changes.revision
        state = self._state
        for item_id in state.watched() if changed is None else changed:
            for user in state.watchers(item_id):
                # Like what comes due: where the engine fails on it, no record is to blame.
                if (due := Due(NEVER_BEFORE, user, "item", item_id)) not in state.given_up:
                    state.in_hand = due
                    self._look(item_id, user, outputs)
        state.in_hand = None

    def fire(self, due: Due, model_version: str, outputs: Outputs) -> None:
        """Fire a timer that is still live; one that was moved waits on."""
        profile = self._state.profile(due.user)
        timer = profile.timers.get(due.ref)
        if timer is None:
            return
        at = timer.due + self._policy.lateness_s
        if at != due.at:
            if at > due.at:  # moved: this entry of the heap stands for the timer, so it moves too
                self._state.schedule(at, due.user, "campaign", due.ref)
            return
        campaign_id, _, key = due.ref.partition(SEPARATOR)
        rule = self._book().rules.get(campaign_id)
        if rule is None or timer.watch or _is_void(rule, key, timer, profile):
            self._drop(due.user, profile, due.ref)
            outputs.counts["campaign", campaign_id, "cancelled"] += 1
            return
        until = begins_anew(rule, key, profile) + rule.campaign.delay_s
        if until > timer.due:
            timer.due, timer.first_due, timer.held_for = until, 0.0, ""
            self._state.dirty.add(due.user)
            self._state.schedule(until + self._policy.lateness_s, due.user, "campaign", due.ref)
            return
        self._drop(due.user, profile, due.ref)
        memory = self._state.memory(due.user)
        scene = _Scene(due.user, at, profile, memory, model_version, outputs)
        self._decide(rule, key, timer, at, scene)

    def give_up(self, due: Due, model_version: str, outputs: Outputs) -> None:
        """Drop a timer that the engine fails on, and log the message that is not sent."""
        profile, memory = self._state.profile(due.user), self._state.memory(due.user)
        timer = profile.timers.get(due.ref)
        if timer is None:
            return
        self._drop(due.user, profile, due.ref)
        campaign_id, _, key = due.ref.partition(SEPARATOR)
        rule = self._book().rules.get(campaign_id)
        if rule is not None:
            scene = _Scene(due.user, due.at, profile, memory, model_version, outputs)
            self._messenger.give_up(_message(rule, key, timer, due.at, scene), outputs)

    def _book(self) -> RuleBook:
        campaigns = self._reference.campaigns
        if campaigns.changes.revision != self._rules_revision:
            self._rules, self._rules_revision = RuleBook.of(campaigns.values()), campaigns.changes.revision
        return self._rules

    def _facts(self, event: Event, profile: Profile) -> list[Facts]:
        """What conditions may look at: one for each product, or one for an event without products."""
        if not event.items:
            return [Facts(profile, event.time, event)]
        items = self._reference.items
        return [
            Facts(profile, event.time, event, item, items.get(item.product_id))  # type: ignore[arg-type]  # text
            for item in event.items
        ]

    # Ending.

    def _end(self, event: Event, profile: Profile, outputs: Outputs) -> None:
        """End what the event concludes: its products, or all where not each is named. Never write to a buyer.

        Only what was armed by then ends: who buys and comes back later is somebody who came back.
        """
        ids = set() if event.unnamed else {str(item.product_id) for item in event.items}
        for ref in list(profile.timers):
            campaign_id, _, key = ref.partition(SEPARATOR)
            rule = self._rules.rules.get(campaign_id)
            if rule is None or not rule.ending.means(event):
                continue
            timer = profile.timers[ref]
            if rule.key == "cart" and timer.products:
                for item_id in ids or [*timer.products]:
                    if timer.products.get(item_id, float("inf")) <= event.time:
                        del timer.products[item_id]
                ends = not timer.products
            else:
                meant = rule.key != "product" or not ids or is_named(event, rule, key, timer)
                ends = timer.event_time <= event.time and meant
            if ends:
                self._drop(event.user, profile, ref)
                outputs.counts["campaign", campaign_id, "cancelled"] += 1

    def _end_left_out(self, event: Event, profile: Profile, outputs: Outputs) -> None:
        """End reminders of what is not in a cart any more that is told as a whole."""
        ids = {str(item.product_id) for item in event.items}
        for ref in list(profile.timers):
            campaign_id, _, key = ref.partition(SEPARATOR)
            rule = self._rules.rules.get(campaign_id)
            if rule is None or EventKind.CART_REMOVE not in rule.ending.kinds:
                continue
            timer = profile.timers[ref]
            if rule.key == "cart" and timer.products:
                for item_id in timer.products.keys() - ids:
                    if timer.products[item_id] <= event.time:
                        del timer.products[item_id]
                ends = not timer.products
            else:
                left_out = rule.key == "product" and not is_named(event, rule, key, timer)
                ends = left_out and timer.event_time <= event.time
            if ends:
                self._drop(event.user, profile, ref)
                outputs.counts["campaign", campaign_id, "cancelled"] += 1

    def _drop(self, user: str, profile: Profile, ref: str) -> None:
        timer = profile.timers.pop(ref)
        self._state.dirty.add(user)
        if timer.watch:
            self._unwatch(user, profile, str(timer.context["product_id"]))

    def _unwatch(self, user: str, profile: Profile, item_id: str) -> None:
        others = (t for t in profile.timers.values() if t.watch and t.context["product_id"] == item_id)
        if next(others, None) is None:
            self._state.unwatch(item_id, user)

    # Arming.

    def _arm_user(
        self, rule: Rule, event: Event, facts: Sequence[Facts], match: Match, scene: _Scene
    ) -> None:
        """Arm a rule whose key is not the product."""
        campaign = rule.campaign
        if campaign.counter is not None:
            for threshold in crossed(campaign, event, scene.profile):
                context: Context = {"counter": campaign.counter, "threshold": threshold}
                self._arm(rule, f"{threshold:g}", match, context, scene)
            return
        products: list[Product] = []
        if rule.key == "cart":
            products = [fact.product for fact in facts if fact.product is not None]
            if not products and emptied(rule, match.time, scene.profile):
                return
        self._arm(rule, "", match, {}, scene, products)

    def _arm_product(self, rule: Rule, item: Product, match: Match, scene: _Scene) -> None:
        item_id = str(item.product_id)
        if rule.campaign.min_score is not None:
            if is_stopped(self._state.header, Switch.MODELS):
                return
            category = item.category or self._reference.category_of(item_id)
            features = message_features(
                rule.campaign.campaign_id, scene.user, item_id, category, scene.profile
            )
            if self._click_probability(features, match.time) < rule.campaign.min_score:
                return
        self._arm(rule, key_of(item, per_variant=rule.per_variant), match, item, scene)

    def _arm(  # noqa: C901  one guard per reason
        self,
        rule: Rule,
        key: str,
        match: Match,
        about: Context | Product,
        scene: _Scene,
        products: Sequence[Product] = (),
    ) -> None:
        """Arm or move the timer of (user, campaign, key), unless something speaks against it by now."""
        campaign, profile, user = rule.campaign, scene.profile, scene.user
        if rule.counts:
            found = self._occasion(rule, key, match.time, profile)
            if found is None:
                return
            if found != match:
                match, about = found, {"product_id": item_of(key)} if rule.key == "product" else {}
        sku = "" if isinstance(about, dict) or not rule.per_variant else sku_of(about)
        if spoken_against(rule, asked_of(rule, key, sku), match.time, profile, scene.ended):
            return
        ref = f"{campaign.campaign_id}{SEPARATOR}{key}"
        live = profile.timers.get(ref)
        left = carted(rule, products, match.time, profile, live)
        if products and not left:
            return
        if live is not None and (live.event_time, live.message_id) >= (match.time, match.message_id):
            return
        if live is None and len(profile.timers) >= self._policy.max_timers:
            scene.outputs.counts["campaign", campaign.campaign_id, "not_armed"] += 1
            return
        context = context_of(rule, key, about)
        timer = timer_of(rule, match, context, left, scene.now, self._policy.lateness_s)
        scene.outputs.counts["campaign", campaign.campaign_id, "moved" if live else "armed"] += 1
        if campaign.immediate:
            if live is not None:
                self._drop(user, profile, ref)  # what was held is not sent besides
            self._decide(rule, key, timer, timer.due, scene)
            return
        if rule.waits_for_item:
            begin_watch(timer, campaign, self._reference.items.get(key))
            self._state.watch(key, user)
        profile.timers[ref] = timer
        if live is None or live.due > timer.due:  # else its entry of the heap comes first and moves on
            self._state.schedule(timer.due + self._policy.lateness_s, user, "campaign", ref)

    def _occasion(self, rule: Rule, key: str, since: float, profile: Profile) -> Match | None:
        """The event that completes the rule's number, unless its message would have gone out already."""
        found = latest_occasion(rule, key if rule.key == "product" else "", since, profile)
        waits_s = rule.campaign.delay_s + self._policy.lateness_s
        if found is None or found.time + waits_s <= self._state.header.watermark:
            return None
        return found

    # Firing.

    def _decide(self, rule: Rule, key: str, timer: Timer, now: float, scene: _Scene) -> None:
        """Hand a message over for its checks; keep it where it has to wait."""
        campaign, user = rule.campaign, scene.user
        verdict = self._messenger.decide(_message(rule, key, timer, now, scene), scene.outputs)
        if verdict.until is not None:
            timer.first_due = timer.first_due or now
            timer.due, timer.held_for = verdict.until - self._policy.lateness_s, verdict.held_for
            scene.outputs.counts["campaign", campaign.campaign_id, "held"] += 1
        elif verdict.reason is _NOT_NOW and self._waits_on(rule, key, timer, now, scene.profile):
            self._state.watch(key, user)
            scene.outputs.counts["campaign", campaign.campaign_id, "armed"] += 1
        else:
            return
        ref = f"{campaign.campaign_id}{SEPARATOR}{key}"
        scene.profile.timers[ref] = timer
        self._state.dirty.add(user)
        self._state.schedule(timer.due + self._policy.lateness_s, user, "campaign", ref)

    def _waits_on(self, rule: Rule, key: str, timer: Timer, now: float, profile: Profile) -> bool:
        """Whether a message whose moment was over waits for the next; not if the product was bought."""
        bought = profile.bought.get(key, NEVER_BEFORE) >= timer.event_time
        return not bought and watch_again(timer, rule, self._reference.items.get(key), now)

    def _look(self, item_id: str, user: str, outputs: Outputs) -> None:
        """Spring, or note on, the timers of a user that wait for an item."""
        profile, item = self._state.profile(user), self._reference.items.get(item_id)
        now = self._state.header.watermark
        for ref, timer in profile.timers.items():
            rule = self._book().rules.get(ref.partition(SEPARATOR)[0])
            if not timer.watch or rule is None or timer.context["product_id"] != item_id:
                continue
            self._state.dirty.add(user)
            if item is not None and springs(timer, rule, item):
                timer.watch, timer.occurrence = False, str(item.version)
                timer.due = now + rule.campaign.delay_s
                self._state.schedule(timer.due + self._policy.lateness_s, user, "campaign", ref)
                outputs.counts["campaign", rule.campaign.campaign_id, "sprung"] += 1
        self._unwatch(user, profile, item_id)


def _is_void(rule: Rule, key: str, timer: Timer, profile: Profile) -> bool:
    """Whether a timer was armed under another key, or what must not have been before it came after it."""
    if not fits(rule, key, timer):
        return True
    return was_before(rule, asked_of(rule, key, sku_in(timer)), timer.event_time, profile)


def _message(rule: Rule, key: str, timer: Timer, now: float, scene: _Scene) -> DueMessage:
    """What a timer of somebody stands for at an event time."""
    campaign, user = rule.campaign, scene.user
    trigger_id = id_of(campaign.campaign_id, user, key, timer.occurrence or timer.message_id)
    cause = Cause(timer.message_id, timer.event, rfc3339(timer.event_time))
    occasion = Occasion(user, scene.profile, scene.memory, now, cause, scene.model_version)
    return DueMessage(rule, campaign, key, timer, trigger_id, occasion)
