"""Recommend: candidates, rank, filter on current state, slate. Event time alone decides when to emit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.codec import rfc3339
from schemas.ids import id_of
from schemas.outputs import Decision, Recommendation, RecommendedItem
from schemas.reasons import EventKind
from stream.core.causes import Occasion, cause_of
from stream.core.state import OpenDecision

if TYPE_CHECKING:
    from online_models.hybrid import OnlineBlend
    from stream.core.attribution import Attribution
    from stream.core.config import EngineConfig
    from stream.core.profiles import Moment
    from stream.core.records import Outputs
    from stream.core.reference import Reference
    from stream.core.state import ModelMemory

__all__ = ["POLICY", "Recommender"]

POLICY = "blend"
FOR_YOU = "for_you"
_K = EventKind
_OCCASIONS = frozenset({_K.VIEW, _K.CLICK, _K.CART_ADD, _K.WISH_ADD, _K.ORDER, _K.REVIEW, _K.REQUEST})


class Recommender:
    """Decides whether an event calls for a slate, and which."""

    def __init__(
        self, config: EngineConfig, blend: OnlineBlend, reference: Reference, attribution: Attribution
    ) -> None:
        self._config = config.recommend
        self._window_s = config.attribution.decision_window_s
        self._consent = config.campaigns.consent_when_unknown
        self._blend = blend
        self._reference = reference
        self._attribution = attribution

    def recommend(self, moment: Moment, memory: ModelMemory, model_version: str, outputs: Outputs) -> None:
        """Emit a slate for the event's user, where one is due."""
        event, profile = moment.event, moment.profile
        if not moment.on_time or event.kind not in _OCCASIONS:
            return
        slot = (event.properties.slot or FOR_YOU)[:64] if event.kind is _K.REQUEST else FOR_YOU
        waited = event.time - profile.slot_times.get(slot, float("-inf"))
        if event.kind is not _K.REQUEST and waited < self._config.min_interval_s:
            return
        # Noted even if the slate turns out empty: when to emit must not depend on what a model knows.
        if slot in profile.slot_times or len(profile.slot_times) < 8:
            profile.slot_times[slot] = event.time
        personal = profile.consent.get("personalise", self._consent.get("personalise", True))
        history = profile.ring if personal else []
        excluded = [*profile.bought] if personal else [*profile.ring, *profile.bought]
        factors = memory.factors if personal else b""
        gap_s = 0.0 if history else None
        slate = self._blend.propose(history, event.time, gap_s, excluded, factors, new_only=True)
        allowed = self._reference.may_show if self._reference.items else None
        shown = [
            RecommendedItem(item_id, score, source, reasons)
            for item_id, score, source, reasons in slate.rows(self._config.n_items, allowed)
        ]
        if not shown:
            outputs.counts["recommendation", "empty"] += 1
            return
        occasion = Occasion(event.user, profile, memory, event.time, cause_of(event), model_version)
        self._emit(occasion, slot, shown, outputs)

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
                policy=POLICY,
                model_version=occasion.model_version,
                cause=occasion.cause,
                decided_at=produced_at,
                eligible=[],
            )
        )
        outputs.counts["recommendation", "emitted"] += 1
        opened = OpenDecision("recommendation", "\n".join(["", *item_ids, ""]), now + self._window_s)
        self._attribution.open(decision_id, opened, user, occasion.memory)
