"""Streaming ALS: the clear version, exact Gram matrices, users' memory, undo, eviction, real data."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from online_models.base import FactorSource
from online_models.delta import STEP, DeltaError
from tests.online_models.factor_shop import SETTINGS, Shop, shown, stream
from tests.oracles.implicit_als import ClearIALS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kappa", [2.0, np.inf])
def test_equals_the_clear_version(kappa: float) -> None:
    """Vectors of users and items are those of plain numpy, line by line, to float32."""
    events = stream(75, seed=1)
    shop = Shop(kappa=kappa)
    shop.models.begin()
    for item in sorted({item for _, item in events}):
        shop.vocabulary.touch(item, 0.0)
    starts = {}
    for item in sorted({item for _, item in events}):
        fresh = Shop()
        fresh.models.begin()
        fresh.model._table[:] = 0.0
        row = fresh.vocabulary.touch(item, 0.0)
        from online_models.kernels import factors

        start: Any = factors._start
        start(row, fresh.vocabulary.order, fresh.model._table, 14, 4)
        starts[item] = fresh.q(item).copy().astype(np.float64)
    oracle = ClearIALS(starts, **(SETTINGS | {"kappa": kappa}))
    for user, item in events:
        oracle.learn_one(user, item)
        shop.learn(user, item)
        p = np.frombuffer(shop.memories[user], np.float32, 4, offset=4)
        np.testing.assert_allclose(p, oracle.p[user], atol=2e-5)
        np.testing.assert_allclose(shop.q(item), oracle.q[item], atol=2e-5)
    for item, q in oracle.q.items():
        np.testing.assert_allclose(shop.q(item), q, atol=2e-5)
    np.testing.assert_allclose(
        shop.model._gram[0], oracle.gram([oracle.q[item] for item in oracle.solved]), atol=1e-4
    )
    np.testing.assert_allclose(shop.model._gram[1], oracle.gram(list(oracle.p.values())), atol=1e-4)


def test_first_vectors_look_normal_and_depend_on_the_id_alone() -> None:
    """Ten thousand first factors have mean 0 and deviation .1, and no two items share a vector."""
    shop = Shop(max_rows=3000)
    shop.models.begin()
    from online_models.kernels import factors

    start: Any = factors._start
    vectors = []
    for n in range(2500):
        row = shop.vocabulary.touch(f"item{n}", 0.0)
        start(row, shop.vocabulary.order, shop.model._table, 14, 4)
        vectors.append(shop.q(f"item{n}").copy())
    drawn = np.array(vectors)
    assert abs(float(drawn.mean())) < 0.004
    assert 0.1 == pytest.approx(float(drawn.std()), rel=0.03)
    assert 2500 == len(np.unique(drawn, axis=0))
    assert float(np.abs(np.corrcoef(drawn.T) - np.eye(4)).max()) < 0.08


def test_gram_matrices_are_the_exact_sums_over_the_vectors() -> None:
    """After many replacements G_Q is, to the bit, the sum over the vectors on the grid."""
    shop = Shop()
    shop.models.begin()
    for user, item in stream(80, seed=2):
        shop.learn(user, item)
    expected = np.zeros((4, 4))
    for item in {item for items in shop.items.values() for item in items}:
        q = shop.q(item).astype(np.float64)
        expected += np.rint(np.outer(q, q) * 2.0**24) / 2.0**24
    assert expected.tobytes() == shop.model._gram[0].tobytes()
    assert float(np.sqrt((expected**2).sum())) == pytest.approx(shop.model.norm())


def test_similar_users_items_score_higher() -> None:
    """On items of two tastes the other items of the own taste come first."""
    shop = Shop(n_factors=4)
    shop.models.begin()
    for repeat in range(6):
        for n in range(5):
            shop.learn(f"cat{repeat}", f"cat-food{(n + repeat) % 5}")
            shop.learn(f"dog{repeat}", f"dog-food{(n + repeat) % 5}")
    shop.learn("new", "cat-food0")
    p = shop.model.user_vector(shop.rows("new"), shop.memories["new"])
    assert p is not None
    best = shop.model.retrieve(p, shop.rows("new"), 4)
    assert {f"cat-food{n}" for n in range(1, 5)} == {shop.vocabulary.item_id(row) for row in best.tolist()}


def lengths_over_users(kappa: float) -> list[float]:
    """Mean length of the vectors of 40 items of four tastes after 1,000, 4,000 and 16,000 users."""
    rng = np.random.default_rng(0)
    shop = Shop(n_factors=8, gamma=0.98, kappa=kappa, resolve=0)
    lengths = []
    for user in range(16_000):
        if user % 200 == 0:
            if user:
                shop.models.keep()
            shop.models.begin()
        taste = 10 * int(rng.integers(4))
        for item in taste + rng.permutation(10)[:6]:
            shop.learn("user", f"i{item}")
        shop.items.clear()
        shop.memories.clear()
        if user + 1 in {1_000, 4_000, 16_000}:
            lengths.append(float(np.mean([np.linalg.norm(shop.q(f"i{item}")) for item in range(40)])))
    return lengths


def test_vectors_keep_their_length_however_many_users_come() -> None:
    """Users who never end do not outweigh what an item remembers; counted every one, they would."""
    first, later, last = lengths_over_users(kappa=20.0)
    assert first > 1.0
    assert 0.9 < later / first < 1.2
    assert 0.95 < last / later < 1.05
    first, _, last = lengths_over_users(kappa=np.inf)
    assert last < 0.25 * first


def unreadable(memory: bytes) -> list[bytes]:
    """Memories that no version of the model wrote."""
    nan = np.full(4, np.nan, np.float32).tobytes()
    huge = np.full(4, 1e30, np.float32).tobytes()
    return [b"x", b"\xff" * len(memory), memory[:-1], memory + b"\0\0\0\0", b"\2" + memory[1:]] + [
        memory[:4] + vector + memory[20:] for vector in (nan, huge)
    ]


@pytest.mark.parametrize("which", range(7))
def test_memory_that_cannot_be_read_is_that_of_a_new_user(which: int) -> None:
    """Damaged or foreign memory teaches exactly what no memory teaches, and never enters the state."""
    deltas = []
    for damaged in (False, True):
        shop = Shop()
        shop.models.begin()
        for user, item in stream(30, seed=5):
            shop.learn(user, item)
        shop.memories["u0"] = unreadable(shop.memories["u0"])[which] if damaged else b""
        shop.learn("u0", "another")
        assert np.isfinite(shop.model._table).all()
        deltas.append(shop.models.delta())
    assert deltas[0] == deltas[1]


def test_memory_is_small_and_bounded() -> None:
    """At most 4 + 4K + 8·refresh bytes however long the history is."""
    shop = Shop()
    shop.models.begin()
    for n in range(50):
        shop.learn("u", f"i{n}")
        assert len(shop.memories["u"]) == 4 + 4 * 4 + 8 * min(n + 1, 4)


@pytest.mark.parametrize("size", [1, 7, 80])
def test_bits_do_not_depend_on_batches_and_survive_eviction(size: int) -> None:
    """Learning, undoing and learning again, and folding agree, with too small a vocabulary."""
    events = stream(80, seed=6, n_items=25)
    whole, split, folded = Shop(max_rows=9), Shop(max_rows=9), Shop(max_rows=9)
    whole.models.begin()
    for user, item in events:
        whole.learn(user, item)
    whole.models.keep()
    for start in range(0, 80, size):
        state = (dict(split.memories), {user: list(items) for user, items in split.items.items()}, split.at)
        before, columns = split.models.digest(), shown(split.model)
        split.models.begin()
        for user, item in events[start : start + size]:
            split.learn(user, item)
        delta = split.models.delta()
        split.models.rollback()
        assert before == split.models.digest()
        assert columns == shown(split.model)
        split.memories = defaultdict(bytes, state[0])
        split.items = defaultdict(list, state[1])
        split.at = state[2]
        split.models.begin()
        for user, item in events[start : start + size]:
            split.learn(user, item)
        assert delta == split.models.delta()
        split.models.keep()
        folded.models.fold(delta)
        assert split.models.digest() == folded.models.digest()
        assert shown(split.model) == shown(folded.model)
    assert whole.models.digest() == split.models.digest()
    assert whole.memories == split.memories


def test_a_folded_vector_knows_what_was_taught_at_the_same_time() -> None:
    """Of two batches that overlap, the item of the last event is solved from the statistics of both."""
    shared = stream(40, seed=6)
    base, first, second = Shop(), Shop(), Shop()
    base.models.begin()
    for user, item in shared:
        base.learn(user, item)
    before = base.models.delta()
    deltas = []
    for shop, user in ((first, "left"), (second, "right")):
        shop.models.fold(before)
        shop.models.begin()
        for item in ("i1", "i2", "i3"):
            shop.learn(user, item)
        deltas.append(shop.models.delta())
    alone = second.q("i3").copy()
    first.models.rollback()
    for delta in deltas:
        first.models.fold(delta)

    row, k = first.model._table[first.vocabulary.row("i3")].astype(np.float64), first.model.n_factors
    a = np.zeros((k, k))
    a[np.tril_indices(k)] = row[: k * (k + 1) // 2]
    a += np.tril(a, -1).T + SETTINGS["w0"] * first.model._gram[1] + SETTINGS["lambda_"] * np.eye(k)
    b = row[k * (k + 1) // 2 : k * (k + 1) // 2 + k]
    np.testing.assert_allclose(np.linalg.solve(a, b), first.q("i3"), atol=1e-6)
    assert not np.allclose(alone, first.q("i3"), atol=1e-4)


def test_snapshot_gives_an_identical_future() -> None:
    """A restored model answers and learns on with the same bits."""
    events = stream(80, seed=7)
    first, second = Shop(), Shop()
    first.models.begin()
    for user, item in events[:50]:
        first.learn(user, item)
    first.models.keep()
    second.models.restore(first.models.snapshot())
    second.memories, second.items, second.at = (
        defaultdict(bytes, first.memories),
        defaultdict(list, {user: list(items) for user, items in first.items.items()}),
        first.at,
    )
    for shop in (first, second):
        shop.models.begin()
        for user, item in events[50:]:
            shop.learn(user, item)
    assert first.models.delta() == second.models.delta()
    for shop in (first, second):
        shop.models.keep()
    assert first.models.digest() == second.models.digest()


def test_an_evicted_item_leaves_the_gram_matrix() -> None:
    """When an item's row passes to another, its vector is taken out of G_Q and its row starts anew."""
    shop = Shop(max_rows=3)
    shop.models.begin()
    for item in ("a", "b", "c"):
        shop.learn("u", item)
    shop.models.keep()
    with_a = shop.model._gram[0].copy()
    q = shop.q("a").astype(np.float64)
    shop.models.begin()
    row = shop.vocabulary.touch("d", 9.0)
    assert np.array_equal(with_a - np.rint(np.outer(q, q) * 2.0**24) / 2.0**24, shop.model._gram[0])
    assert not shop.model._table[row].any()


def test_weights() -> None:
    """A purchase of weight 3 moves the item's statistics three times as far; weight 0 teaches nothing."""
    tables = []
    for weight in (1.0, 3.0, 0.0):
        shop = Shop()
        shop.models.begin()
        shop.learn("u", "a", weight)
        tables.append(shop.model._table[0, :14].copy())
    np.testing.assert_allclose(3.0 * tables[0], tables[1], rtol=1e-5)
    assert not tables[2].any()
    shop = Shop()
    shop.models.begin()
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weight"):
            shop.learn("u", "a", weight)


def test_protocol_and_refusals() -> None:
    """The model is the blend's factor source; batches and settings are guarded."""
    shop = Shop()
    assert isinstance(shop.model, FactorSource)
    with pytest.raises(RuntimeError, match="open batch"):
        shop.model.learn_one(0, np.zeros(0, np.int32), 0.0, 1.0, b"")
    shop.model.begin()
    with pytest.raises(RuntimeError, match="open already"):
        shop.model.begin()
    wrong: list[dict[str, Any]] = [
        {"n_factors": 0},
        {"lambda_": 0.0},
        {"gamma": 1.1},
        {"refresh": 0},
        {"resolve": 9},
    ]
    for settings in [*wrong, {"kappa": 0.0}, {"kappa": float("nan")}]:
        with pytest.raises(ValueError, match=next(iter(settings))):
            Shop(**settings)


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e6])
def test_refuses_deltas_that_no_model_wrote(number: float) -> None:
    """Numbers out of range and foreign shapes are refused and change nothing."""
    shop = Shop()
    shop.models.begin()
    shop.learn("u", "a")
    columns = {
        STEP: np.array([1], np.int32),
        "items": shop.model._op_items[:1].copy(),
        "numbers": shop.model._op_numbers[:1].copy(),
    }
    good = shop.models.delta()
    shop.models.rollback()
    before = shop.models.digest()
    shop.model._op_numbers[0, 2] = number
    for broken in ("numbers", "shape"):
        other = Shop()
        other.models.begin()
        other.vocabulary.touch("a", 1.0)
        if broken == "numbers":
            columns["numbers"][0, 2] = number
        else:
            columns["numbers"] = columns["numbers"][:, :-1]
        other.model.write_delta = lambda delta: delta.add("factors", columns)  # type: ignore[method-assign]
        with pytest.raises(DeltaError):
            shop.models.fold(other.models.delta())
        assert before == shop.models.digest()
    shop.models.fold(good)
    assert before != shop.models.digest()
    with pytest.raises(ValueError, match="shapes"):
        shop.model.restore({"table": np.zeros((1, 3)), "gram": np.zeros((2, 4, 4))})
    with pytest.raises(ValueError, match="not finite"):
        shop.model.restore({"table": np.full((1, 20), np.nan), "gram": np.zeros((2, 4, 4))})


INTERPRETED = """
import json, sys
sys.path.insert(0, "tests/online_models")
import factor_shop as t
shop = t.Shop(max_rows=9)
shop.models.begin()
for user, item in t.stream(40, seed=8):
    shop.learn(user, item)
p = shop.model.user_vector(shop.rows("u1"), b"")
rows = shop.model.retrieve(p, shop.rows("u1"), 5)
print(json.dumps([shop.model._table.tolist(), shop.model._gram.tolist(), rows.tolist(), p.tolist()]))
"""


def test_source_and_compiled_kernels_agree() -> None:
    """The same source run by Python gives the same ranking, and numbers to the rounding of float32."""
    found = []
    for disabled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", INTERPRETED],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            cwd=ROOT,
            env={**os.environ, "NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": "."},
        )
        found.append(json.loads(done.stdout))
    compiled, interpreted = found
    np.testing.assert_allclose(interpreted[0], compiled[0], atol=1e-5)
    np.testing.assert_allclose(interpreted[1], compiled[1], atol=1e-5)
    assert interpreted[2] == compiled[2]
    np.testing.assert_allclose(interpreted[3], compiled[3], atol=1e-5)


def test_recall_on_ml100k(data_dir: Path) -> None:
    """Alone, test-then-train over the full catalogue: R@10 at least .165 on all positive ratings."""
    if not (data_dir / "ml-100k").is_dir():
        pytest.skip(f"{data_dir / 'ml-100k'} is missing")
    spec = importlib.util.spec_from_file_location("factors", ROOT / "benchmarks" / "factors_prequential.py")
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    found = benchmark.run(benchmark.ml100k(), 16)
    assert 49_837 == found["n"]
    assert found["recall_at_10"] >= 0.165
    assert found["recall_at_20"] >= 0.265
