"""Settings: environment variables under ``NUDGE_``, nested by ``__``; each has its unit, bound and meaning.

>>> Settings(seed=7).engine_config().seed
7
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from pydantic import BaseModel, Field, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.campaigns import Cap
from schemas.codec import parse_time
from stream.core.config import (
    DAY_S,
    SLATES_DISCOUNTED,
    AttributionConfig,
    CampaignPolicy,
    CleaningConfig,
    EngineConfig,
    LiftConfig,
    OfferConfig,
    RecommendConfig,
)
from stream.sections import (
    AttributionSettings,
    CampaignSettings,
    ChallengerSettings,
    CleaningSettings,
    ClickSettings,
    ConsentSettings,
    ConversionSettings,
    KafkaSettings,
    LiftSettings,
    OfferSettings,
    RecommendSettings,
)

__all__ = ["Settings", "all_settings"]


class Settings(BaseSettings):
    """All settings. Order of precedence: arguments, environment, defaults."""

    model_config = SettingsConfigDict(
        env_prefix="NUDGE_",
        env_nested_delimiter="__",
        env_parse_none_str="null",
        frozen=True,
        extra="ignore",
        validate_default=True,
        allow_inf_nan=False,
    )

    profile: Literal["development", "production"] = Field(
        "development", description="production refuses risks."
    )
    seed: int = Field(0, ge=0, lt=2**64, description="Seed of every random draw.")
    max_users: int = Field(1_000_000, ge=1, description="Users remembered per partition.")
    user_ttl_days: float = Field(
        395.0,
        ge=0,
        description="A user is forgotten when the last event is so far behind the watermark, days; 0: never. "
        "Refusals stay, and who waits for a timer or a reward stays until it came.",
    )
    hot_users: int = Field(
        4096, ge=1, description="Users per partition whose rows stay decoded, 6 kB each; changes no result."
    )
    cache_dir: Path | None = Field(
        None, description="Keep a copy of user state here, for quick restarts; one worker's own directory."
    )
    cache_interval_s: float = Field(
        600.0, ge=1, description="Least time between two copies of a partition's user state, s."
    )
    max_items: int = Field(131_072, ge=256, description="Items that the models remember.")
    click_slots: int = Field(2**18, ge=2**10, le=2**24, description="Slots of the hashed click model.")
    metrics_host: str = Field(
        "127.0.0.1", description="Address of /metrics, /livez and /readyz; 0.0.0.0 lets other machines ask."
    )
    metrics_port: int = Field(
        9464, ge=0, le=65_535, description="Port of /metrics, /livez and /readyz; 0: any."
    )
    cleaning: CleaningSettings = CleaningSettings()
    attribution: AttributionSettings = AttributionSettings()
    recommend: RecommendSettings = RecommendSettings()
    clicks: ClickSettings = ClickSettings()
    challenger: ChallengerSettings = ChallengerSettings()
    conversions: ConversionSettings = ConversionSettings()
    offers: OfferSettings = OfferSettings()
    campaigns: CampaignSettings = CampaignSettings()
    lift: LiftSettings = LiftSettings()
    consent: ConsentSettings = ConsentSettings()
    kafka: KafkaSettings = KafkaSettings()

    @model_validator(mode="after")
    def _is_consistent(self) -> Settings:
        if self.conversions.values_orders and not self.conversions.window_s:
            message = "conversions.values_orders needs a model: set NUDGE_CONVERSIONS__WINDOW_S"
            raise ValueError(message)
        if self.profile != "production":
            return self
        if self.consent.when_unknown is None:
            message = (
                "production must say what silence means: set NUDGE_CONSENT__WHEN_UNKNOWN to allow or deny"
            )
            raise ValueError(message)
        if self.kafka.replication < 3:
            message = (
                f"kafka.replication {self.kafka.replication}; production needs 3 (NUDGE_KAFKA__REPLICATION)"
            )
            raise ValueError(message)
        return self

    def engine_config(self, *, replay: bool = False, partitions: int = 1) -> EngineConfig:
        """Return the plain values that the core takes.

        Parameters
        ----------
        replay : bool
            Records come from a file: there is no broker clock, so jumps of the watermark need confirmation.
        partitions : int
            Over how many partitions a global budget is shared.
        """
        unknown = {"*": self.consent.when_unknown == "allow"}
        unknown |= {purpose: answer == "allow" for purpose, answer in self.consent.purposes.items()}
        campaigns = self.campaigns
        return EngineConfig(
            seed=self.seed,
            max_users=self.max_users,
            user_ttl_s=self.user_ttl_days * DAY_S or float("inf"),
            hot_users=self.hot_users,
            cleaning=CleaningConfig(**self.cleaning.model_dump(), confirm_jumps=replay),
            attribution=AttributionConfig(
                **self.attribution.model_dump(),
                conversion_window_s=self.conversions.window_s,
                max_slates=SLATES_DISCOUNTED if self.recommend.impression_discount else 1,
            ),
            recommend=RecommendConfig(
                n_items=self.recommend.n_items,
                min_interval_s=self.recommend.min_interval_s,
                valid_s=self.recommend.valid_s,
                diversity=self.recommend.diversity,
                novelty=self.recommend.novelty,
                impression_discount=self.recommend.impression_discount,
            ),
            offers=OfferConfig(
                min_interval_s=self.offers.min_interval_s,
                partitions=partitions,
                budget_buffer=self.offers.budget_buffer,
                pacing=self.offers.pacing,
                few=self.offers.few,
            ),
            campaigns=CampaignPolicy(
                lateness_s=campaigns.lateness_s,
                daily_cap=campaigns.daily_cap,
                cooldowns=campaigns.cooldowns,
                holdout_share=campaigns.holdout_share,
                holdout_salt=campaigns.holdout_salt,
                go_live=parse_time(campaigns.go_live) if campaigns.go_live else float("-inf"),
                default_time_zone=campaigns.default_time_zone,
                consent_when_unknown=unknown,
                caps=msgspec.convert(campaigns.caps, tuple[Cap, ...]),
                quiet_hours=campaigns.quiet_hours,
                max_per_minute=campaigns.max_per_minute,
                decision_window_s=campaigns.decision_window_s,
                exploration=campaigns.exploration,
                partitions=partitions,
                values_orders=self.conversions.values_orders,
            ),
            lift=LiftConfig(window_s=self.lift.window_s),
        )


def all_settings(
    model: type[BaseModel] = Settings, prefix: str = "NUDGE_"
) -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting with its variable, in the order of the code."""
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from all_settings(field.annotation, f"{variable}__")
        else:
            yield variable, field
