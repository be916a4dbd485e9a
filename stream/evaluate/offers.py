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
from online_models.bandits import ThompsonSampling
from stream.evaluate.bootstrap import mean_intervals
from stream.evaluate.contexts import ContextEncoder
from stream.evaluate.lines import Rejects
from stream.evaluate.logged import LoggedDecision, read_decisions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stream.settings import Settings

__all__ = ["MIN_ESS", "evaluate_offers"]

MIN_ESS = 30.0  # below, the normal approximation and the bootstrap say little
BATCH = 1000
N_POINTS = 20  # of a series
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
    log = _Log(decisions, encoder)
    steps = _Steps(progress, len(decisions))
    replays = [_replay(settings, log, run, steps) for run in range(runs)]
    target = _prequential(settings, log, steps)
    estimates, weights = _estimates(log, target, min_ess, cap=1.0 / settings.offers.floor)
    fixed = _best_fixed_action(log, min_ess)
    logged = mean_intervals(log.rewards[:, None], np.arange(len(decisions)))[0]
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


class _Log:
    """The decisions as arrays."""

    def __init__(self, decisions: Sequence[LoggedDecision], encoder: ContextEncoder) -> None:
        self.names = sorted({str(name) for decision in decisions for name in decision.eligible})
        column = {name: at for at, name in enumerate(self.names)}
        self.eligible = [[str(name) for name in decision.eligible] for decision in decisions]
        self.columns = [np.array([column[name] for name in names]) for names in self.eligible]
        self.actions = np.array([column[str(decision.action)] for decision in decisions])
        self.rewards = np.array([float(decision.reward) for decision in decisions])
        # What the policy learns is a conversion; rewards of another range are that much of the largest.
        low, high = min(0.0, self.rewards.min()), max(1.0, self.rewards.max())
        self.conversions = (self.rewards - low) / (high - low)
        self.propensities = np.array([decision.propensity for decision in decisions])
        self.contexts = encoder.matrix([decision.context for decision in decisions])

    def __len__(self) -> int:
        return len(self.actions)

    def policy(self, probability: Callable[[int], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Probabilities of all actions, from those of each decision's eligible ones."""
        target = np.zeros((len(self), len(self.names)))
        for at, columns in enumerate(self.columns):
            target[at, columns] = probability(at)
        return target


class _Steps:
    """Tells the bar how much of all passes is done."""

    def __init__(self, progress: Callable[[int], None] | None, n: int) -> None:
        self._progress, self._n, self._done = progress, n, 0

    def step(self) -> None:
        self._done += 1
        if self._progress is not None and self._done % BATCH == 0:
            self._progress(self._done)


def _bandit(settings: Settings, log: _Log) -> ThompsonSampling:
    """The production policy over the log's contexts."""
    bandit = ThompsonSampling(log.contexts.shape[1], alpha=settings.offers.alpha, floor=settings.offers.floor)
    bandit.begin()
    return bandit


def _learn(bandit: ThompsonSampling, log: _Log, at: int) -> None:
    """Teach an outcome; what is between 0 and 1 is that much of a conversion and of none."""
    name, x, reward = log.names[log.actions[at]], log.contexts[at], float(log.conversions[at])
    if reward > 0.0:
        bandit.learn_one(name, x, 1, reward)
    if reward < 1.0:
        bandit.learn_one(name, x, 0, 1.0 - reward)
    if at % BATCH == 0:
        bandit.keep()
        bandit.begin()


def _choose(bandit: ThompsonSampling, log: _Log, at: int, seed: int, key: str) -> Any:
    names = log.eligible[at]
    return bandit.choose(
        names, log.contexts[at], [1.0] * len(names), [0.0] * len(names), seed=seed, decision_id=f"{key}:{at}"
    )


def _replay(settings: Settings, log: _Log, run: int, steps: _Steps) -> dict[str, Any]:
    """Let the policy choose; rows where it meets the log count with weight 1/p and teach."""
    bandit = _bandit(settings, log)
    matched = []
    for at in range(len(log)):
        if _choose(bandit, log, at, settings.seed, f"replay-{run}").offer == log.names[log.actions[at]]:
            matched.append(at)
            _learn(bandit, log, at)
        steps.step()
    if not matched:
        return {"mean": None, "n": 0, "interval": None}
    rows = np.array(matched)
    scores = off_policy.self_normalised(log.rewards[rows], 1.0 / log.propensities[rows])
    found = mean_intervals(scores[:, None], np.arange(len(rows)))[0]
    return {"mean": float(scores.mean()), "n": len(rows), "interval": found}


def _prequential(settings: Settings, log: _Log, steps: _Steps) -> NDArray[np.float64]:
    """Probabilities of the policy that has learned all earlier rows, for each row."""
    bandit = _bandit(settings, log)

    def probabilities(at: int) -> NDArray[np.float64]:
        choice = _choose(bandit, log, at, settings.seed, "estimate")
        _learn(bandit, log, at)
        steps.step()
        return np.array(choice.propensities)

    return log.policy(probabilities)


def _estimates(
    log: _Log, target: NDArray[np.float64], min_ess: float, cap: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every estimator with its interval, and what the weights are like."""
    raw = off_policy.importance_weights(target, log.actions, log.propensities)
    weights = np.minimum(raw, cap)
    expected = off_policy.cross_fitted_rewards(log.contexts, log.actions, log.rewards, len(log.names))
    uniform = log.policy(lambda at: np.full(len(log.columns[at]), 1.0 / len(log.columns[at])))
    even = off_policy.importance_weights(uniform, log.actions, log.propensities, cap)
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
    found = mean_intervals(np.stack([*scores.values()], axis=1), np.arange(len(log)))
    estimates = {
        name: _estimate(name, scores[name], bounds, off_policy.effective_sample_size(used[name]), min_ess)
        for (name, bounds) in zip(scores, found, strict=True)
    }
    error = float(raw.std()) / np.sqrt(len(log))
    return estimates, {
        "mean": float(raw.mean()),
        "mean_is_near_1": bool(abs(raw.mean() - 1.0) <= MAX_ERRORS * error + 1e-9),
        "max": float(raw.max()),
        "ess": off_policy.effective_sample_size(weights),
        "cap": cap,
        "clipped_share": float((raw > cap).mean()),
    }


def _estimate(
    name: str,
    scores: NDArray[np.float64],
    bounds: tuple[float, float] | None,
    ess: float,
    min_ess: float,
) -> dict[str, Any]:
    if ess < min_ess:
        reason = f"effective sample size {ess:.1f} is below {min_ess:g} (--min-ess): too few decisions to say"
        return {"value": None, "low": None, "high": None, "ess": ess, "always_valid": None, "reason": reason}
    low, high = bounds or (None, None)
    found: dict[str, Any] = {"value": float(scores.mean()), "low": low, "high": high, "ess": ess}
    if name in {"snips", "dm", "uniform"}:  # no means of scores that depend on earlier decisions alone
        return found | {"always_valid": None}
    lows, highs = off_policy.confidence_sequence(scores)
    points = np.unique(np.linspace(0, len(scores), N_POINTS + 1).astype(int)[1:] - 1)
    means = np.cumsum(scores) / np.arange(1, len(scores) + 1)
    series = [
        {"n": int(at) + 1, "value": float(means[at]), "low": float(lows[at]), "high": float(highs[at])}
        for at in points
        if np.isfinite(lows[at])
    ]
    always_valid = [float(lows[-1]), float(highs[-1])] if np.isfinite(lows[-1]) else None
    return found | {"always_valid": always_valid, "series": series}


def _best_fixed_action(log: _Log, min_ess: float) -> dict[str, Any]:
    """The action that would have earned most alone, on the rows where it is eligible.

    It is chosen on the rows it is valued on, which flatters it; ``held_out`` is chosen on the first half of
    the log and valued on the second.
    """
    everything, half = np.arange(len(log)), len(log) // 2
    best = _best(log, everything, min_ess)
    if best is None:
        reason = f"no action has an effective sample size of {min_ess:g} (--min-ess)"
        return {"action": None, "value": None, "low": None, "high": None, "ess": 0.0, "reason": reason}
    first = _best(log, everything[:half], min_ess)
    held_out = None if first is None else _fixed(log, everything[half:], first["action"])
    return best | {"held_out": held_out}


def _best(log: _Log, rows: NDArray[np.int64], min_ess: float) -> dict[str, Any] | None:
    found = [_fixed(log, rows, name) for name in log.names]
    known = [one for one in found if one is not None and one["ess"] >= min_ess]
    return max(known, key=lambda one: (one["value"], one["action"]), default=None)


def _fixed(log: _Log, rows: NDArray[np.int64], name: str) -> dict[str, Any] | None:
    """Self-normalised value of one action over the rows where the log took it."""
    taken = rows[log.actions[rows] == log.names.index(name)]
    if not len(taken):
        return None
    weights = 1.0 / log.propensities[taken]
    scores = off_policy.self_normalised(log.rewards[taken], weights)
    low, high = mean_intervals(scores[:, None], np.arange(len(taken)))[0] or (None, None)
    return {
        "action": name,
        "value": float(scores.mean()),
        "low": low,
        "high": high,
        "ess": off_policy.effective_sample_size(weights),
    }


def _gain(
    log: _Log, target: NDArray[np.float64], estimates: dict[str, Any], fixed: dict[str, Any], cap: float
) -> dict[str, Any] | None:
    """SNIPS of the policy minus that of the best fixed action, paired by row; None where one is refused."""
    if estimates["snips"]["value"] is None or fixed["value"] is None:
        return None
    ours = off_policy.self_normalised(
        log.rewards, off_policy.importance_weights(target, log.actions, log.propensities, cap)
    )
    taken = (log.actions == log.names.index(fixed["action"])) / log.propensities
    difference = ours - off_policy.self_normalised(log.rewards, taken)
    low, high = mean_intervals(difference[:, None], np.arange(len(log)))[0] or (None, None)
    return {"value": float(difference.mean()), "low": low, "high": high}
