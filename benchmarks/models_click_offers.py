"""Microseconds per call of click model, bandit, factor model and metrics; JSON on stdout.

    python benchmarks/models_click_offers.py [--quick]

Every figure is the best of several rounds of single calls from Python, one thread, kernels compiled before.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable

import numpy as np

from online_models.bandits import NOTHING, ThompsonSampling
from online_models.click_rate import ClickRate
from online_models.delta import DeltaWriter, read_delta
from online_models.factorisation import StreamingIALS
from online_models.hashing import FeatureValue
from online_models.metrics import ClickMetrics, RankingMetrics
from online_models.vocabulary import Vocabulary

ROUNDS = 7


def us_per_call(call: Callable[[int], object], n: int) -> float:
    """Best of the rounds of ``call(0)`` to ``call(n - 1)``, in microseconds per call."""
    call(0)
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for at in range(n):
            call(at)
        best = min(best, time.perf_counter() - started)
    return round(best / n * 1e6, 2)


def click_figures() -> dict[str, float]:
    """13 features with the bias, 12 of them strings, out of 5,000 different events."""
    rng = np.random.default_rng(1)
    model = ClickRate()
    model.begin()
    mappings: list[dict[str, FeatureValue]] = [
        {f"field{f}": f"v{rng.zipf(1.5) % 5000}" for f in range(12)} for _ in range(5000)
    ]
    events = [model.encode(mapping) for mapping in mappings]
    labels = (rng.random(5000) < 0.1).astype(float).tolist()
    figures = {
        "click_encode": us_per_call(lambda at: model.encode(mappings[at]), 5000),
        "click_learn": us_per_call(lambda at: model.learn_one(events[at], labels[at]), 5000),
        "click_predict": us_per_call(lambda at: model.predict_proba_one(events[at]), 5000),
    }
    model.keep()
    model.begin()
    for at in range(1000):
        model.learn_one(events[at], labels[at])
    writer = DeltaWriter(model.spec)
    model.write_delta(writer)
    delta = writer.to_bytes()
    figures["click_delta_bytes_per_event"] = round(len(delta) / 1000, 1)

    def fold(_: int) -> None:
        model.fold(read_delta(delta, model.spec))

    figures["click_fold_per_event"] = round(us_per_call(fold, 10) / 1000, 3)
    return figures


def offer_figures() -> dict[str, float]:
    """Eight eligible offers, "nothing" among them, eight features."""
    rng = np.random.default_rng(2)
    model = ThompsonSampling(8)
    offers = [*(f"offer{n}" for n in range(7)), NOTHING]
    contexts = np.c_[np.ones(500), rng.normal(size=(500, 7))]
    labels = (rng.random(500) < 0.1).astype(float).tolist()
    money = [20.0] * 8
    model.begin()
    learn = us_per_call(lambda at: model.learn_one(offers[at % 7], contexts[at], labels[at]), 500)
    choose = us_per_call(
        lambda at: model.choose(offers, contexts[at], money, money, seed=1, decision_id=f"d{at}"), 500
    )
    return {"offers_learn": learn, "offers_choose": choose}


def factor_figures(n_factors: int) -> dict[str, float]:
    """2,000 items, users with histories of 64 and of 10 items; retrieval of 50 out of 10,000 items."""
    rng = np.random.default_rng(3)
    vocabulary = Vocabulary(max_rows=10_000)
    model = StreamingIALS(vocabulary, n_factors)
    vocabulary.begin()
    model.begin()
    figures = {}
    items = rng.integers(0, 2000, size=(100, 200)).astype(np.int32)
    memories = [b""] * 100
    for item in range(10_000):
        model.learn_one(vocabulary.touch(f"i{item}", 0.0), np.zeros(0, np.int32), 0.0, 1.0, b"")
    for length in (64, 10):
        memories = [b""] * 100
        # Two passes: the second has full histories and memories that know their items.
        for timed in (False, True):
            n_calls, elapsed = 0, 0.0
            for at in range(length, 200):
                for user in range(100):
                    history = np.ascontiguousarray(items[user, at - length : at][::-1])
                    started = time.perf_counter()
                    memories[user] = model.learn_one(int(items[user, at]), history, 0.0, 1.0, memories[user])
                    elapsed += time.perf_counter() - started
                    n_calls += 1
                vocabulary.keep()
                model.keep()
                vocabulary.begin()
                model.begin()
            if timed:
                figures[f"factors{n_factors}_learn_history_{length}"] = round(elapsed / n_calls * 1e6, 2)
    history = np.arange(64, dtype=np.int32)
    p = model.user_vector(history, b"")
    assert p is not None
    figures[f"factors{n_factors}_user_vector"] = us_per_call(lambda _: model.user_vector(history, b""), 2000)
    figures[f"factors{n_factors}_retrieve_10000"] = us_per_call(lambda _: model.retrieve(p, history, 50), 200)
    figures[f"factors{n_factors}_score_150"] = us_per_call(
        lambda _: model.score(p, np.arange(150, dtype=np.int32)), 2000
    )
    for at in range(64, 164):
        for user in range(10):
            history = np.ascontiguousarray(items[user, at - 64 : at][::-1])
            memories[user] = model.learn_one(int(items[user, at]), history, 0.0, 1.0, memories[user])
    writer = DeltaWriter(model.spec)
    vocabulary.write_delta(writer)
    model.write_delta(writer)
    delta = writer.to_bytes()

    def fold(_: int) -> None:
        reader = read_delta(delta, model.spec)
        reader.rows = np.array(vocabulary.rows(reader.strings), np.int32)
        model.fold(reader)

    figures[f"factors{n_factors}_fold_per_event"] = round(us_per_call(fold, 5) / 1000, 2)
    figures[f"factors{n_factors}_delta_bytes_per_event"] = round(len(delta) / 1000, 1)
    return figures


def metric_figures() -> dict[str, float]:
    """One event of each metric."""
    clicks, ranking = ClickMetrics(), RankingMetrics()
    return {
        "metrics_click": us_per_call(lambda at: clicks.update(at % 2, 0.3), 5000),
        "metrics_ranking": us_per_call(lambda at: ranking.update(at % 30), 5000),
    }


def main() -> None:
    """Run all and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the factor model with 16 factors only")
    quick = parser.parse_args().quick
    figures = click_figures() | offer_figures() | factor_figures(16) | metric_figures()
    if not quick:
        figures |= factor_figures(32)
    print(
        json.dumps(
            {"us": figures, "machine": platform.platform(), "python": platform.python_version()}, indent=2
        )
    )


if __name__ == "__main__":
    main()
