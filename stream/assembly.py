"""Build an engine. Worker, replay and tests use this one function, so what is tested is what runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from online_models.bandits import ThompsonSampling
from online_models.baskets import baskets_of
from online_models.click_rate import ClickRate
from online_models.content import content_of
from online_models.cooccurrence import SequentialCooccurrence
from online_models.drift import DriftWatch
from online_models.factorisation import StreamingIALS
from online_models.fold import ModelSet
from online_models.hybrid import OnlineBlend
from online_models.many_offers import ManyOffers
from online_models.metrics import ClickMetrics, RankingMetrics
from online_models.neighbourhood import ItemNeighbours, UserNeighbours
from online_models.popularity import DecayedPopularity
from online_models.proximal import FollowTheRegularizedLeader
from online_models.segment_popularity import SegmentPopularity
from online_models.vocabulary import Vocabulary
from stream.core.arbitration import Arbiter
from stream.core.attribution import Attribution
from stream.core.campaigns import Campaigns
from stream.core.cleaning import Cleaner
from stream.core.config import DAY_S
from stream.core.engine import Engine
from stream.core.features import OFFER_FEATURES
from stream.core.learning import Learner, Models
from stream.core.measuring import Measurer
from stream.core.messages import Messenger
from stream.core.newcomers import Newcomers
from stream.core.offers import OfferDesk
from stream.core.recommending import Recommender
from stream.core.reference import Reference
from stream.core.segments import Segments
from stream.core.state import PartitionState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from online_models.hashed import HashedLogistic
    from online_models.optional_source import OptionalSource
    from stream.core.config import EngineConfig
    from stream.core.state import RowCodec
    from stream.settings import Settings

__all__ = ["build_engine", "build_models"]

# Up to so many items of several events the factor model proposes from all of them; beyond, it only scores
# what the other sources propose.
FACTOR_SCAN = 16_384


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
    bandit = ThompsonSampling(
        len(OFFER_FEATURES),
        alpha=settings.offers.alpha,
        floor=settings.offers.floor,
        half_life_s=settings.offers.half_life_days * DAY_S or math.inf,
    )
    many_offers = ManyOffers(
        len(OFFER_FEATURES),
        alpha=settings.offers.alpha,
        floor=settings.offers.floor,
        half_life_s=settings.offers.half_life_days * DAY_S or math.inf,
    )
    return Models(
        blend=blend,
        baskets=baskets,
        clicks=clicks,
        offers=bandit,
        many_offers=many_offers,
        fold=ModelSet([*blend.models, baskets, clicks, bandit, many_offers], vocabulary),
        recommend_metrics=RankingMetrics(),
        click_metrics=ClickMetrics(),
        offer_metrics=ClickMetrics(),
        drift={name: DriftWatch() for name in ("clicks", "offers")},
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
    if chosen.model == "ftrl":
        return FollowTheRegularizedLeader(
            settings.click_slots, half_life_s=half_life_s, crosses=chosen.crosses
        )
    return ClickRate(settings.click_slots, half_life_s=half_life_s, crosses=chosen.crosses)


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

    attribution = Attribution(config.attribution, state, slots_of)
    desk = OfferDesk(config, models.offers, models.many_offers, reference, state, attribution)
    click_probability = models.clicks.predict_proba_one
    arbiter = Arbiter(config.campaigns, reference, state, click_probability, config.seed)
    newcomers = Newcomers(reference) if settings.recommend.content else None
    messenger = Messenger(config.campaigns, reference, state, desk, arbiter)
    return Engine(
        state=state,
        models=models,
        reference=reference,
        cleaner=Cleaner(config.cleaning),
        attribution=attribution,
        learner=Learner(
            models, settings.clicks.negative_share, config.attribution.offer_late_share, newcomers
        ),
        recommender=Recommender(config, models, reference, state, attribution, newcomers),
        desk=desk,
        campaigns=Campaigns(config.campaigns, reference, state, messenger, click_probability),
        measurer=Measurer(config.lift, config.campaigns, reference, state),
        segments=Segments(config.campaigns, reference, state),
    )
