"""Prequential evaluation of the click model: every example is predicted before its label is learned.

A label is learned when it has arrived: at once, or before the first example whose time has reached its
``label_time``, from the features as they were when the prediction was made.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import Struct

from schemas.codec import UNREADABLE
from stream.assembly import build_models
from stream.evaluate.baselines.predictors import BaseRate, FollowTheLeader
from stream.evaluate.baselines.river_logistic import RiverLogistic
from stream.evaluate.baselines.vowpal_wabbit import VowpalWabbit, is_installed
from stream.evaluate.lines import Rejects, numbered_lines
from stream.evaluate.predictions import report_predictions
from stream.evaluate.times import Time, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from online_models.hashed import HashedLogistic
    from online_models.hashing import SparseFeatures
    from stream.evaluate.baselines.predictors import Predictor
    from stream.settings import Settings

__all__ = ["Example", "evaluate_click"]

OURS = "nudge"
BATCH = 1000


class Example(Struct, frozen=True, gc=False):
    """One line: what was known when the item was shown, and whether it was clicked.

    Times are seconds since the epoch or RFC 3339. A feature that is null is missing.
    """

    features: dict[str, str | float | bool | None]
    label: float | bool
    time: Time = None
    label_time: Time = None


class Read(Struct, frozen=True):
    """An example that can be used, with its features hashed."""

    x: SparseFeatures
    y: int
    time: float | None
    known_at: float | None  # None: with the example itself


def read_examples(path: Path, model: HashedLogistic, rejects: Rejects) -> Iterator[Read]:
    """Yield the examples in the file's order; lines that cannot be used are noted in ``rejects``."""
    decoder = msgspec.json.Decoder(Example)
    for number, line in numbered_lines(path):
        try:
            yield _usable(decoder.decode(line), model)
        except msgspec.ValidationError as error:
            rejects.add(number, "bad_shape", str(error))
        except UNREADABLE as error:
            rejects.add(number, "not_json", str(error))
        except _UnusableError as error:
            rejects.add(number, error.code, str(error))


class _UnusableError(ValueError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _usable(example: Example, model: HashedLogistic) -> Read:
    if example.label not in {0, 1}:
        raise _UnusableError("bad_label", f"label {example.label}; it must be 0 or 1")
    try:
        x = model.encode({name: value for name, value in example.features.items() if value is not None})
    except ValueError as error:
        raise _UnusableError("too_many_features", str(error)) from error
    try:
        time, known_at = seconds_of(example.time, "time"), seconds_of(example.label_time, "label_time")
    except ValueError as error:
        raise _UnusableError("bad_time", str(error)) from error
    if known_at is not None and time is None:
        raise _UnusableError("bad_time", "label_time without time: when was the prediction made?")
    if known_at is not None and time is not None and known_at < time:
        raise _UnusableError("bad_time", f"label_time {known_at} is before time {time}")
    return Read(x, int(example.label), time, known_at)


class _Ours:
    """The production model as a predictor; ``now`` is the event time, which it forgets by."""

    name = OURS

    def __init__(self, model: HashedLogistic) -> None:
        self.now = 0.0
        self._model = model

    def predict(self, x: SparseFeatures) -> float:
        return self._model.predict_proba_one(x, self.now)

    def learn(self, x: SparseFeatures, y: int) -> None:
        self._model.learn_one(x, y, at=self.now)


def evaluate_click(
    settings: Settings,
    path: Path,
    *,
    baselines: Collection[str],
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Stream a file of examples through the click model and the baselines; return the report.

    Raises
    ------
    BadFileError
        The file cannot be read, or no example in it can be used.
    """
    model = build_models(settings).clicks
    rejects = Rejects(path)
    ours = _Ours(model)
    baselines_found, skipped = _baselines(baselines, model.n_slots)
    predictors: list[Predictor] = [ours, *baselines_found]
    labels: list[int] = []
    predicted: dict[str, list[float]] = {predictor.name: [] for predictor in predictors}
    unseen: list[bool] = []
    seen: set[int] = set()
    waiting: list[tuple[float, int, Read]] = []
    n_late = 0
    model.begin()
    for n, example in enumerate(read_examples(path, model, rejects)):
        if n % BATCH == 0:
            model.keep()
            model.begin()
            if progress is not None:
                progress(n)
        while waiting and example.time is not None and waiting[0][0] <= example.time:
            ours.now, _, known = heappop(waiting)
            _learn(predictors, known, seen)
        ours.now = ours.now if example.time is None else example.time
        labels.append(example.y)
        unseen.append(not seen.issuperset(example.x.slots.tolist()))
        for predictor in predictors:
            predicted[predictor.name].append(predictor.predict(example.x))
        if example.known_at is None or example.time is None or example.known_at <= example.time:
            _learn(predictors, example, seen)
        else:
            heappush(waiting, (example.known_at, n, example))
            n_late += 1
    model.keep()
    rejects.require(len(labels), "example")
    late = np.arange(len(labels)) * 2 >= len(labels)
    new = np.array(unseen)
    slices = {"first_half": ~late, "second_half": late, "unseen_feature": new, "seen_features": ~new}
    report = report_predictions(
        np.array(labels, dtype=np.float64), {name: np.array(p) for name, p in predicted.items()}, slices
    )
    return report | {
        "examples": {
            "read": len(labels) + rejects.counts.total(),
            "accepted": len(labels),
            "rejected": dict(sorted(rejects.counts.items())),
            "rejected_examples": rejects.examples,
            "delayed_labels": n_late,
            "labels_never_learned": len(waiting),
        },
        "baselines_skipped": skipped,
    }


def _learn(predictors: list[Predictor], example: Read, seen: set[int]) -> None:
    for predictor in predictors:
        predictor.learn(example.x, example.y)
    seen.update(example.x.slots.tolist())


def _baselines(names: Collection[str], n_slots: int) -> tuple[list[Predictor], dict[str, str]]:
    """The baselines asked for, and why others of them are not there."""
    found: list[Predictor] = []
    skipped: dict[str, str] = {}
    if BaseRate.name in names:
        found.append(BaseRate())
    if FollowTheLeader.name in names:
        found.append(FollowTheLeader(n_slots))
    if RiverLogistic.name in names:
        found.append(RiverLogistic())
    if VowpalWabbit.name in names:
        if is_installed():
            found.append(VowpalWabbit())
        else:
            skipped[VowpalWabbit.name] = "the package vowpalwabbit is not installed"
    return found, skipped
