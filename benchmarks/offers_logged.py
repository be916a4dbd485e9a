"""Off-policy evaluation on public logs with known propensities; JSON on stdout.

    python benchmarks/offers_logged.py
    python benchmarks/offers_logged.py --log hillstrom --decisions > decisions.jsonl

The second form prints a log as ``nudge evaluate offers`` reads it. Without it:

- Open Bandit Dataset, campaigns All and Men: the uniformly random policy is estimated from the log of
  Bernoulli Thompson sampling, and compared with what it earned on its own log.
- Hillstrom's e-mail trial, reward = visit: a greedy policy is fitted on every third customer, estimated on
  the next third, and compared with the customers of the last third who got what it would have sent.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from online_models import off_policy
from stream.evaluate.bootstrap import mean_intervals
from stream.evaluate.contexts import ContextEncoder

DATA = Path(os.environ.get("NUDGE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
ARMS = ("Mens E-Mail", "Womens E-Mail", "No E-Mail")


def open_bandit(campaign: str, policy: str) -> Iterator[dict[str, Any]]:
    """Impressions of one log; all items of the campaign are eligible at every position."""
    folder = DATA / "obd-all-men" / policy / campaign
    with (folder / "item_context.csv").open(encoding="utf-8") as lines:
        items = [row["item_id"] for row in csv.DictReader(lines)]
    with gzip.open(folder / f"{campaign}.csv.gz", "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            features = {name: row[name] for name in row if name.startswith("user_feature_")}
            yield {
                "time": row["timestamp"],
                "context": features | {"position": row["position"]},
                "eligible": items,
                "action": row["item_id"],
                "reward": int(row["click"]),
                "propensity": float(row["propensity_score"]),
            }


def hillstrom() -> Iterator[dict[str, Any]]:
    """Customers of the e-mail trial, arms drawn uniformly; the reward is a visit."""
    with gzip.open(
        DATA / "hillstrom-a" / "hillstrom_rows_00001-32000.csv.gz", "rt", encoding="utf-8"
    ) as lines:
        for row in csv.DictReader(lines):
            numbers = {name: float(row[name]) for name in ("recency", "history", "mens", "womens", "newbie")}
            yield {
                "context": numbers | {"zip_code": row["zip_code"], "channel": row["channel"]},
                "eligible": list(ARMS),
                "action": row["segment"],
                "reward": int(row["visit"]),
                "propensity": 1 / 3,
            }


LOGS: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "hillstrom": hillstrom,
    **{
        f"obd-{campaign}-{policy}": partial(open_bandit, campaign, policy)
        for campaign in ("all", "men")
        for policy in ("random", "bts")
    },
}


def reproduce_random(campaign: str, limit: int | None = None) -> dict[str, Any]:
    """Estimate the random policy from the log of the other one, and compare with its own log."""
    rows, own = (list(islice(open_bandit(campaign, policy), limit)) for policy in ("bts", "random"))
    rewards = np.array([float(row["reward"]) for row in rows])
    propensities = np.array([row["propensity"] for row in rows])
    weights = 1.0 / len(rows[0]["eligible"]) / propensities
    scores = {
        "ips": off_policy.inverse_propensity(rewards, weights),
        "snips": off_policy.self_normalised(rewards, weights),
    }
    truth = np.array([float(row["reward"]) for row in own])
    return {
        "rows": len(rows),
        "mean_weight": round(float(weights.mean()), 4),
        "mean_weight_standard_error": round(float(weights.std()) / np.sqrt(len(rows)), 4),
        "ess": round(off_policy.effective_sample_size(weights), 1),
        "least_propensity": float(propensities.min()),
        "own_log": value_of(truth),
        **{name: value_of(found) for name, found in scores.items()},
    }


def greedy_policy(limit: int | None = None) -> dict[str, Any]:
    """Fit, estimate and check a greedy policy on three different thirds of the trial."""
    rows = list(islice(hillstrom(), limit))
    x = ContextEncoder(row["context"] for row in rows).matrix([row["context"] for row in rows])
    actions = np.array([ARMS.index(row["action"]) for row in rows])
    rewards = np.array([float(row["reward"]) for row in rows])
    thirds = np.arange(len(rows)) % 3
    fit, estimate, check = (thirds == part for part in range(3))
    best = np.stack(
        [
            x
            @ np.linalg.solve(
                x[fit & (actions == arm)].T @ x[fit & (actions == arm)] + np.eye(x.shape[1]),
                x[fit & (actions == arm)].T @ rewards[fit & (actions == arm)],
            )
            for arm in range(len(ARMS))
        ]
    ).argmax(axis=0)
    target = np.eye(len(ARMS))[best]
    x, a, r, target_e = x[estimate], actions[estimate], rewards[estimate], target[estimate]
    weights = off_policy.importance_weights(target_e, a, np.full(len(a), 1 / 3))
    expected = off_policy.cross_fitted_rewards(x, a, r, len(ARMS))
    return {
        "rows": len(rows),
        "ess": round(off_policy.effective_sample_size(weights), 1),
        "held_out_truth": value_of(rewards[check & (actions == best)]),
        "ips": value_of(off_policy.inverse_propensity(r, weights)),
        "snips": value_of(off_policy.self_normalised(r, weights)),
        "dm": value_of(off_policy.direct_method(target_e, expected)),
        "dr": value_of(off_policy.doubly_robust(r, weights, a, target_e, expected)),
        "fixed_arms": {name: value_of(rewards[actions == arm]) for arm, name in enumerate(ARMS)},
    }


def value_of(scores: np.ndarray) -> dict[str, Any]:
    """A mean with its bootstrap interval."""
    bounds = mean_intervals(scores[:, None], np.arange(len(scores)))[0]
    return {
        "value": round(float(scores.mean()), 5),
        "interval": [round(bound, 5) for bound in bounds] if bounds else None,
    }


def main() -> None:
    """Print a log, or the comparisons."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", choices=list(LOGS), default="hillstrom")
    parser.add_argument("--decisions", action="store_true", help="print the log, estimate nothing")
    parser.add_argument("--quick", action="store_true", help="the first 3,000 rows of each log")
    arguments = parser.parse_args()
    if arguments.decisions:
        for row in LOGS[arguments.log]():
            print(json.dumps(row))
        return
    limit = 3000 if arguments.quick else None
    found = {f"obd_{campaign}": reproduce_random(campaign, limit) for campaign in ("all", "men")}
    print(json.dumps({"benchmark": "offers_logged", **found, "hillstrom": greedy_policy(limit)}, indent=1))


if __name__ == "__main__":
    main()
