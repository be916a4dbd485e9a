"""Build an engine. Worker, replay and tests use this one function, so what is tested is what runs."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from online_models.bandits import ThompsonSampling
from online_models.baskets import baskets_of
from online_models.click_rate import ClickRate
from online_models.content import content_of
from online_models.cooccurrence import SequentialCooccurrence
from online_models.drift import DriftWatch
from online_models.factorisation import StreamingIALS
from online_models.fold import ModelSet
from online_models.gate import ChallengerGate
from online_models.hashed import HashedLogistic
from online_models.hybrid import OnlineBlend
from online_models.many_offers import ManyOffers
from online_models.metrics import ClickMetrics, RankingMetrics
from online_models.neighbourhood import ItemNeighbours, UserNeighbours
from online_models.popularity import DecayedPopularity
from online_models.proximal import FollowTheRegularizedLeader
from online_models.recent import RecentLoss
from online_models.segment_popularity import SegmentPopularity
from online_models.vocabulary import Vocabulary
from schemas.ids import id_of
from stream.core.arbitration import Arbiter
from stream.core.attribution import Attribution
from stream.core.campaigns import Campaigns
from stream.core.challenging import ClickTrial, RankTrial
from stream.core.cleaning import Cleaner
from stream.core.config import DAY_S
from stream.core.engine import Engine
from stream.core.features import OFFER_FEATURES
from stream.core.learning import Learner, Models
from stream.core.measuring import Measurer
from stream.core.messages import Messenger
from stream.core.newcomers import Newcomers
from stream.core.offers import OfferDesk
from stream.core.quality import LiveQuality
from stream.core.recommending import Recommender
from stream.core.reference import Reference
from stream.core.segments import Segments
from stream.core.state import PartitionState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from online_models.base import Foldable
    from online_models.optional_source import OptionalSource
    from stream.core.config import EngineConfig
    from stream.core.rows import RowCodec
    from stream.settings import Settings

__all__ = ["build_engine", "build_models", "build_offer_models"]

Hashed = TypeVar("Hashed", bound=HashedLogistic)

# Up to so many items of several events the factor model proposes from all of them; beyond, it only scores
# what the other sources propose.
FACTOR_SCAN = 16_384
_TEST = ("alpha", "warm_up")  # settings that every challenger's name tells, too


def build_models(settings: Settings) -> Models:
    """Build the learners of one worker, empty."""
    vocabulary = Vocabulary(settings.max_items)
    popularity = DecayedPopularity(vocabulary)
    cooccurrence = SequentialCooccurrence(vocabulary)
    factors = StreamingIALS(vocabulary, scan_limit=FACTOR_SCAN) if settings.recommend.factors else None
    blend = OnlineBlend(
        vocabulary,
        popularity,
        cooccurrence,
        factors,
        content=content_of(vocabulary) if settings.recommend.content else None,
        optional=_optional_sources(settings, vocabulary),
        candidates_per_source=settings.recommend.candidates,
    )
    baskets = baskets_of(vocabulary)
    clicks = _click_model(settings)
    trial = _click_trial(settings)
    live = LiveQuality(popularity, settings.recommend.n_items, settings.attribution.decision_window_s)
    if trial is not None:
        live.losses["clicks_challenger"] = RecentLoss()
    conversions = _conversion_model(settings)
    if conversions is not None:
        live.losses["conversions"] = RecentLoss()
    rank_trial = _rank_trial(settings, blend)
    optional: list[Foldable] = [trial.model, trial.gate] if trial is not None else []
    optional += [rank_trial.blend, rank_trial.gate] if rank_trial is not None else []
    optional += [conversions] if conversions is not None else []
    bandit, many_offers = build_offer_models(settings, len(OFFER_FEATURES))
    return Models(
        blend=blend,
        baskets=baskets,
        clicks=clicks,
        offers=bandit,
        many_offers=many_offers,
        fold=ModelSet(
            [*blend.models, baskets, clicks, bandit, many_offers],
            vocabulary,
            optional,
        ),
        recommend_metrics=RankingMetrics(),
        click_metrics=ClickMetrics(),
        offer_metrics=ClickMetrics(),
        drift={name: DriftWatch() for name in ("clicks", "offers")},
        live=live,
        conversions=conversions,
        click_trial=trial,
        rank_trial=rank_trial,
        newcomers=Newcomers(vocabulary) if settings.recommend.content else None,
    )


def build_offer_models(settings: Settings, n_features: int) -> tuple[ThompsonSampling, ManyOffers]:
    """Build what chooses among few offers, and among many; contexts have ``n_features`` entries."""
    chosen = settings.offers
    half_life_s = chosen.half_life_days * DAY_S or math.inf
    return (
        ThompsonSampling(n_features, alpha=chosen.alpha, floor=chosen.floor, half_life_s=half_life_s),
        ManyOffers(n_features, alpha=chosen.alpha, floor=chosen.floor, half_life_s=half_life_s),
    )


def _optional_sources(settings: Settings, vocabulary: Vocabulary) -> list[OptionalSource]:
    """Sources that are off unless the settings ask for them."""
    chosen = settings.recommend
    found: list[OptionalSource] = []
    if chosen.item_neighbours != "off":
        found.append(ItemNeighbours(vocabulary, chosen.item_neighbours))
    if chosen.user_neighbours != "off":
        found.append(UserNeighbours(vocabulary, chosen.user_neighbours))
    if chosen.segment_popularity:
        found.append(SegmentPopularity(vocabulary))
    return found


def _click_model(settings: Settings) -> HashedLogistic:
    chosen = settings.clicks
    half_life_s = chosen.half_life_days * DAY_S or math.inf
    model = FollowTheRegularizedLeader if chosen.model == "ftrl" else ClickRate
    return model(settings.click_slots, half_life_s=half_life_s, crosses=chosen.crosses)


def _click_trial(settings: Settings) -> ClickTrial | None:
    """The challenger of the click model; its name tells all that it is, so that trials are never mixed."""
    chosen = settings.challenger
    if chosen.clicks == "off":
        return None
    model = _named(
        partial(
            FollowTheRegularizedLeader if chosen.clicks == "ftrl" else ClickRate,
            settings.click_slots,
            half_life_s=chosen.clicks_half_life_days * DAY_S or math.inf,
            crosses=chosen.clicks_crosses,
        ),
        "clicks_challenger",
        chosen.model_dump_json(include={"clicks_crosses", *_TEST}),
    )
    gate = ChallengerGate(model.name, chosen.alpha, chosen.warm_up)
    return ClickTrial(gate, chosen.promotes, "log_loss_difference", model)


def _named(build: Callable[..., Hashed], kind: str, *described: str) -> Hashed:
    """Build a model whose name tells its layout and what else it is, so it is never taken for another."""
    return build(name=f"{kind}.{id_of(build(name=kind).spec, *described)}")


def _rank_trial(settings: Settings, incumbent: OnlineBlend) -> RankTrial | None:
    """The challenger of the ranker, over the incumbent's sources."""
    chosen = settings.challenger
    if not chosen.recommend:
        return None
    blend = OnlineBlend(
        incumbent.vocabulary,
        incumbent.popularity,
        incumbent.cooccurrence,
        incumbent.factors if chosen.recommend_factors else None,
        content=incumbent.content,
        optional=incumbent.optional,
        candidates_per_source=chosen.recommend_candidates,
        eta=chosen.recommend_rate,
    )
    described = chosen.model_dump_json(include={"recommend_factors", *_TEST})
    blend.name = f"ranker_challenger.{id_of(blend.spec, described)}"
    return RankTrial(
        ChallengerGate(blend.name, chosen.alpha, chosen.warm_up),
        chosen.promotes,
        "reciprocal_rank_difference",
        blend,
    )


def _conversion_model(settings: Settings) -> ClickRate | None:
    """The model of orders after clicks; it reads the features that the click model hashed."""
    if not settings.conversions.window_s:
        return None
    crosses = settings.clicks.crosses
    build = partial(ClickRate, settings.click_slots, crosses=crosses)
    return _named(build, "conversions", str(crosses), str(settings.conversions.window_s))


def build_engine(
    settings: Settings,
    models: Models,
    reference: Reference | None = None,
    *,
    config: EngineConfig | None = None,
    codec: RowCodec | None = None,
) -> Engine:
    """Build the engine of one partition, with empty state, over a worker's models and reference view.

    Without a codec all users stay decoded in memory, and their rows cannot be committed.
    """
    config = config or settings.engine_config()
    reference = reference if reference is not None else Reference()
    state = PartitionState(config.max_users, ttl_s=config.user_ttl_s, codec=codec, hot_users=config.hot_users)

    def slots_of(features: Mapping[str, str]) -> list[int]:
        return models.clicks.encode(features).slots.tolist()  # type: ignore[no-any-return]  # int32 to int

    def trial_slots_of(features: Mapping[str, str]) -> list[int]:
        trial = models.click_trial
        return trial.model.encode(features).slots.tolist() if trial is not None else []

    attribution = Attribution(
        config.attribution, state, slots_of, trial_slots_of if models.click_trial is not None else None
    )
    desk = OfferDesk(config, models, reference, state, attribution)
    arbiter = Arbiter(config.campaigns, reference, state, models, config.seed)
    messenger = Messenger(config.campaigns, reference, state, desk, arbiter, attribution)
    return Engine(
        state=state,
        models=models,
        reference=reference,
        cleaner=Cleaner(config.cleaning),
        attribution=attribution,
        learner=Learner(
            models, settings.clicks.negative_share, config.attribution.offer_late_share, reference.items
        ),
        recommender=Recommender(config, models, reference, state, attribution),
        desk=desk,
        campaigns=Campaigns(config.campaigns, reference, state, messenger, models.click_probability),
        measurer=Measurer(config.lift, config.campaigns, reference, state),
        segments=Segments(config.campaigns, reference, state),
    )
