"""A cache holds what was committed or is not used; a bad disk never stops anybody."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from stream.core.rows import Header, ModelMemory, Profile
from stream.core.state import PartitionState
from stream.runtime.statecache import MAX_AGE_S, Mark, StateCache
from stream.runtime.statecodec import ROWS, encode_header

SINCE = 7
MARK = Mark(encode_header(Header(sequence=3), SINCE)[1], 100, 104)


def committed(n: int) -> PartitionState:
    """A state with n users, all committed."""
    state = PartitionState(codec=ROWS)
    touch(state, *(f"ü{k}" for k in range(n)))
    commit(state)
    return state


def touch(state: PartitionState, *users: str) -> None:
    """Let users be active."""
    for user in users:
        profile = state.profile(user)
        profile.n_events += 1
        state.touch(user, profile, ModelMemory(factors=b"xyz"))


def commit(state: PartitionState) -> None:
    """Encode what changed and count it as committed."""
    list(state.encode())
    state.committed()


def save(cache: StateCache, state: PartitionState, mark: Mark | None = MARK) -> bool:
    """Write the cache to its end."""
    return asyncio.run(cache.save(state, lambda: mark, asyncio.Lock()))


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    """All rows come back as the bytes that were committed, with the mark; no other file is left."""
    cache, state = StateCache(tmp_path / "new", "c/g/t/0", 0), committed(5000)
    assert save(cache, state)
    cached = cache.read()

    assert cached is not None
    assert replace(MARK, since=SINCE) == cached.mark
    assert {user: state.committed_row(user) for user in state} == cached.rows
    assert ["state-0.cache"] == [path.name for path in (tmp_path / "new").iterdir()]
    assert 0o600 == (tmp_path / "new" / "state-0.cache").stat().st_mode & 0o777


def test_rows_that_are_not_committed_are_not_saved(tmp_path: Path) -> None:
    """A row that changed in an open batch is saved as it was; when the batch ends well the cache is good."""
    cache, state = StateCache(tmp_path, "c/g/t/0", 0), committed(2)
    before = state.committed_row("ü1")
    later = Mark(MARK.header, 110, 113)

    async def during_a_batch() -> bool:
        gate, marks = asyncio.Lock(), [MARK]
        async with gate:
            touch(state, "ü1", "new")
            saving = asyncio.create_task(cache.save(state, lambda: marks[-1], gate))
            await asyncio.sleep(0.3)
            assert not saving.done()
            commit(state)
            marks.append(later)
        return await saving

    assert asyncio.run(during_a_batch())
    cached = cache.read()
    assert cached is not None
    assert before == cached.rows["ü1"]
    assert "new" not in cached.rows
    assert Mark(MARK.header, 100, 113, SINCE) == cached.mark


def test_nothing_is_saved_of_a_batch_that_failed(tmp_path: Path) -> None:
    """Users whom a failed batch forgot are in the changelog still: the copy without them is thrown away."""
    cache, state = StateCache(tmp_path, "c/g/t/0", 0), committed(3)
    assert save(cache, state)
    state.forget("ü0")
    assert not save(cache, state)
    cached = cache.read()

    assert cached is not None
    assert 3 == len(cached.rows)


def test_nothing_is_saved_before_the_first_commit(tmp_path: Path) -> None:
    """There is nothing that a cache could hold."""
    cache = StateCache(tmp_path, "c/g/t/0", 0)
    assert not save(cache, PartitionState(codec=ROWS), None)
    assert cache.read() is None


def test_a_thousand_damages_are_found(tmp_path: Path) -> None:
    """500 flipped bits and 500 cuts: each is refused, and the file deleted."""
    cache = StateCache(tmp_path, "c/g/t/0", 0)
    assert save(cache, committed(20))
    assert cache.read() is not None
    path = tmp_path / "state-0.cache"
    value = path.read_bytes()
    places = np.random.Generator(np.random.Philox(5))
    for _ in range(500):
        flipped = bytearray(value)
        flipped[places.integers(len(value))] ^= 1 << places.integers(8)
        for damaged in (bytes(flipped), value[: places.integers(len(value))]):
            path.write_bytes(damaged)
            assert cache.read() is None
            assert not path.exists()


@pytest.mark.parametrize("identity", ["other/g/t/0", "c/other/t/0", "c/g/other/0", "c/g/t/1", ""])
def test_a_cache_of_something_else_is_refused(tmp_path: Path, identity: str) -> None:
    """Cluster, group, topic and partition must be those that wrote it."""
    assert save(StateCache(tmp_path, "c/g/t/0", 0), committed(3))

    assert StateCache(tmp_path, "c/g/t/0", 0).read() is not None
    assert StateCache(tmp_path, identity, 0).read() is None


@pytest.mark.parametrize("shift", [MAX_AGE_S + 60, -60.0])
def test_an_old_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: float) -> None:
    """Older than tombstones are kept, or from the future: it could bring back who was forgotten."""
    cache, now = StateCache(tmp_path, "c/g/t/0", 0), time.time()
    assert save(cache, committed(3))
    monkeypatch.setattr("stream.runtime.statecache.time.time", lambda: now + shift)

    assert cache.read() is None


def test_a_full_disk_is_no_error(tmp_path: Path) -> None:
    """ENOSPC on the first write: not saved, nothing raised, the copy before stays."""
    cache, state = StateCache(tmp_path, "c/g/t/0", 0), committed(3)
    assert save(cache, state)
    (tmp_path / "state-0.tmp").symlink_to("/dev/full")
    assert not save(cache, state)

    assert cache.read() is not None
    assert save(cache, state)


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """A file stands where the directory should be: nothing saved, nothing read, nothing raised."""
    (tmp_path / "file").write_bytes(b"")
    cache = StateCache(tmp_path / "file", "c/g/t/0", 0)

    assert not save(cache, committed(3))
    assert cache.read() is None


def test_a_read_error_is_no_error(tmp_path: Path) -> None:
    """A directory stands where the file should be, so that reading fails: no cache."""
    (tmp_path / "state-0.cache").mkdir()

    assert StateCache(tmp_path, "c/g/t/0", 0).read() is None


def test_profiles_of_the_cache_can_be_loaded(tmp_path: Path) -> None:
    """What was read makes a state with the same users in the same order."""
    cache, state = StateCache(tmp_path, "c/g/t/0", 0), committed(50)
    touch(state, "ü3")
    commit(state)
    assert save(cache, state)
    cached, other = cache.read(), PartitionState(codec=ROWS)
    assert cached is not None
    other.load(Header(), cached.rows, 300.0)

    assert list(state) == list(other)
    assert Profile(n_events=2, touched=51) == other.profile("ü3")
