"""The simulation finds what it is there to find: each precaution, taken out, is missed within a few seeds."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.run import simulate

MAX_SEEDS = 200


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_missing_precaution_is_found(mutation: Mutation) -> None:
    """Some seed breaks a promise of the expected kind, and breaks none with the precaution in its place."""
    first = mutation.first_seed
    for seed in range(first, first + MAX_SEEDS):
        with mutation.applied():
            kinds = {finding.kind for finding in simulate(seed).findings}
        if kinds & mutation.kinds:
            assert [] == simulate(seed).findings
            return
    pytest.fail(f"{mutation.name}: not found within {MAX_SEEDS} seeds")
