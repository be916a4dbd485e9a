"""Seeds: workers, faults, and what must hold of the logs whatever happened.

``NUDGE_SIM_SEEDS`` says how many seeds (150), ``NUDGE_SIM_FIRST`` which is the first (1).
``python -m tests.simulation.run SEED`` replays one and prints what happened.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.faults import MIN_FAULTS
from tests.simulation.run import simulate

FIRST = int(os.environ.get("NUDGE_SIM_FIRST", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("NUDGE_SIM_SEEDS", "150")))
FOUND = (319,)  # seeds that once found something, where they are not among the others
MIN_VIRTUAL_S = 60.0

seen: Counter[str] = Counter()


@pytest.mark.parametrize("seed", sorted({*SEEDS, *FOUND}))
def test_promises_hold(seed: int) -> None:
    """Nothing lost, doubled, torn or out of order; state and models are what the input makes them."""
    history = simulate(seed)

    assert not history.findings, f"{history}\nreplay: python -m tests.simulation.run {seed}"
    assert history.faults >= MIN_FAULTS
    assert history.virtual_s >= MIN_VIRTUAL_S
    seen.update(history.transactions)
    seen["seeds"] += 1


def test_faults_hit_work_in_flight() -> None:
    """Void unless transactions were fenced and timed out in the middle: one in three seeds at least."""
    if not seen["seeds"]:
        pytest.skip("no seed ran in this process")
    assert seen["fenced"] + seen["timed out"] >= seen["seeds"] / 3


@pytest.mark.parametrize("seed", [FIRST, FIRST + 5])
def test_a_seed_is_one_history(seed: int) -> None:
    """The same seed gives the same logs and events, also in a process that hashes strings differently."""
    root = Path(__file__).resolve().parents[2]
    again = subprocess.run(
        [sys.executable, "-m", "tests.simulation.run", str(seed)],
        check=True,
        capture_output=True,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(root)},
    )
    digest = simulate(seed).digest

    assert digest == simulate(seed).digest
    assert digest == again.stdout.splitlines()[-1]
