"""The conformance suite that every learner passes, ours and yours.

A :class:`Scenario` says how to make a model, how to teach it and how to ask it; :func:`check_model` then
checks the promises of :mod:`online_models.base` on it. One check is a function of a scenario, so a test suite
can run them one by one::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_model(check):
        check(MY_SCENARIO)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from online_models.base import Snapshot
from online_models.delta import DeltaError
from online_models.fold import ModelSet

__all__ = ["CHECKS", "ConformanceError", "Scenario", "check_model"]

M = TypeVar("M")
E = TypeVar("E")


class ConformanceError(AssertionError):
    """A model broke a promise; the text says which."""


@dataclass(frozen=True, slots=True)
class Scenario(Generic[M, E]):
    """A model under check, and a stream for it.

    Attributes
    ----------
    make : callable
        A fresh model and the model set it belongs to; each call the same. Give it small ceilings, so that
        they are reached: at most ``fresh_until_full`` new ids fill it.
    learn : callable
        Teach the model one example; a batch is open. It may raise ``ValueError`` for a hostile example only.
    answer : callable
        What the model says to an example, as numbers in a mapping. It must not teach.
    examples : sequence
        A stream of at least 40 examples of plain types (``repr`` shows all of them).
    unknown : sequence
        Examples whose ids or features do not occur in ``examples``.
    hostile : sequence
        Examples with NaN, infinities and huge numbers, wherever a caller could put one.
    fresh : callable
        The n-th of endlessly many examples with new ids.
    reorder : callable, optional
        The same example with its mapping in another order.
    distribution : callable, optional
        Propensities of a choice on an example.
    fresh_until_full : int
        How many fresh examples reach every ceiling.
    """

    make: Callable[[], tuple[ModelSet, M]]
    learn: Callable[[M, E], object]
    answer: Callable[[M, E], Mapping[str, float]]
    examples: Sequence[E]
    unknown: Sequence[E]
    hostile: Sequence[E]
    fresh: Callable[[int], E]
    reorder: Callable[[E], E] | None = None
    distribution: Callable[[M, E], Sequence[float]] | None = None
    fresh_until_full: int = 200


def check_model(scenario: Scenario[M, E]) -> None:
    """Run all checks.

    Raises
    ------
    ConformanceError
        At the first promise that is broken.
    """
    for check in CHECKS:
        check(scenario)


def check_starts_cold(scenario: Scenario[M, E]) -> None:
    """A fresh model answers every example with finite numbers."""
    _, model = scenario.make()
    for example in [*scenario.examples[:5], *scenario.unknown]:
        _require_finite(scenario.answer(model, example), "a fresh model's answer")


def check_answering_changes_nothing(scenario: Scenario[M, E]) -> None:
    """Asking, also for unknown ids, leaves the state's bits, the delta and the example as they were."""
    models, model = _taught(scenario)
    before, digest = _bits(models.snapshot()), models.digest()
    asked = [*scenario.examples, *scenario.unknown, *scenario.hostile]
    texts = [repr(example) for example in asked]
    models.begin()
    for example in asked:
        _attempt(lambda example=example: scenario.answer(model, example))  # type: ignore[misc]
    _require(models.delta() == b"", "asking recorded operations")
    models.keep()
    _require(_bits(models.snapshot()) == before, "asking changed the snapshot")
    _require(models.digest() == digest, "asking changed the digest")
    _require([repr(example) for example in asked] == texts, "asking changed an example")


def check_same_answer_twice(scenario: Scenario[M, E]) -> None:
    """Two models taught the same, and one model asked twice, answer alike to the last bit."""
    models, model = _taught(scenario)
    others, other = _taught(scenario)
    _require(models.digest() == others.digest(), "the same stream gave two states")
    first = _answers(scenario, model)
    _require(_answers(scenario, model) == first, "asking twice gave two answers")
    _require(_answers(scenario, other) == first, "the same stream gave two answers")


def check_learning_changes_something(scenario: Scenario[M, E]) -> None:
    """The stream teaches: state and answers differ from a fresh model's, or other checks would pass idly."""
    models, model = _taught(scenario)
    fresh, blank = scenario.make()
    _require(models.digest() != fresh.digest(), "the stream taught nothing")
    _require(_answers(scenario, model) != _answers(scenario, blank), "the stream changed no answer")


def check_unknown_ids(scenario: Scenario[M, E]) -> None:
    """Ids and features never seen are answered finitely; emerging and vanishing ones can be learned."""
    models, model = _taught(scenario)
    for example in scenario.unknown:
        _require_finite(scenario.answer(model, example), "the answer to unknown ids")
    models.begin()
    for example in [*scenario.unknown, *scenario.examples[:5]]:
        scenario.learn(model, example)
    models.keep()
    for example in [*scenario.unknown, *scenario.examples]:
        _require_finite(scenario.answer(model, example), "the answer after new ids emerged")


def check_hostile_input(scenario: Scenario[M, E]) -> None:
    """NaN, infinities and huge numbers are refused with ValueError or made harmless, and taint no state."""
    models, model = _taught(scenario)
    models.begin()
    for example in scenario.hostile:
        _attempt(lambda example=example: scenario.learn(model, example))  # type: ignore[misc]
    delta = models.delta()
    models.keep()
    for key, array in models.snapshot().items():
        _require(_untainted(array), f"hostile input left NaN or infinity in {key}")
    for example in scenario.examples:
        _require_finite(scenario.answer(model, example), "the answer after hostile input")
    follower, _ = _taught(scenario)
    follower.fold(delta)
    _require(follower.digest() == models.digest(), "hostile input was published other than it was learned")


def check_memory_is_bounded(scenario: Scenario[M, E]) -> None:
    """Once its ceilings are reached, new ids do not make the snapshot grow."""
    models, model = scenario.make()
    sizes = []
    for start in range(0, 3 * scenario.fresh_until_full, scenario.fresh_until_full):
        models.begin()
        for n in range(start, start + scenario.fresh_until_full):
            scenario.learn(model, scenario.fresh(n))
        models.keep()
        sizes.append(sum(array.nbytes for array in models.snapshot().values()))
    # Ids have lengths: a few bytes more for "item-1000" than for "item-999" are no growth.
    _require(sizes[2] <= 1.02 * sizes[0] + 64, f"the snapshot grew with new ids: {sizes} bytes")


def check_snapshot_keeps_the_future(scenario: Scenario[M, E]) -> None:
    """A model restored from a snapshot answers and goes on like the original, to the last bit."""
    half = len(scenario.examples) // 2
    models, model = _taught(scenario, scenario.examples[:half])
    others, other = scenario.make()
    others.restore(models.snapshot())
    _require(others.digest() == models.digest(), "the restored state differs")
    _require(_answers(scenario, other) == _answers(scenario, model), "the restored model answers otherwise")
    deltas = []
    for one, learner in ((models, model), (others, other)):
        one.begin()
        for example in scenario.examples[half:]:
            scenario.learn(learner, example)
        deltas.append(one.delta())
        one.keep()
    _require(deltas[0] == deltas[1], "the restored model publishes otherwise")
    _require(others.digest() == models.digest(), "the restored model has another future")


def check_restore_replaces_everything(scenario: Scenario[M, E]) -> None:
    """Restoring an empty snapshot makes a taught model a fresh one."""
    blank, fresh = scenario.make()
    models, model = _taught(scenario)
    models.restore(blank.snapshot())
    _require(models.digest() == blank.digest(), "something survived a restore")
    _require(_answers(scenario, model) == _answers(scenario, fresh), "something answered that was replaced")


def check_folding_equals_learning(scenario: Scenario[M, E]) -> None:
    """One fold of the delta of n learning calls leaves the bits of the n calls."""
    models, model = scenario.make()
    models.begin()
    for example in scenario.examples:
        scenario.learn(model, example)
    delta = models.delta()
    models.keep()
    others, other = scenario.make()
    others.fold(delta)
    _require(others.digest() == models.digest(), "folding left another state than learning")
    _require(
        _answers(scenario, other) == _answers(scenario, model), "folding answers otherwise than learning"
    )


def check_batches_do_not_matter(scenario: Scenario[M, E]) -> None:
    """Any split into batches, undone and learned again, leaves the same bits."""
    models, _ = _taught(scenario)
    for size in (1, 3, 16):
        others, other = scenario.make()
        for start in range(0, len(scenario.examples), size):
            for undo in (True, False):
                others.begin()
                for example in scenario.examples[start : start + size]:
                    scenario.learn(other, example)
                if undo:
                    others.rollback()
                else:
                    others.keep()
        _require(others.digest() == models.digest(), f"batches of {size} left another state")


def check_rollback_restores_the_bits(scenario: Scenario[M, E]) -> None:
    """An abandoned batch leaves no trace: not in the snapshot, not in answers, not in the next delta."""
    half = len(scenario.examples) // 2
    models, model = _taught(scenario, scenario.examples[:half])
    before, answers = _bits(models.snapshot()), _answers(scenario, model)
    models.begin()
    for example in [*scenario.examples[half:], *scenario.unknown, *map(scenario.fresh, range(50))]:
        scenario.learn(model, example)
    models.rollback()
    _require(_bits(models.snapshot()) == before, "an abandoned batch changed the snapshot")
    _require(_answers(scenario, model) == answers, "an abandoned batch changed an answer")
    models.begin()
    _require(models.delta() == b"", "an abandoned batch is still in the delta")
    models.keep()


def check_learning_needs_a_batch(scenario: Scenario[M, E]) -> None:
    """Learning outside of a batch, and a batch inside a batch, raise RuntimeError."""
    models, model = scenario.make()
    _require_raises(
        RuntimeError, lambda: scenario.learn(model, scenario.examples[0]), "learning without a batch"
    )
    models.begin()
    _require_raises(RuntimeError, models.begin, "a batch within a batch")


def check_damaged_deltas(scenario: Scenario[M, E]) -> None:
    """A delta with a flipped byte or cut short is refused with DeltaError and changes nothing."""
    models, model = scenario.make()
    models.begin()
    for example in scenario.examples:
        scenario.learn(model, example)
    delta = models.delta()
    models.rollback()
    before = models.digest()
    for at in range(0, len(delta), max(1, len(delta) // 40)):
        damaged = delta[:at] + bytes([delta[at] ^ 0x55]) + delta[at + 1 :]
        _require_raises(DeltaError, lambda damaged=damaged: models.fold(damaged), f"byte {at} flipped")  # type: ignore[misc]
        if at:
            cut = delta[:at]
            _require_raises(DeltaError, lambda cut=cut: models.fold(cut), f"cut after {at} bytes")  # type: ignore[misc]
    _require(models.digest() == before, "a damaged delta changed the state")


def check_order_of_features(scenario: Scenario[M, E]) -> None:
    """The order of a mapping's keys changes neither learning nor answers."""
    if scenario.reorder is None:
        return
    models, model = _taught(scenario)
    others, other = _taught(scenario, [scenario.reorder(example) for example in scenario.examples])
    _require(others.digest() == models.digest(), "the order of features changed the state")
    for example in scenario.examples:
        same = scenario.answer(other, scenario.reorder(example)) == scenario.answer(model, example)
        _require(same, "the order of features changed an answer")


def check_propensities(scenario: Scenario[M, E]) -> None:
    """Propensities are a distribution: none negative, and they sum to 1."""
    if scenario.distribution is None:
        return
    _, model = _taught(scenario)
    for example in [*scenario.examples, *scenario.unknown]:
        propensities = scenario.distribution(model, example)
        _require(min(propensities) >= 0.0, f"a negative propensity: {propensities}")
        _require(
            math.isclose(math.fsum(propensities), 1.0, abs_tol=1e-9), f"they sum to {math.fsum(propensities)}"
        )


CHECKS: tuple[Callable[[Scenario[M, E]], None], ...] = (
    check_starts_cold,
    check_answering_changes_nothing,
    check_same_answer_twice,
    check_learning_changes_something,
    check_unknown_ids,
    check_hostile_input,
    check_memory_is_bounded,
    check_snapshot_keeps_the_future,
    check_restore_replaces_everything,
    check_folding_equals_learning,
    check_batches_do_not_matter,
    check_rollback_restores_the_bits,
    check_learning_needs_a_batch,
    check_damaged_deltas,
    check_order_of_features,
    check_propensities,
)


def _taught(scenario: Scenario[M, E], examples: Sequence[E] | None = None) -> tuple[ModelSet, M]:
    models, model = scenario.make()
    models.begin()
    for example in scenario.examples if examples is None else examples:
        scenario.learn(model, example)
    models.keep()
    return models, model


def _answers(scenario: Scenario[M, E], model: M) -> list[dict[str, float]]:
    return [dict(scenario.answer(model, example)) for example in scenario.examples]


def _bits(arrays: Snapshot) -> dict[str, bytes]:
    return {key: array.tobytes() for key, array in arrays.items()}


def _untainted(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _attempt(call: Callable[[], object]) -> None:
    """Allow a refusal, and nothing else."""
    try:
        call()
    except ValueError:
        return


def _require(kept: bool, broken: str) -> None:  # noqa: FBT001  (reads as an assertion)
    if not kept:
        raise ConformanceError(broken)


def _require_finite(answer: Mapping[str, float], what: str) -> None:
    for key, number in answer.items():
        _require(math.isfinite(number), f"{what} is {number} for {key}")


def _require_raises(error: type[Exception], call: Callable[[], object], what: str) -> None:
    try:
        call()
    except error:
        return
    raise ConformanceError(f"{what} did not raise {error.__name__}")
