"""What a process uses, from Linux' own tables."""

from __future__ import annotations

import os
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def rss_mib(pid: int) -> float:
    """Resident memory, MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE / 2**20


def waited_s(pid: int) -> float:
    """How long the process has been ready to run and found no free processor, seconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9


def open_files(pid: int) -> int:
    """Open file descriptors, sockets included."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
