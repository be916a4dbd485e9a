"""Two processes compile; the second does not outlive the first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_the_second_process_ends_with_the_first(tmp_path: Path) -> None:
    """It compiles into an empty cache, which takes long; when whoever started it is gone it stops at once."""
    ended = subprocess.run(
        [sys.executable, "-m", "stream.runtime.compiling"],
        env={**os.environ, "NUMBA_DISABLE_JIT": "0", "NUMBA_CACHE_DIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )

    assert 1 == ended.returncode
