"""Compile the kernels in two processes: ``python -m stream.runtime.compiling`` is the second."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from online_models.warming import is_cold, warm_up

__all__ = ["compile_kernels"]


def compile_kernels() -> None:
    """Compile what is not in numba's cache, with another process that begins at the other end."""
    if not is_cold():
        warm_up()
        return
    command = [sys.executable, "-m", "stream.runtime.compiling"]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(  # noqa: S603  our own module
        command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere
    ) as second:
        try:
            warm_up()
        finally:
            second.kill()


def _end_with_input() -> None:
    """End when standard input does: whoever started this process is gone."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    warm_up(backwards=True)
