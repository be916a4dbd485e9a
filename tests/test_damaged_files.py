"""A file that is damaged is refused by name, wherever the damage is."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream.evaluate.lines import STDIN, numbered_lines
from stream.reading import BadFileError, open_lines

CONTENT = b"".join(b"line %d of many\n" % n for n in range(200))


def damaged() -> list[bytes]:
    """A gzipped file with one bit turned, at each place in turn, and cut short at some."""
    whole = bytearray(gzip.compress(CONTENT, mtime=0))
    found = [bytes(whole[:at]) for at in range(3, len(whole), 7)]
    for at in range(3, len(whole)):  # without its first two bytes it is no gzipped file
        whole[at] ^= 16
        found.append(bytes(whole))
        whole[at] ^= 16
    return found


def refusal(read: Callable[[], list[Any]]) -> str:
    """What is said of a file; nothing, where all 200 lines are read."""
    try:
        assert 200 == len(read())
    except BadFileError as error:
        return str(error)
    return ""


def test_every_damage_is_a_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file by its path, and of standard input; where only a date is damaged all is read."""
    path = tmp_path / "e.jsonl.gz"
    said = []
    for content in damaged():
        path.write_bytes(content)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        said += [refusal(lambda: [*open_lines(path)]), refusal(lambda: [*numbered_lines(STDIN)])]

    assert {"", str(path), "standard input"} == {one.partition(": ")[0] for one in said}
    assert sum(map(bool, said)) > 500
