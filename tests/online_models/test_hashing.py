"""Feature hashing: what a mapping becomes."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.hashing import (
    BIAS,
    MAX_FEATURES,
    MAX_SLOTS,
    FeatureHasher,
    FeatureValue,
    SparseFeatures,
    slot_of,
    slots,
)

N = 2**18
VALUES = st.one_of(st.text(max_size=8), st.booleans(), st.floats(), st.integers())


def named(hasher: FeatureHasher, features: dict[str, FeatureValue]) -> dict[str, float]:
    """Values by readable name."""
    encoded = hasher.encode(features)
    return dict(zip(encoded.names, encoded.values.tolist(), strict=True))


def test_kinds_of_values() -> None:
    """A string is one slot of value 1, True one of the bare name, False none; the bias is always there."""
    assert {BIAS: 1.0, "device=mobile": 1.0, "returning": 1.0} == named(
        FeatureHasher(N), {"device": "mobile", "returning": True, "test": False}
    )


def test_number_between_two_knots() -> None:
    """Three is knot 2·log2(4) = 4 exactly; 4.5 lies between 4 and 5 and divides 1 by nearness."""
    hasher = FeatureHasher(N)
    position = 2.0 * math.log2(5.5)
    assert {BIAS: 1.0, "price~4": 1.0} == named(hasher, {"price": 3.0})
    assert {BIAS: 1.0, "price~-4": 1.0} == named(hasher, {"price": -3})
    between = named(hasher, {"price": 4.5})
    assert between["price~4"] == pytest.approx(5.0 - position)
    assert between["price~5"] == pytest.approx(position - 4.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_missing(value: float) -> None:
    """NaN and infinities leave no slot."""
    assert {BIAS: 1.0} == named(FeatureHasher(N), {"price": value})


@pytest.mark.parametrize(("value", "limit"), [(1e308, 1e12), (10**400, 1e12), (-1e300, -1e12)])
def test_a_huge_number_counts_as_the_limit(value: float, limit: float) -> None:
    """Beyond ±1e12, even beyond float64, a number is the limit."""
    hasher = FeatureHasher(N)
    assert named(hasher, {"price": limit}) == named(hasher, {"price": value})


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=12), st.randoms(use_true_random=False))
def test_slots_are_distinct_ascending_and_free_of_order(
    features: dict[str, FeatureValue], random: object
) -> None:
    """Whatever is in a mapping and in which order: the same distinct ascending slots with finite values."""
    encoded = FeatureHasher(97).encode(features)
    shuffled = list(features.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = FeatureHasher(97).encode(dict(shuffled))
    assert encoded.slots.tolist() == sorted(set(encoded.slots.tolist()))
    assert 0 == encoded.slots[0] <= encoded.slots[-1] < 97
    assert np.isfinite(encoded.values).all()
    assert encoded.slots.tolist() == again.slots.tolist()
    assert encoded.values.tobytes() == again.values.tobytes()
    assert encoded.names == again.names


def test_features_that_share_a_slot_are_summed_and_named_together() -> None:
    """With one slot beside the bias, two features have value 2 there and both names."""
    encoded = FeatureHasher(2).encode({"a": "x", "b": "y"})
    assert [0, 1] == encoded.slots.tolist()
    assert [1.0, 2.0] == encoded.values.tolist()
    assert (BIAS, "a=x|b=y") == encoded.names


def test_slots_do_not_depend_on_the_process() -> None:
    """Another process, with another salt of hash(), finds the same slots."""
    code = (
        "from online_models.hashing import slots; print(slots({'device': 'mobile', 'n': 7}, 2**18).tolist())"
    )
    for salt in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={"PYTHONHASHSEED": salt, "PYTHONPATH": "."},
        )
        assert str(slots({"device": "mobile", "n": 7}, N).tolist()) == found.stdout.strip()


def test_memory_of_names_is_bounded_and_changes_no_slot() -> None:
    """Ten thousand names leave at most twice the bound remembered; an old name still has its slot."""
    hasher = FeatureHasher(N, remembered=50)
    first = hasher.encode({"item": "0"}).slots.tolist()
    for n in range(10_000):
        hasher.encode({"item": str(n), "hot": True})
    assert len(hasher._young) + len(hasher._old) <= 100
    assert len(hasher._names) <= 100
    assert "hot" == hasher.name_of(slot_of("hot", N))
    assert hasher.name_of(slot_of("item=0", N)) is None
    assert first == hasher.encode({"item": "0"}).slots.tolist()


def test_limits() -> None:
    """Too many features, other types and silly sizes are refused."""
    hasher = FeatureHasher(N)
    with pytest.raises(ValueError, match="257 features"):
        hasher.encode({str(n): True for n in range(257)})
    with pytest.raises(ValueError, match="258 features"):
        hasher.encode_texts(str(n) for n in range(257))
    with pytest.raises(TypeError, match="'when' is a list"):
        hasher.encode({"when": [1]})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="n_slots is 1"):
        FeatureHasher(1)
    with pytest.raises(ValueError, match="remembered is 0"):
        FeatureHasher(N, remembered=0)


def test_more_slots_than_a_model_has_room_for_are_refused() -> None:
    """What the hasher makes always fits; slots that were logged elsewhere may not."""
    features = {f"n{k}": 1.5 for k in range(MAX_FEATURES)}
    assert len(FeatureHasher(N).encode(features).slots) <= MAX_SLOTS
    with pytest.raises(ValueError, match=r"1025 slots in one event; the limit is 1024"):
        SparseFeatures(np.arange(MAX_SLOTS + 1, dtype=np.int32), np.ones(MAX_SLOTS + 1), ())
