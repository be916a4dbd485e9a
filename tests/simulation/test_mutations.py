"""The simulation finds what it is there to find: each precaution, taken out, is missed within a few seeds."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.run import simulate

MAX_SEEDS = 200


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_missing_precaution_is_found(mutation: Mutation) -> None:
    """Some seed breaks a promise of the expected kind."""
    for seed in range(1, MAX_SEEDS + 1):
        with mutation.applied():
            kinds = {finding.kind for finding in simulate(seed).findings}
        if kinds & mutation.kinds:
            return
    pytest.fail(f"{mutation.name}: not found within {MAX_SEEDS} seeds")
