"""Evaluation of the offers' policy on a log of decisions: replay, and off-policy estimates.

Two copies of the production policy run down the log. One is *replayed* (Li, Chu, Langford, Wang, WSDM 2011):
it makes its own choices, and a row counts and teaches where they meet the log's. The other learns from
every row after it has said with which probabilities it would have chosen: its estimates are those of the
policy as it learned from the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from online_models import off_policy
from stream.evaluate.bootstrap import mean_intervals
from stream.evaluate.contexts import ContextEncoder
from stream.evaluate.decision_log import DecisionLog
from stream.evaluate.lines import Rejects
from stream.evaluate.logged import read_decisions
from stream.evaluate.offer_policy import OfferPolicy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from stream.settings import Settings

__all__ = ["MIN_ESS", "evaluate_offers"]

MIN_ESS = 30.0  # below, the normal approximation and the bootstrap say little
BATCH = 1000
N_POINTS = 20  # of a series
MEANS = frozenset({"ips", "dr", "switch_dr", "dros"})  # of scores that depend on earlier decisions alone
MAX_ERRORS = 4.0  # standard errors by which the mean weight may miss 1


def evaluate_offers(
    settings: Settings,
    path: Path,
    *,
    min_ess: float = MIN_ESS,
    runs: int = 3,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Replay a log of decisions and estimate what the production policy would have earned; the report.

    Parameters
    ----------
    min_ess : float
        An estimate that rests on fewer effective decisions is refused: its value is None, with a reason.
    runs : int
        Replays with different draws; the first is the one reported at the top.

    Raises
    ------
    BadFileError
        The file cannot be read, or no decision in it can be used.
    """
    rejects = Rejects(path)
    decisions = read_decisions(path, rejects)
    encoder = ContextEncoder(decision.context for decision in decisions)
    log = DecisionLog(decisions, encoder)
    steps = _Steps(progress, len(decisions))
    replays = [_replay(settings, log, run, min_ess, steps) for run in range(runs)]
    target = _prequential(settings, log, steps)
    estimates, weights = _estimates(log, target, min_ess, cap=1.0 / settings.offers.floor)
    fixed = _best_fixed_action(log, min_ess)
    logged = _intervals(log.rewards)[0]
    return {
        "n": len(decisions),
        "logged_mean": float(log.rewards.mean()),
        "logged_interval": logged,
        "replay_mean": replays[0]["mean"],
        "replay_n": replays[0]["n"],
        "replay_interval": replays[0]["interval"],
        "replay_runs": [{key: replay[key] for key in ("mean", "n")} for replay in replays],
        "best_fixed_action": fixed,
        "estimates": estimates,
        "weights": weights,
        "gain_over_best_fixed_action": _gain(log, target, estimates, fixed, 1.0 / settings.offers.floor),
        "decisions": {
            "read": len(decisions) + rejects.counts.total(),
            "accepted": len(decisions),
            "rejected": dict(sorted(rejects.counts.items())),
            "examples": rejects.examples,
            "actions": len(log.names),
            "context_entries": len(encoder.names),
            "context_entries_left_out": encoder.n_left_out,
        },
    }


class _Steps:
    """Tells the bar how much of all passes is done."""

    def __init__(self, progress: Callable[[int], None] | None, n: int) -> None:
        self._progress, self._n, self._done = progress, n, 0

    def step(self) -> None:
        self._done += 1
        if self._progress is not None and self._done % BATCH == 0:
            self._progress(self._done)


def _replay(settings: Settings, log: DecisionLog, run: int, min_ess: float, steps: _Steps) -> dict[str, Any]:
    """Let the policy choose; rows where it meets the log count with weight 1/p and teach."""
    policy = OfferPolicy(settings, log)
    matched = []
    for at in range(len(log)):
        if policy.choose(at, f"replay-{run}").offer == log.names[log.actions[at]]:
            matched.append(at)
            policy.learn(at)
        steps.step()
    if not matched:
        return {"mean": None, "n": 0, "interval": None}
    rows = np.array(matched)
    weights = 1.0 / log.propensities[rows]
    scores = off_policy.self_normalised(log.rewards[rows], weights)
    few = off_policy.effective_sample_size(weights) < min_ess
    found = None if few else _intervals(scores)[0]
    return {"mean": float(scores.mean()), "n": len(rows), "interval": found}


def _prequential(settings: Settings, log: DecisionLog, steps: _Steps) -> NDArray[np.float64]:
    """Probabilities of the policy that has learned all earlier rows, for each row."""
    policy = OfferPolicy(settings, log)

    def probabilities(at: int) -> NDArray[np.float64]:
        found = policy.probabilities(at, "estimate")
        policy.learn(at)
        steps.step()
        return found

    return log.policy(probabilities)


def _estimates(
    log: DecisionLog, target: NDArray[np.float64], min_ess: float, cap: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every estimator with its interval, and what the weights are like."""
    raw = off_policy.importance_weights(target, log.actions, log.propensities)
    weights = np.minimum(raw, cap)
    expected = off_policy.cross_fitted_rewards(log.contexts, log.actions, log.rewards, len(log.names))
    even = off_policy.importance_weights(log.uniform, log.actions, log.propensities, cap)
    used = {
        "ips": weights,
        "snips": weights,
        "dm": np.ones(len(log)),
        "dr": weights,
        "switch_dr": off_policy.switched(weights),
        "dros": off_policy.shrunk(weights),
        "uniform": even,
    }
    scores = {
        "ips": off_policy.inverse_propensity(log.rewards, weights),
        "snips": off_policy.self_normalised(log.rewards, weights),
        "dm": off_policy.direct_method(target, expected),
        **{
            name: off_policy.doubly_robust(log.rewards, used[name], log.actions, target, expected)
            for name in ("dr", "switch_dr", "dros")
        },
        "uniform": off_policy.self_normalised(log.rewards, even),
    }
    found = _intervals(*scores.values())
    estimates = {}
    for name, bounds in zip(scores, found, strict=True):
        ess = off_policy.effective_sample_size(used[name])
        # The reward model's uncertainty is not in DM's scores, so no interval of theirs says anything.
        one = _estimate(scores[name], None if name == "dm" else bounds, ess, min_ess)
        if one["value"] is not None and name in MEANS:
            one |= _always_valid(scores[name])
        estimates[name] = {"always_valid": None} | one
    error = float(raw.std()) / np.sqrt(len(log))
    return estimates, {
        "mean": float(raw.mean()),
        "mean_is_near_1": bool(abs(raw.mean() - 1.0) <= MAX_ERRORS * error + 1e-9),
        "max": float(raw.max()),
        "ess": off_policy.effective_sample_size(weights),
        "cap": cap,
        "clipped_share": float((raw > cap).mean()),
    }


def _intervals(*scores: NDArray[np.float64]) -> list[tuple[float, float] | None]:
    """Interval of each mean; None where too few scores deviate to know how much they vary."""
    found = mean_intervals(np.stack(scores, axis=1), np.arange(len(scores[0])))
    known = [off_policy.n_deviations(one) >= off_policy.MIN_DEVIATIONS for one in scores]
    return [bounds if enough else None for bounds, enough in zip(found, known, strict=True)]


def _estimate(
    scores: NDArray[np.float64], bounds: tuple[float, float] | None, ess: float, min_ess: float
) -> dict[str, Any]:
    """A value with its interval, or why there is none."""
    if ess < min_ess:
        reason = f"effective sample size {ess:.1f} is below {min_ess:g} (--min-ess): too few decisions to say"
        return {"value": None, "low": None, "high": None, "ess": ess, "reason": reason}
    low, high = bounds or (None, None)
    return {"value": float(scores.mean()), "low": low, "high": high, "ess": ess}


def _always_valid(scores: NDArray[np.float64]) -> dict[str, Any]:
    """The confidence sequence of a mean: its bounds at the end, and along the log."""
    lows, highs = off_policy.confidence_sequence(scores)
    points = np.unique(np.linspace(0, len(scores), N_POINTS + 1).astype(int)[1:] - 1)
    means = np.cumsum(scores) / np.arange(1, len(scores) + 1)
    series = [
        {"n": int(at) + 1, "value": float(means[at]), "low": float(lows[at]), "high": float(highs[at])}
        for at in points
        if np.isfinite(lows[at])
    ]
    bounds = [float(lows[-1]), float(highs[-1])] if np.isfinite(lows[-1]) else None
    return {"always_valid": bounds, "series": series}


def _best_fixed_action(log: DecisionLog, min_ess: float) -> dict[str, Any]:
    """The action that would have earned most, taken wherever it is eligible; elsewhere one is drawn evenly.

    So all actions are valued on the same decisions. It is chosen on the rows it is valued on, which flatters
    it; ``held_out`` is chosen on the first half of the log and valued on the second.
    """
    half = np.arange(len(log)) < len(log) // 2
    best, first = _best(log, np.ones(len(log), bool), min_ess), _best(log, half, min_ess)
    if best is None:
        reason = f"no action has an effective sample size of {min_ess:g} (--min-ess)"
        return {"action": None, "value": None, "low": None, "high": None, "ess": 0.0, "reason": reason}
    held_out = None if first is None else _fixed(log, ~half, first, min_ess)
    return _fixed(log, np.ones(len(log), bool), best, min_ess) | {"held_out": held_out}


def _best(log: DecisionLog, rows: NDArray[np.bool_], min_ess: float) -> int | None:
    """Column of the action of the largest value among those that enough decisions speak for."""
    known = []
    for action in range(len(log.names)):
        if _taken(log, rows, action) >= min_ess:
            weights = log.fixed_weights(action)[rows]
            known.append((float(off_policy.self_normalised(log.rewards[rows], weights).mean()), action))
    return max(known, default=(0.0, None))[1]


def _fixed(log: DecisionLog, rows: NDArray[np.bool_], action: int, min_ess: float) -> dict[str, Any]:
    """Self-normalised value of taking one action wherever it is eligible."""
    scores = off_policy.self_normalised(log.rewards[rows], log.fixed_weights(action)[rows])
    bounds = _intervals(scores)[0]
    return {"action": log.names[action]} | _estimate(scores, bounds, _taken(log, rows, action), min_ess)


def _taken(log: DecisionLog, rows: NDArray[np.bool_], action: int) -> float:
    """Effective sample size of the decisions that took an action: of others nothing is learned about it."""
    return off_policy.effective_sample_size(1.0 / log.propensities[rows & (log.actions == action)])


def _gain(
    log: DecisionLog,
    target: NDArray[np.float64],
    estimates: dict[str, Any],
    fixed: dict[str, Any],
    cap: float,
) -> dict[str, Any] | None:
    """SNIPS of the policy minus that of the best fixed action, paired by row; None where one is refused."""
    if estimates["snips"]["value"] is None or fixed["value"] is None:
        return None
    ours = off_policy.importance_weights(target, log.actions, log.propensities, cap)
    theirs = log.fixed_weights(log.names.index(fixed["action"]))
    difference = off_policy.self_normalised(log.rewards, ours)
    difference -= off_policy.self_normalised(log.rewards, theirs)
    low, high = _intervals(difference)[0] or (None, None)
    return {"value": float(difference.mean()), "low": low, "high": high}
