"""After the warm-up no event waits for a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import importlib, math, pkgutil, sys
import numpy as np
sys.path[:0] = [{root!r}, {tests!r}]
import online_models.kernels
from online_models.warming import warm_up

def compiled():
    found = {{}}
    for module in pkgutil.iter_modules(online_models.kernels.__path__, "online_models.kernels."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if hasattr(value, "signatures"):
                found[value.__module__ + "." + name] = len(value.signatures)
    return found

warm_up()
before = compiled()
from test_fold import Shop, stream_of
for factors in (False, True):
    shop = Shop(8, 1000.0, factors=factors)
    shop.models.begin()
    shop.learn(stream_of(1))
    delta = shop.models.delta()
    shop.models.rollback()
    shop.models.fold(delta)
    shop.answers()
    arrays = shop.models.snapshot()
    read = {{k: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for k, a in arrays.items()}}
    shop.models.restore(read)
print(sorted(name for name, n in compiled().items() if n != before[name]))
"""


def test_nothing_is_compiled_after_the_warm_up() -> None:
    """A stream with evictions, a rollback, a fold and a restart meets compiled kernels only."""
    root = Path(__file__).parents[2]
    script = SCRIPT.format(root=str(root), tests=str(Path(__file__).parent))
    printed = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "NUMBA_DISABLE_JIT": "0"},
        capture_output=True,
        check=True,
        text=True,
        timeout=300,
    ).stdout

    assert "[]\n" == printed
