"""The property everything rests on: learning, folding, batching and undoing agree bit for bit."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.cooccurrence import SequentialCooccurrence
from online_models.delta import DeltaError, read_delta
from online_models.factorisation import StreamingIALS
from online_models.fold import ModelSet
from online_models.hybrid import OnlineBlend
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary

Stream = list[tuple[int, str, float]]
HALF_LIVES_S = (600.0, 86_400.0, 604_800.0, math.inf)


class Shop:
    """A blend with tight bounds, and the users' side that an engine would keep."""

    def __init__(self, max_rows: int = 12, half_life_s: float = math.inf, *, factors: bool = False) -> None:
        self.vocabulary = Vocabulary(max_rows)
        self.blend = OnlineBlend(
            self.vocabulary,
            DecayedPopularity(self.vocabulary, HALF_LIVES_S),
            SequentialCooccurrence(self.vocabulary, 6, 3, ring=4, half_life_s=half_life_s),
            StreamingIALS(self.vocabulary, n_factors=3, refresh=4) if factors else None,
            candidates_per_source=5,
        )
        self.memories: dict[int, bytes] = {}
        self.models = ModelSet(self.blend.models, self.vocabulary)
        self.histories: dict[int, list[str]] = defaultdict(list)
        self.last: dict[int, float] = {}

    def learn(self, stream: Stream) -> None:
        """Test, then train, as the engine does."""
        for user, item, at in stream:
            history = self.histories[user]
            repeat = item in history
            gap_s = at - self.last[user] if user in self.last else None
            memory = self.memories.get(user, b"")
            if not repeat:
                slate = self.blend.propose(history, at, gap_s, set(history), memory)
                self.blend.learn_one(slate, item)
            self.memories[user] = self.blend.observe(item, history, at, 1.0, repeat, memory, gap_s=gap_s)
            self.histories[user] = [item, *history][:8]
            self.last[user] = at

    def answers(self) -> list[list[tuple[str, float]]]:
        """What it would propose now, score bits included."""
        asked = [[], ["i1"], ["i2", "i3", "i9"], ["i11", "zzz", "i4"]]
        return [
            [
                (ranked.item_id, ranked.score)
                for ranked in self.blend.propose(history, 9e5, 60.0, {"i5"}, self.memories.get(1, b"")).top(
                    30
                )
            ]
            for history in asked
        ]

    def state(self) -> tuple[str, list[list[tuple[str, float]]]]:
        """Digest and answers."""
        return self.models.digest(), self.answers()


def stream_of(seed: int, n_events: int = 120, n_items: int = 24) -> Stream:
    """A seeded stream: skewed items, a few users, mostly growing time, some late and some far jumps."""
    rng = np.random.Generator(np.random.Philox(seed))
    stream, now = [], 1e5
    for _ in range(n_events):
        now += float(rng.choice([1.0, 30.0, 3000.0, 60_000.0], p=[0.5, 0.3, 0.15, 0.05]))
        late = float(rng.choice([0.0, 500.0], p=[0.9, 0.1]))
        item = int(n_items * rng.random() ** 2)
        stream.append((int(rng.integers(4)), f"i{item}", now - late))
    return stream


def in_one_batch(stream: Stream, max_rows: int, half_life_s: float, *, factors: bool = False) -> Shop:
    """The reference: everything learned in one batch and kept."""
    shop = Shop(max_rows, half_life_s, factors=factors)
    shop.models.begin()
    shop.learn(stream)
    shop.models.keep()
    return shop


SEEDS = st.integers(0, 10_000)
ROWS = st.sampled_from([3, 8, 12, 40])
FORGETTING = st.sampled_from([math.inf, 1000.0])


@settings(max_examples=40)
@given(SEEDS, ROWS, FORGETTING, st.booleans(), st.lists(st.integers(0, 120), max_size=8))
def test_any_split_into_batches(
    seed: int, max_rows: int, half_life_s: float, factors: bool, cuts: list[int]
) -> None:
    """Where batches end changes no bit of the state and of the answers."""
    stream = stream_of(seed)
    shop = Shop(max_rows, half_life_s, factors=factors)
    bounds = [0, *sorted(cuts), len(stream)]
    for first, last in pairwise(bounds):
        shop.models.begin()
        shop.learn(stream[first:last])
        shop.models.keep()

    assert in_one_batch(stream, max_rows, half_life_s, factors=factors).state() == shop.state()


@settings(max_examples=40)
@given(SEEDS, ROWS, FORGETTING, st.booleans(), st.integers(0, 120))
def test_learning_again_after_a_rollback(
    seed: int, max_rows: int, half_life_s: float, factors: bool, cut: int
) -> None:
    """A batch that was aborted and played again leaves the state of a batch that went through at once."""
    stream = stream_of(seed)
    shop = in_one_batch(stream[:cut], max_rows, half_life_s, factors=factors)
    before, users = shop.state(), (dict(shop.histories), dict(shop.last), dict(shop.memories))
    shop.models.begin()
    shop.learn(stream_of(seed + 1))
    shop.learn(stream[cut:])
    shop.models.rollback()

    assert before == shop.state()
    shop.histories, shop.last, shop.memories = defaultdict(list, users[0]), users[1], users[2]
    shop.models.begin()
    shop.learn(stream[cut:])
    shop.models.keep()
    assert in_one_batch(stream, max_rows, half_life_s, factors=factors).state() == shop.state()


@settings(max_examples=40)
@given(SEEDS, ROWS, FORGETTING, st.booleans(), st.integers(0, 120), st.booleans())
def test_folding_the_own_delta(
    seed: int, max_rows: int, half_life_s: float, factors: bool, cut: int, as_bytes: bool
) -> None:
    """Learn, publish, undo, fold: the fold gives the bits that learning gave, evictions included."""
    stream = stream_of(seed)
    shop = in_one_batch(stream[:cut], max_rows, half_life_s, factors=factors)
    shop.models.begin()
    shop.learn(stream[cut:])
    written = shop.models.write()
    shop.models.rollback()
    delta = b"" if written.empty else written.to_bytes()
    shop.models.fold(delta, None if as_bytes else written.reader())

    assert in_one_batch(stream, max_rows, half_life_s, factors=factors).state() == shop.state()


@settings(max_examples=20)
@given(SEEDS, ROWS, FORGETTING, st.booleans(), st.lists(st.integers(40, 120), max_size=5))
def test_another_worker_rebuilds_from_deltas(
    seed: int, max_rows: int, half_life_s: float, factors: bool, cuts: list[int]
) -> None:
    """A worker that starts from a snapshot and folds the deltas after it equals the one that learned."""
    stream = stream_of(seed)
    shop = in_one_batch(stream[:40], max_rows, half_life_s, factors=factors)
    snapshot = shop.models.snapshot()
    deltas = []
    bounds = [40, *sorted(cuts), len(stream)]
    for first, last in pairwise(bounds):
        shop.models.begin()
        shop.learn(stream[first:last])
        deltas.append(shop.models.delta())
        shop.models.keep()
    other = Shop(max_rows, half_life_s, factors=factors)
    other.models.restore(snapshot)
    other.memories = shop.memories
    for delta in deltas:
        other.models.fold(delta)

    assert shop.state() == other.state()


def test_digest_is_free_of_row_numbers() -> None:
    """Two workers that met the items in different orders, but counted the same, have one digest."""
    digests = []
    for items in (("a", "b", "c"), ("c", "a", "b")):
        shop = Shop()
        shop.models.begin()
        for item in items:
            shop.blend.observe(item, [], 5.0, 1.0, False, b"")
        shop.models.keep()
        digests.append(shop.models.digest())

    assert digests[0] == digests[1]


def test_digest_sees_every_model() -> None:
    """One more event anywhere is another digest."""
    stream = stream_of(3)
    digests = {in_one_batch(stream[:n], 12, math.inf).models.digest() for n in range(1, 40)}

    assert 39 == len(digests)


def ranker(shop: Shop) -> bytes:
    """The ranker's bits."""
    return shop.blend.weights.tobytes() + shop.blend.squares.tobytes()


def test_rankers_that_learned_at_the_same_time_are_averaged() -> None:
    """Four learn from one ranker, in turn first in the log: each context ends at the mean by its examples."""
    fleet = [Shop() for _ in range(4)]
    stream, size = stream_of(5, n_events=1000), 200
    for turn, start in enumerate(range(0, len(stream), size)):
        waiting, taught = [], []
        for place, shop in enumerate(fleet):
            shop.models.begin()
            shop.learn(stream[start + place : start + size : 4])
            delta = shop.models.delta()
            n = read_delta(delta, shop.models.spec).columns("ranker")["examples"][:, :1]
            taught.append((n, shop.blend.weights.copy()))
            shop.models.rollback()
            waiting.append(delta)
        for source in sorted(range(4), key=lambda place: (place - turn) % 4):
            for shop in fleet:
                shop.models.fold(waiting[source])
        of_all = sum(n for n, _ in taught)
        mean = sum(n * weights for n, weights in taught) / np.maximum(of_all, 1)
        assert np.allclose(mean, fleet[0].blend.weights * (of_all > 0), atol=1e-12)
        assert 1 == len({ranker(shop) for shop in fleet})


def test_one_worker_moves_the_ranker_by_the_whole() -> None:
    """With nobody to hear of, batches of any size give the same weights."""
    stream = stream_of(5)
    one, many = in_one_batch(stream, 12, math.inf), Shop()
    for at in range(0, len(stream), 7):
        many.models.begin()
        many.learn(stream[at : at + 7])
        many.models.keep()

    assert ranker(one) == ranker(many)


def test_one_batch_set_aside_comes_back_to_the_bit() -> None:
    """Whoever needs the models while a batch waits for its commit leaves no trace in them."""
    kept, folded = Shop(), Shop()
    for shop in (kept, folded):
        shop.models.begin()
        shop.learn(stream_of(4))
    kept.models.keep()
    delta = folded.models.delta()
    folded.models.rollback()
    folded.models.fold(delta)

    assert kept.models.digest() == folded.models.digest()


def test_empty_batch_has_no_delta() -> None:
    """Nothing learned, nothing published, and folding nothing does nothing."""
    shop = in_one_batch(stream_of(1), 12, math.inf)
    before = shop.state()
    shop.models.begin()
    delta = shop.models.delta()
    shop.models.keep()
    shop.models.fold(delta)

    assert b"" == delta
    assert before == shop.state()


def test_refused_delta_leaves_no_trace() -> None:
    """A delta whose third section is unusable is undone as a whole."""
    shop, other = in_one_batch(stream_of(1), 12, math.inf), Shop()
    before = shop.state()
    other.models.begin()
    other.learn(stream_of(2))
    honest = other.blend.cooccurrence.write_delta

    def damaged(delta: object) -> None:
        other.blend.cooccurrence._weights[-1] = math.nan
        honest(delta)  # type: ignore[arg-type]

    other.blend.cooccurrence.write_delta = damaged  # type: ignore[method-assign]
    with pytest.raises(DeltaError, match="positive weight"):
        shop.models.fold(other.models.delta())

    assert before == shop.state()
    shop.models.begin()  # and no batch was left open
    shop.models.rollback()


def test_other_hyper_parameters_are_refused() -> None:
    """Deltas and snapshots of another spec are errors."""
    shop, other = in_one_batch(stream_of(1), 12, math.inf), Shop(half_life_s=7.0)
    shop.models.begin()
    shop.learn(stream_of(2))
    delta = shop.models.delta()
    shop.models.keep()

    with pytest.raises(DeltaError, match="hyper-parameters"):
        other.models.fold(delta)
    with pytest.raises(ValueError, match="these models are"):
        other.models.restore(shop.models.snapshot())


@pytest.mark.parametrize(
    "act", [lambda models: models.snapshot(), lambda models: models.fold(b"x"), ModelSet.begin]
)
def test_open_batch_forbids(act: Callable[[ModelSet], object]) -> None:
    """No snapshot, no fold and no second batch while one is open."""
    shop = Shop()
    shop.models.begin()

    with pytest.raises((RuntimeError, DeltaError)):
        act(shop.models)


def test_model_names_are_unique() -> None:
    """Two sections of one name could not be told apart."""
    vocabulary = Vocabulary(3)
    with pytest.raises(ValueError, match="once"):
        ModelSet([DecayedPopularity(vocabulary), DecayedPopularity(vocabulary)], vocabulary)


PLAYED = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import math
from test_fold import in_one_batch, stream_of
shop = in_one_batch(stream_of(11, n_events=60), 8, 1000.0)
for answer in shop.answers():
    print([(item, round(score, 9)) for item, score in answer])
print(shop.vocabulary.snapshot()["ids"].tobytes(), shop.blend.cooccurrence.refs.tolist())
"""


def test_source_is_its_own_oracle() -> None:
    """Kernels run as plain Python give the same rows, neighbours and orders, and scores to 1e-9."""
    root = Path(__file__).parents[2]
    script = PLAYED.format(root=str(root), tests=str(Path(__file__).parent))
    printed = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "NUMBA_DISABLE_JIT": disabled},
            capture_output=True,
            check=True,
            text=True,
            timeout=120,
        ).stdout
        for disabled in ("0", "1")
    ]

    assert len(printed[0]) > 500
    assert printed[0] == printed[1]
