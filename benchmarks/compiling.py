"""Seconds until all kernels are compiled, and until they are loaded from the cache; JSON on standard output.

    python benchmarks/compiling.py [--rounds 3] [--quick]

Each round begins with an empty cache of numba's and starts Python twice: ``cold_s`` is what a worker spends
on its kernels when it starts for the first time on a machine, in two processes, ``cached_s`` the next time.
Seconds of the wall, without imports; each is the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

from benchmarks.jobs.machine import commit, machine

START = """
import time
from stream.runtime.compiling import compile_kernels
began = time.perf_counter()
compile_kernels()
print(time.perf_counter() - began)
"""


def start(cache: str) -> float:
    """Seconds that a new process takes for its kernels."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-c", START], env=environment, capture_output=True, check=True, text=True
    )
    return float(done.stdout)


def measure(rounds: int) -> dict[str, float | list[float]]:
    """Start twice a round, on an empty cache and on a full one."""
    cold, cached = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(start(cache))
            cached.append(start(cache))
    return {
        "cold_s": round(statistics.median(cold), 1),
        "cold_s_of_rounds": [round(seconds, 1) for seconds in cold],
        "cached_s": round(statistics.median(cached), 2),
    }


def main() -> None:
    """Measure what the command line asks for and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round")
    asked = parser.parse_args()
    figures = measure(1 if asked.quick else asked.rounds)
    print(
        json.dumps({"benchmark": "compiling", "machine": machine(), "commit": commit(), **figures}, indent=2)
    )


if __name__ == "__main__":
    main()
