"""``report.json``: what a run counted, per code, per campaign and per model. Pure."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from online_models.anytime import Interval, difference, mean_interval, rate_interval, sample_ratio_p_value
from stream.core.measuring import CONTROL, TREATED

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

    from stream.core.learning import Models
    from stream.core.rows import Tally

__all__ = ["campaign_funnel", "event_counts", "lift", "model_metrics"]

_FUNNEL = (
    *("eligible", "chosen", "sent", "delivered", "opened", "clicked", "converted", "bounced", "unsubscribed"),
    *("armed", "moved", "cancelled", "not_armed"),
)


def event_counts(counts: Counter[tuple[str, ...]]) -> dict[str, Any]:
    """Count events by fate: read = accepted + duplicate + all rejected.

    Unknown ones, and faulty ones that count all the same, are part of the accepted.
    """
    return {
        "read": counts["read",],
        "accepted": counts["accepted",],
        "duplicate": counts["duplicate",],
        "rejected": {key[1]: n for key, n in sorted(counts.items()) if key[0] == "rejected"},
        "faulty": {key[1]: n for key, n in sorted(counts.items()) if key[0] == "faulty"},
        "unknown": counts["unknown",],
    }


def campaign_funnel(
    counts: Counter[tuple[str, ...]],
    pending: Mapping[str, int],
    revenue: Mapping[tuple[str, str], float],
) -> dict[str, Any]:
    """Per campaign: eligible = sent + all suppressed; armed, moved, cancelled and pending are apart.

    ``chosen`` is what no rule stopped, held-out messages included; ``revenue`` is that of orders within the
    window after a message, by currency, in the order of the time they came.
    """
    campaigns: dict[str, Any] = {}
    for key, n in sorted(counts.items()):
        if key[0] != "campaign":
            continue
        empty = dict.fromkeys(_FUNNEL, 0) | {"suppressed": {}, "pending": 0, "revenue": {}}
        funnel = campaigns.setdefault(key[1], empty)
        if key[2] == "suppressed":
            funnel["suppressed"][key[3]] = n
        else:
            funnel[key[2]] = n
    for campaign_id, n in sorted(pending.items()):
        if campaign_id in campaigns:
            campaigns[campaign_id]["pending"] = n
    for (campaign_id, currency), amount in sorted(revenue.items()):
        if campaign_id in campaigns:
            campaigns[campaign_id]["revenue"][currency] = round(amount, 6)
    return campaigns


def lift(tallies: Mapping[str, Tally], alpha: float, least_p_value: float) -> dict[str, Any]:
    """What messages caused, per campaign: treated users against held-out ones; ``*`` is all campaigns.

    Parameters
    ----------
    alpha : float
        How often an interval may ever miss; each arm has half of it.
    least_p_value : float
        Below it the split of users is reported as broken, and no interval is to be believed.
    """
    return {name: _lift_of(tally, alpha, least_p_value) for name, tally in sorted(tallies.items())}


def _lift_of(tally: Tally, alpha: float, least_p_value: float) -> dict[str, Any]:
    arms = (TREATED, CONTROL)
    treated, control = (rate_interval(tally.converted[n], tally.users[n], alpha / 2) for n in arms)
    p_value = sample_ratio_p_value(tally.assigned, [1.0 - tally.share, tally.share])
    found = {
        name: {
            "assigned": tally.assigned[n],
            "users": tally.users[n],
            "converted": tally.converted[n],
            "rate": tally.converted[n] / tally.users[n] if tally.users[n] else None,
        }
        for n, name in zip(arms, ("treated", "control"), strict=True)
    }
    return found | {
        "conversion": _told(difference(treated, control), tally.users),
        "revenue_per_user": {
            currency: _told(_revenue_difference(sums, tally.users, alpha), tally.users)
            for currency, sums in sorted(tally.revenue.items())
        },
        "sample_ratio": {
            "expected_control_share": tally.share,
            "control_share": tally.assigned[CONTROL] / max(sum(tally.assigned), 1),
            "p_value": p_value,
            "alarm": p_value < least_p_value,
        },
    }


def _told(found: Interval, users: Sequence[int]) -> dict[str, float | None]:
    """Bounds that are known, and the estimate where there is somebody in both arms to compare."""
    known = {name: value if isfinite(value) else None for name, value in found._asdict().items()}
    return known if all(users) else known | {"estimate": None}


def _revenue_difference(sums: Sequence[float], users: Sequence[int], alpha: float) -> Interval:
    treated, control = (mean_interval(sums[2 * n], sums[2 * n + 1], users[n], alpha / 2) for n in range(2))
    return difference(treated, control)


def model_metrics(models: Models, n_catalogue: int) -> dict[str, Any]:
    """Progressive metrics of each model: each event was scored before it was learned.

    ``recent`` holds the decayed measures of :mod:`stream.core.quality`, as of the end of the run.
    """
    return {
        "recent": models.live.snapshot(n_catalogue),
        "challenger": _challenger(models),
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


def _challenger(models: Models) -> dict[str, Any]:
    """How the challengers stand, by the model that they challenge."""
    return {
        name: {
            "examples": trial.gate.n,
            trial.measure: trial.gate.mean_difference,
            "log_wealth": trial.gate.log_wealth(),
            "round": trial.gate.round,
            "won": trial.gate.is_open,
            "serves": trial.serves,
        }
        for name, trial in models.trials.items()
    }
