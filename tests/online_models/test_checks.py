"""The conformance suite finds what it promises to find: each check goes red on a broken model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from online_models import checks
from online_models.base import Snapshot
from online_models.checks import CHECKS, ConformanceError, Scenario, check_model
from online_models.delta import DeltaReader, DeltaWriter
from online_models.fold import ModelSet
from online_models.vocabulary import Vocabulary

Example = tuple[str, float]
MAX_IDS = 8


class Counter:
    """A right and simple learner: weighted counts of at most eight ids, later ids are not admitted."""

    name = "counter"
    spec = "counter(format=1)"

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}
        self._old: dict[str, float] = {}
        self._log: list[Example] = []
        self._open = False

    def predict_one(self, key: str) -> float:
        """Count of an id."""
        return self.counts.get(key, 0.0)

    def learn_one(self, key: str, weight: float) -> None:
        """Count one."""
        if not self._open:
            raise RuntimeError("no batch")
        if not 0.0 <= weight <= 1e6:
            raise ValueError(weight)
        self.add(key, weight)
        self._log.append((key, weight))

    def add(self, key: str, weight: float) -> None:
        """Apply one operation."""
        if key in self.counts or len(self.counts) < MAX_IDS:
            self.counts[key] = self.counts.get(key, 0.0) + weight

    def begin(self) -> None:
        """Open."""
        if self._open:
            raise RuntimeError("open already")
        self._open = True
        self._old = dict(self.counts)

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write."""
        ids = np.array([delta.intern(key) for key, _ in self._log], np.int32)
        delta.add(self.name, {"id": ids, "weight": np.array([weight for _, weight in self._log], np.float64)})

    def keep(self) -> None:
        """Keep."""
        self._open = False
        self._log.clear()

    def rollback(self) -> None:
        """Undo."""
        self.counts = self._old
        self.keep()

    def fold(self, delta: DeltaReader) -> None:
        """Fold."""
        columns = delta.columns(self.name)
        if columns:
            for at, weight in zip(columns["id"].tolist(), columns["weight"].tolist(), strict=True):
                self.add(delta.text_of(at), weight)

    def snapshot(self) -> Snapshot:
        """Ids, 16 bytes each, and counts."""
        keys = sorted(self.counts)
        return {
            "ids": np.frombuffer(b"".join(key.encode().ljust(16) for key in keys), np.uint8),
            "counts": np.array([self.counts[key] for key in keys], np.float64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore."""
        raw, counts = arrays["ids"].tobytes(), arrays["counts"].tolist()
        self.counts = {
            raw[16 * at : 16 * at + 16].decode().rstrip(): count for at, count in enumerate(counts)
        }


class Impure(Counter):
    """Predicting admits."""

    def predict_one(self, key: str) -> float:
        """Predict, wrongly."""
        return self.counts.setdefault(key, 0.0)


class Undecided(Counter):
    """Predicting twice gives two answers, with no change of the state."""

    asked = 0

    def predict_one(self, key: str) -> float:
        """Predict, wrongly."""
        self.asked += 1
        return super().predict_one(key) + self.asked


class Idle(Counter):
    """Learns nothing."""

    def learn_one(self, key: str, weight: float) -> None:
        """Learn, wrongly."""
        if not self._open:
            raise RuntimeError


class Unbounded(Counter):
    """Admits everything."""

    def add(self, key: str, weight: float) -> None:
        """Apply, wrongly."""
        self.counts[key] = self.counts.get(key, 0.0) + weight


class Credulous(Counter):
    """Takes NaN."""

    def learn_one(self, key: str, weight: float) -> None:
        """Learn, wrongly."""
        if not self._open:
            raise RuntimeError
        self.add(key, weight)
        self._log.append((key, weight))


class NanWhenCold(Counter):
    """Divides by nothing."""

    def predict_one(self, key: str) -> float:
        """Predict, wrongly."""
        return super().predict_one(key) if self.counts else math.nan


class NanWhenUnknown(Counter):
    """Knows only what it saw."""

    def predict_one(self, key: str) -> float:
        """Predict, wrongly."""
        return self.counts.get(key, math.nan) if self.counts else 0.0


class ForgetfulSnapshot(Counter):
    """Rounds on the way."""

    def snapshot(self) -> Snapshot:
        """Snapshot, wrongly."""
        arrays = super().snapshot()
        return arrays | {"counts": np.floor(arrays["counts"].astype(np.float64))}


class AddingRestore(Counter):
    """Restores on top of what is there."""

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore, wrongly."""
        before = self.counts
        super().restore(arrays)
        self.counts = before | self.counts


class OtherFold(Counter):
    """Folds the last operation twice."""

    def fold(self, delta: DeltaReader) -> None:
        """Fold, wrongly."""
        super().fold(delta)
        columns = delta.columns(self.name)
        self.add(delta.text_of(int(columns["id"][-1])), float(columns["weight"][-1]))


class CountsBatches(Counter):
    """Every batch leaves a trace."""

    def keep(self) -> None:
        """Keep, wrongly."""
        if self._log:
            self.counts["i1"] = self.counts.get("i1", 0.0) + 1.0
        super().keep()


class HalfUndone(Counter):
    """Rollback forgets to clear the log."""

    def rollback(self) -> None:
        """Undo, wrongly."""
        self.counts = self._old
        self._open = False


class AlwaysOpen(Counter):
    """Learns outside of batches."""

    def learn_one(self, key: str, weight: float) -> None:
        """Learn, wrongly."""
        if not 0.0 <= weight <= 1e6:
            raise ValueError(weight)
        self.add(key, weight)
        if self._open:
            self._log.append((key, weight))


def scenario(model_type: type[Counter]) -> Scenario[Any, Example]:
    """Return a scenario of ids and fractional weights."""

    def make() -> tuple[ModelSet, Counter]:
        model = model_type()
        return ModelSet([model], Vocabulary(2)), model

    return Scenario(
        make=make,
        learn=lambda model, example: model.learn_one(*example),
        answer=lambda model, example: {"count": model.predict_one(example[0])},
        examples=[(f"i{n % 5}", 0.3 + n) for n in range(40)],
        unknown=[("unknown", 1.0)],
        hostile=[("i1", math.nan), ("i1", math.inf), ("hostile", 1e308)],
        fresh=lambda n: (f"fresh{n}", 1.0),
        distribution=lambda _model, _example: [0.25, 0.75],
    )


def test_a_right_model_passes() -> None:
    """The counter keeps every promise."""
    check_model(scenario(Counter))


BROKEN: list[tuple[type[Counter], Callable[[Scenario[Any, Any]], None]]] = [
    (Impure, checks.check_answering_changes_nothing),
    (Undecided, checks.check_same_answer_twice),
    (Idle, checks.check_learning_changes_something),
    (Unbounded, checks.check_memory_is_bounded),
    (Credulous, checks.check_hostile_input),
    (NanWhenCold, checks.check_starts_cold),
    (NanWhenUnknown, checks.check_unknown_ids),
    (ForgetfulSnapshot, checks.check_snapshot_keeps_the_future),
    (AddingRestore, checks.check_restore_replaces_everything),
    (OtherFold, checks.check_folding_equals_learning),
    (CountsBatches, checks.check_batches_do_not_matter),
    (HalfUndone, checks.check_rollback_restores_the_bits),
    (AlwaysOpen, checks.check_learning_needs_a_batch),
]


@pytest.mark.parametrize(("model_type", "check"), BROKEN, ids=lambda value: value.__name__)
def test_a_broken_promise_is_found(
    model_type: type[Counter], check: Callable[[Scenario[Any, Any]], None]
) -> None:
    """The check of the promise that this model breaks fails on it."""
    with pytest.raises(ConformanceError):
        check(scenario(model_type))
    with pytest.raises(ConformanceError):
        check_model(scenario(model_type))


@pytest.mark.parametrize("propensities", [[0.5, 0.4], [1.5, -0.5]])
def test_propensities_that_are_no_distribution_are_found(propensities: Sequence[float]) -> None:
    """They must sum to 1, and none may be negative."""
    broken = replace(scenario(Counter), distribution=lambda _model, _example: propensities)
    with pytest.raises(ConformanceError):
        checks.check_propensities(broken)


def test_an_answer_that_depends_on_the_order_of_features_is_found() -> None:
    """A reordered example must teach and be answered like the example."""
    broken = replace(scenario(Counter), reorder=lambda example: (example[0], example[1] + 1.0))
    with pytest.raises(ConformanceError):
        checks.check_order_of_features(broken)


def test_a_delta_without_protection_is_found() -> None:
    """A model set that folds damaged bytes fails the check."""

    class Trusting(ModelSet):
        def fold(self, delta: bytes, reader: DeltaReader | None = None) -> None:
            """Accept anything."""

    def make() -> tuple[ModelSet, Counter]:
        model = Counter()
        return Trusting([model], Vocabulary(2)), model

    with pytest.raises(ConformanceError, match="did not raise DeltaError"):
        checks.check_damaged_deltas(replace(scenario(Counter), make=make))


def test_every_check_is_shown_to_fail() -> None:
    """No check is in the suite without a model here that breaks it."""
    shown = {check for _, check in BROKEN}
    shown |= {checks.check_propensities, checks.check_order_of_features, checks.check_damaged_deltas}
    assert set(CHECKS) == shown
