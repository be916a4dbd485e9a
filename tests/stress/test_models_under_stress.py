"""Models on shops where everything goes wrong at once: promises hold, and no kernel strays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stress.odd_shop import shop_day

N_EVENTS = 500

# Compiled with checks of every index, into a cache of its own; numba reads and writes anywhere without.
CHECKED = """
import numba
import numpy as np
from tests.stress.odd_shop import shop_day

@numba.njit
def stray(rows, row):
    return rows[row]

try:
    stray(np.zeros(3), 3)
except IndexError:
    print("checked")
for seed in range({first}, {last}):
    print(seed, sum(shop_day(seed, {n}).values()))
"""


@pytest.mark.parametrize("seed", range(12))
def test_undone_restored_and_folded_models_are_the_same(seed: int) -> None:
    """An undone batch leaves nothing, and a worker that begins anew has the same bits."""
    counts = shop_day(seed, N_EVENTS)

    assert counts["accepted",] > 0.8 * N_EVENTS
    assert counts["recommendation", "emitted"] > 0.2 * N_EVENTS


def test_no_kernel_reads_or_writes_outside_its_arrays(tmp_path: Path) -> None:
    """The same shops, with every index checked."""
    done = subprocess.run(
        [sys.executable, "-c", CHECKED.format(first=12, last=36, n=N_EVENTS)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert 0 == done.returncode, done.stderr[-4000:]
    lines = done.stdout.splitlines()
    assert ["checked", *(str(seed) for seed in range(12, 36))] == [line.split()[0] for line in lines]
