"""``report.json``: what a run counted, per code, per campaign and per model. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import Counter

    from stream.core.learning import Models

__all__ = ["campaign_funnel", "event_counts", "model_metrics"]

_FUNNEL = ("eligible", "sent", "armed", "moved", "cancelled", "not_armed")


def event_counts(counts: Counter[tuple[str, ...]]) -> dict[str, Any]:
    """Count events by fate; read = accepted + duplicate + all rejected, unknown being part of accepted."""
    return {
        "read": counts["read",],
        "accepted": counts["accepted",],
        "duplicate": counts["duplicate",],
        "rejected": {key[1]: n for key, n in sorted(counts.items()) if key[0] == "rejected"},
        "unknown": counts["unknown",],
    }


def campaign_funnel(counts: Counter[tuple[str, ...]], pending: dict[str, int]) -> dict[str, Any]:
    """Per campaign: eligible = sent + all suppressed; armed, moved, cancelled and pending are apart."""
    campaigns: dict[str, Any] = {}
    for key, n in sorted(counts.items()):
        if key[0] != "campaign":
            continue
        funnel = campaigns.setdefault(key[1], dict.fromkeys(_FUNNEL, 0) | {"suppressed": {}, "pending": 0})
        if key[2] == "suppressed":
            funnel["suppressed"][key[3]] = n
        else:
            funnel[key[2]] = n
    for campaign_id, n in sorted(pending.items()):
        if campaign_id in campaigns:
            campaigns[campaign_id]["pending"] = n
    return campaigns


def model_metrics(models: Models) -> dict[str, Any]:
    """Progressive metrics of each model: each event was scored before it was learned."""
    return {
        "recommend": models.recommend_metrics.snapshot(),
        "click": models.click_metrics.snapshot() | {"drift_alarms": models.drift["clicks"].n_alarms},
        "offers": models.offer_metrics.snapshot()
        | {
            "drift_alarms": models.drift["offers"].n_alarms,
            "posterior": {
                offer.offer: {"mean": offer.mean, "deviation": offer.deviation, "pulls": offer.pulls}
                for offer in models.offers.describe()
            },
        },
    }
