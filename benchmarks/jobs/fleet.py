"""A fleet of simulated workers that learn apart, test then train, for ``benchmarks/fleet_quality.py``.

Users are shared out by a hash. After so many events of the fleet each worker publishes what it learned,
undoes it, and folds everybody's deltas in the order of the workers, as batches with overlapping commits do.
With ``lag_alone`` every worker takes over what one worker knows that learned all events in sequence instead:
no fleet can do that, and what it loses no rule of merging brings back.

What is returned are sums of a measure and what they are shares of, by user or by simulation, of shape
``(2, n)``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from zlib import crc32

import numpy as np
from click_prequential import EXAMPLES  # type: ignore[import-not-found]  # it stands beside the scripts
from numpy.typing import NDArray
from offers_regret import (  # type: ignore[import-not-found]
    N_FEATURES,
    N_OFFERS,
    OFFERS,
    ONES,
    STEP_S,
    ZEROS,
)
from recommend_prequential import (  # type: ignore[import-not-found]
    WARM_UP,
    Event,
    factor_source,
    source_ranks,
)

from online_models.bandits import ThompsonSampling
from online_models.base import Foldable
from online_models.click_rate import ClickRate
from online_models.cooccurrence import SequentialCooccurrence
from online_models.fold import ModelSet
from online_models.hybrid import MAX_HISTORY, OnlineBlend
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary

MAX_ROWS = 20_000
SOURCES = ("blend", "cooccurrence", "factors")
LEAST = 1e-15  # probability
Measures = dict[str, NDArray[np.float64]]


class Worker:
    """Models of one worker, with a batch open."""

    def __init__(self, models: Iterable[Foldable], vocabulary: Vocabulary) -> None:
        self.models = ModelSet([*models], vocabulary)
        self.models.begin()

    def publish(self) -> bytes:
        """Return what the open batch taught, and undo it."""
        delta = self.models.delta()
        self.models.rollback()
        return delta

    def follow(self, deltas: list[bytes]) -> None:
        """Fold everybody's deltas and open the next batch."""
        for delta in deltas:
            self.models.fold(delta)
        self.models.begin()


def exchange(fleet: list[Worker]) -> None:
    """Let everybody know what everybody learned; one worker goes on, for that changes nothing."""
    deltas = [worker.publish() for worker in fleet]
    for worker in fleet:
        worker.follow(deltas)


def catch_up(fleet: list[Worker], sequential: Worker) -> None:
    """Let everybody forget the batch and know what a worker knows that learned it all in sequence."""
    delta = sequential.publish()
    for worker in fleet:
        worker.models.rollback()
    for worker in (*fleet, sequential):
        worker.follow([delta])


def owner(name: str, n_workers: int, seed: int) -> int:
    """The worker of a user, by the hash of one of many ways to share users out."""
    return crc32(f"{seed}/{name}".encode()) % n_workers


def blends(n_workers: int, *, one_ranker: bool) -> tuple[list[Worker], list[OnlineBlend]]:
    """Workers with the recommendation models; rankers may share their weights."""
    fleet: list[Worker] = []
    found: list[OnlineBlend] = []
    for _ in range(n_workers):
        vocabulary = Vocabulary(MAX_ROWS)
        sources = DecayedPopularity(vocabulary), SequentialCooccurrence(vocabulary)
        blend = OnlineBlend(vocabulary, *sources, factor_source(vocabulary))
        if one_ranker and found:
            first = found[0]
            read = blend._read  # noqa: SLF001  no worker could do this
            blend._read = tuple(first.weights if one is blend.weights else one for one in read)  # noqa: SLF001
            blend.learn_one = first.learn_one  # type: ignore[method-assign]
        found.append(blend)
        fleet.append(Worker(blend.models, vocabulary))
    return fleet, found


def recommend(
    events: list[Event],
    n_workers: int,
    every: int,
    seed: int,
    *,
    one_ranker: bool = False,
    lag_alone: bool = False,
) -> Measures:
    """Recall@10 of a fleet's blend and of each source alone, by user."""
    fleet, found = blends(n_workers, one_ranker=one_ranker)
    (sequential,), (in_sequence,) = blends(1, one_ranker=False)
    consumed: dict[str, set[str]] = defaultdict(set)
    histories: dict[str, list[str]] = defaultdict(list)
    last_event: dict[str, float] = {}
    memories: dict[str, bytes] = {}
    memories_in_sequence: dict[str, bytes] = {}
    hits: dict[str, list[bool]] = {name: [] for name in SOURCES}
    users: list[str] = []
    for n, (user, item, at) in enumerate(events):
        if n % every == 0 and lag_alone:
            catch_up(fleet, sequential)
            memories = dict(memories_in_sequence)
        elif n % every == 0 and n_workers > 1:
            exchange(fleet)
        blend = found[owner(user, n_workers, seed)]
        seen, history, memory = consumed[user], histories[user], memories.get(user, b"")
        repeat = item in seen
        gap_s = at - last_event[user] if user in last_event else None
        if not repeat:
            slate = blend.propose(history, at, gap_s, seen, memory)
            if n >= WARM_UP * len(events):
                place = slate.place_of(item)
                n_half_lives = len(blend.popularity.half_lives_s)
                ranks = {} if place is None else dict(source_ranks(slate, place, n_half_lives, blend.n_each))
                rank = slate.rank_of(item)
                ranks["blend"] = blend.n_each if rank is None else rank
                for name in SOURCES:
                    hits[name].append(ranks.get(name, blend.n_each) < 10)
                users.append(user)
            blend.learn_one(slate, item)
        memories[user] = blend.observe(item, history, at, 1.0, repeat, memory, gap_s=gap_s)
        if lag_alone:
            memory = memories_in_sequence.get(user, b"")
            if not repeat:
                in_sequence.learn_one(in_sequence.propose(history, at, gap_s, seen, memory), item)
            memories_in_sequence[user] = in_sequence.observe(
                item, history, at, 1.0, repeat, memory, gap_s=gap_s
            )
        last_event[user] = at
        if not repeat:
            seen.add(item)
            history.insert(0, item)
            del history[MAX_HISTORY:]
    return {f"{name}.recall_at_10": by_group(users, np.array(hit, float)) for name, hit in hits.items()}


def click_models(n_workers: int) -> tuple[list[Worker], list[ClickRate]]:
    """Workers with a click model each."""
    models = [ClickRate() for _ in range(n_workers)]
    return [Worker([model], Vocabulary(1)) for model in models], models


def clicks(
    examples: str, n_events: int | None, n_workers: int, every: int, seed: int, *, lag_alone: bool = False
) -> Measures:
    """Progressive log loss of a fleet's click model, by user."""
    fleet, models = click_models(n_workers)
    (sequential,), (in_sequence,) = click_models(1)
    users: list[str] = []
    losses: list[float] = []
    for n, (user, texts, y) in enumerate(EXAMPLES[examples]()):
        if n == n_events:
            break
        if n % every == 0 and lag_alone:
            catch_up(fleet, sequential)
        elif n % every == 0 and n_workers > 1:
            exchange(fleet)
        model = models[owner(user, n_workers, seed)]
        features = model.hasher.encode_texts(texts)
        p = min(max(model.learn_one(features, y), LEAST), 1.0 - LEAST)
        if lag_alone:
            in_sequence.learn_one(features, y)
        users.append(user)
        losses.append(-math.log(p if y else 1.0 - p))
    return {"click_rate.log_loss": by_group(users, np.array(losses))}


def bandits(n_workers: int) -> tuple[list[Worker], list[ThompsonSampling]]:
    """Workers with a bandit each."""
    models = [ThompsonSampling(N_FEATURES) for _ in range(n_workers)]
    return [Worker([model], Vocabulary(1)) for model in models], models


def offers(n_events: int, n_workers: int, every: int, seed: int, *, lag_alone: bool = False) -> Measures:
    """Conversions that a fleet's bandit expects of its choices, beside those of the best offers."""
    rng = np.random.default_rng(seed)
    true = np.c_[rng.normal(-3.2, 0.4, N_OFFERS), rng.normal(0.0, 0.6, (N_OFFERS, N_FEATURES - 1))]
    contexts = np.c_[np.ones(n_events), rng.normal(size=(n_events, N_FEATURES - 1))]
    chances = 1.0 / (1.0 + np.exp(-contexts @ true.T))
    converts = rng.random((n_events, N_OFFERS)) < chances
    fleet, models = bandits(n_workers)
    (sequential,), (in_sequence,) = bandits(1)
    got = np.empty(n_events)
    for n, x in enumerate(contexts):
        if n % every == 0 and lag_alone:
            catch_up(fleet, sequential)
        elif n % every == 0 and n_workers > 1:
            exchange(fleet)
        model, at = models[owner(str(n), n_workers, seed)], n * STEP_S
        choice = model.choose(OFFERS, x, ONES, ZEROS, seed=seed, decision_id=f"d{n}", at=at)
        offer = OFFERS.index(choice.offer)
        got[n] = chances[n, offer]
        for learner in (model, in_sequence) if lag_alone else (model,):
            learner.learn_one(choice.offer, x, float(converts[n, offer]), at=at)
    best = chances.max(axis=1)
    scored = slice(int(WARM_UP * n_events), None)
    return {
        "offers.share_of_best": np.array([[got[scored].sum()], [best[scored].sum()]]),
        "offers.share_of_best_from_the_start": np.array([[got.sum()], [best.sum()]]),
    }


def by_group(names: list[str], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums and numbers of the values of each name, sorted by name; shape ``(2, n_names)``."""
    codes = np.unique(names, return_inverse=True)[1]
    return np.array([np.bincount(codes, values), np.bincount(codes)])
