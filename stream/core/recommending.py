"""Recommend: candidates, rank, filter on current state, slate. Event time alone decides when to emit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from online_models.optional_source import NOBODY
from schemas.codec import rfc3339
from schemas.commands import Switch
from schemas.ids import id_of
from schemas.outputs import Decision, Recommendation, RecommendedItem
from schemas.reasons import EventKind
from stream.core.causes import Occasion, cause_of
from stream.core.commands import is_stopped
from stream.core.learning import asker_of
from stream.core.profiles import silence
from stream.core.reranking import POOL, reranked, reranks
from stream.core.rows import ModelMemory, OpenDecision
from stream.core.slots import Slot, listed, slot_of

if TYPE_CHECKING:
    from stream.core.attribution import Attribution
    from stream.core.config import EngineConfig
    from stream.core.learning import Models
    from stream.core.profiles import Moment
    from stream.core.records import Outputs
    from stream.core.reference import Reference
    from stream.core.state import PartitionState

__all__ = ["POLICY", "Recommender"]

POLICY = "blend"
POLICY_OF_CHALLENGER = "blend_challenger"
MAX_NAME = 64  # characters of a slot
MAX_SLOTS = 8  # of a user, of which it is known when they were filled last; for_you always is
_K = EventKind
_BLENDED = frozenset({Slot.FOR_YOU, Slot.OTHERS_YOU_MAY_LIKE})
_OCCASIONS = frozenset({_K.VIEW, _K.CLICK, _K.CART_ADD, _K.WISH_ADD, _K.ORDER, _K.REVIEW, _K.REQUEST})


class Recommender:
    """Decides whether an event calls for a slate, and which."""

    def __init__(
        self,
        config: EngineConfig,
        models: Models,
        reference: Reference,
        state: PartitionState,
        attribution: Attribution,
    ) -> None:
        self._config = config.recommend
        self._window_s = config.attribution.decision_window_s
        self._consent = config.campaigns.consent_when_unknown
        self._models = models
        self._reference = reference
        self._state = state
        self._attribution = attribution

    def recommend(self, moment: Moment, memory: ModelMemory, model_version: str, outputs: Outputs) -> None:
        """Emit a slate for the event's user, where one is due."""
        event, profile = moment.event, moment.profile
        if not moment.on_time or event.kind not in _OCCASIONS:
            return
        slot = (
            (event.properties.slot or Slot.FOR_YOU.value) if event.kind is _K.REQUEST else Slot.FOR_YOU.value
        )
        slot = slot[:MAX_NAME]
        waited = event.time - profile.slot_times.get(slot, float("-inf"))
        if event.kind is not _K.REQUEST and waited < self._config.min_interval_s:
            return
        # Noted even if the slate turns out empty: when to emit must not depend on what a model knows.
        if slot == Slot.FOR_YOU or slot in profile.slot_times or len(profile.slot_times) < MAX_SLOTS:
            profile.slot_times[slot] = event.time
        answer = profile.answer("personalise")
        personal = self._consent.get("personalise", True) if answer is None else answer
        kind = slot_of(slot)
        if is_stopped(self._state.header, Switch.MODELS):
            kind = Slot.POPULAR
        if kind in _BLENDED:
            shown = self._blended(kind, moment, memory, personal=personal)
        else:
            n, models = self._config.n_items, self._models
            shown = listed(kind, moment, models, self._reference, n, personal=personal)
        if not shown:
            outputs.counts["recommendation", "empty"] += 1
            return
        occasion = Occasion(event.user, profile, memory, event.time, cause_of(event), model_version)
        self._emit(occasion, slot, shown, outputs)

    def _blended(
        self, kind: Slot, moment: Moment, memory: ModelMemory, *, personal: bool
    ) -> list[RecommendedItem]:
        """The blend's best, for the user or for one who has just come to an item's page."""
        config, profile, now, page = self._config, moment.profile, moment.event.time, moment.event.item_id
        history = profile.ring if personal else []
        excluded = [*profile.bought] if personal else [*profile.ring, *profile.bought]
        gap_s = silence(profile, now) if history else None
        if kind is Slot.OTHERS_YOU_MAY_LIKE and page is not None:
            history = [page, *(item_id for item_id in history if item_id != page)]
            gap_s = 0.0  # the page is what the user is interested in now
        factors = memory.factors if personal else b""
        blend = self._models.serving_blend
        slate = blend.propose(
            history,
            now,
            gap_s,
            excluded,
            factors,
            new_only=True,
            asker=asker_of(moment, blend) if personal else NOBODY,
            newcomers=self._models.newcomers_for(history, now, self._reference.items),
        )
        reorder = reranks(config)
        shown = [
            RecommendedItem(item_id, score, source, reasons)
            for item_id, score, source, reasons in slate.rows(
                config.n_items * POOL if reorder else config.n_items, self._reference.withheld()
            )
        ]
        if not reorder:
            return shown
        before = memory if personal else ModelMemory()  # what was shown before is of an own past, too
        return reranked(shown, now, config, before, self._reference, self._models.blend.popularity)

    def _emit(self, occasion: Occasion, slot: str, shown: list[RecommendedItem], outputs: Outputs) -> None:
        user, now, message_id = occasion.user, occasion.now, occasion.cause.message_id
        produced_at = rfc3339(now)
        decision_id = id_of("decision", user, slot, message_id)
        item_ids = [item.item_id for item in shown]
        outputs.recommendations.append(
            Recommendation(
                id=id_of("recommendation", user, slot, message_id),
                user_id=user,
                slot=slot,
                items=shown,
                decision_id=decision_id,
                model_version=occasion.model_version,
                cause=occasion.cause,
                produced_at=produced_at,
                valid_until=rfc3339(now + self._config.valid_s),
            )
        )
        outputs.decisions.append(
            Decision(
                decision_id=decision_id,
                kind="recommendation",
                user_id=user,
                action=",".join(item_ids),
                propensity=1.0,
                policy=POLICY if self._models.serving_blend is self._models.blend else POLICY_OF_CHALLENGER,
                model_version=occasion.model_version,
                cause=occasion.cause,
                decided_at=produced_at,
                eligible=[],
            )
        )
        outputs.counts["recommendation", "emitted"] += 1
        self._models.live.shown(item_ids, now)
        opened = OpenDecision("recommendation", "\n".join(["", *item_ids, ""]), now + self._window_s)
        self._attribution.open(decision_id, opened, user, occasion.memory)
