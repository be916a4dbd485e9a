"""User state survives its encoding exactly, and damage is never taken for state."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.rows import (
    Header,
    Impression,
    Match,
    ModelMemory,
    OpenDecision,
    Profile,
    Send,
    Timer,
    glance_at,
)
from stream.runtime.statecodec import (
    HEADER_KEY,
    StateCodecError,
    check_row,
    decode_header,
    decode_row,
    encode_header,
    encode_row,
    glance_row,
    key_of,
    model_free,
    user_of,
)
from tests.runtime.golden_rows import (
    GOLDEN,
    HEADER,
    HEADER_3,
    MEMORY,
    MEMORY_3,
    NEXT_OFFSET,
    PROFILE,
    PROFILE_3,
    REFUSAL,
)

times = st.floats(allow_nan=False, width=64)
ids = st.text(min_size=1, max_size=20)
profiles = st.builds(
    Profile,
    known=st.booleans(),
    touched=st.integers(0, 2**53),
    n_events=st.integers(0, 3),
    matched=st.dictionaries(ids, st.lists(st.builds(Match, times, ids, ids), max_size=2), max_size=2),
    sends=st.lists(st.builds(Send, times, ids, ids, st.integers(0, 10**6)), max_size=2),
    unsubscribed=st.lists(ids, max_size=2),
    impressions_due_at=times,
    first_seen=times,
    last_seen=times,
    revenue=st.dictionaries(st.sampled_from(["EUR", "USD"]), times),
    consent=st.dictionaries(ids, st.booleans(), max_size=4),
    ring=st.lists(ids, max_size=8),
    seen_ids=st.lists(st.integers(0, 2**64 - 1), max_size=8),
    timers=st.dictionaries(
        ids,
        st.builds(
            Timer,
            times,
            ids,
            ids,
            times,
            st.dictionaries(ids, st.one_of(ids, times, st.lists(ids, max_size=2)), max_size=3),
            watch=st.booleans(),
            products=st.dictionaries(ids, times, max_size=2),
        ),
        max_size=3,
    ),
    impressions=st.lists(
        st.builds(Impression, ids, st.lists(st.integers(0, 2**24), max_size=4), times), max_size=3
    ),
)
memories = st.builds(
    ModelMemory,
    factors=st.binary(max_size=64),
    due_at=times,
    open=st.dictionaries(
        ids, st.builds(OpenDecision, ids, ids, times, st.lists(ids), st.lists(times)), max_size=3
    ),
)


@given(ids, profiles, memories)
def test_a_row_comes_back_as_it_was(user: str, profile: Profile, memory: ModelMemory) -> None:
    """decode(encode(row)) is the row, bit for bit, and its key names the user."""
    value = encode_row(profile, memory)
    check_row(value)
    assert (profile, memory) == decode_row(value)
    assert user == user_of(key_of(user))
    assert value == encode_row(*decode_row(value))


@given(profiles, memories)
def test_a_glance_at_the_bytes_sees_what_a_look_at_the_row_sees(
    profile: Profile, memory: ModelMemory
) -> None:
    """The glance in the prefix is that of the decoded row."""
    assert glance_at(profile, memory) == glance_row(encode_row(profile, memory))


def test_a_header_comes_back_as_it_was() -> None:
    """The header keeps the next offset beside what the partition remembers, under a key no user can have."""
    header = Header(watermark=1.5, jump_user="u", sequence=7, spend={"o": 2.5})
    key, value = encode_header(header, 42)
    assert (header, 42) == decode_header(value)
    assert key == HEADER_KEY
    assert not HEADER_KEY.decode().isprintable()


def test_the_model_free_block_does_not_depend_on_models() -> None:
    """Rows that differ in model memory only have equal model-free blocks; other profiles do not."""
    profile = Profile(n_events=3, ring=["a"])
    plain = encode_row(profile, ModelMemory())
    learned = encode_row(profile, ModelMemory(factors=b"xyz"))
    other = encode_row(Profile(n_events=4, ring=["a"]), ModelMemory())
    assert plain != learned
    assert model_free(plain) == model_free(learned)
    assert model_free(plain) != model_free(other)


@given(profiles, memories, st.data())
def test_any_damaged_byte_is_found(profile: Profile, memory: ModelMemory, data: st.DataObject) -> None:
    """One changed bit anywhere, or a cut at any place, is an error and never another state."""
    value = encode_row(profile, memory)
    place = data.draw(st.integers(0, len(value) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = bytearray(value)
    damaged[place] ^= 1 << bit
    with pytest.raises(StateCodecError):
        decode_row(bytes(damaged))
    with pytest.raises(StateCodecError):
        decode_row(value[:place])


def test_another_version_is_refused_by_name() -> None:
    """A row of a newer codec stops the reader with the remedy; it is not read as something else."""
    value = bytearray(encode_row(Profile(), ModelMemory()))
    struct.pack_into("B", value, 2, 4)
    with pytest.raises(StateCodecError, match=r"version 4.*upgrade") as refusal:
        decode_row(bytes(value))
    with pytest.raises(StateCodecError, match=r"version 4.*upgrade"):
        check_row(bytes(value))
    assert refusal.value.exit_code == 65


@pytest.mark.parametrize("version", [1, 2, 3])
def test_golden_files_are_read(version: int) -> None:
    """What an older codec wrote is read to the last bit, and a glance at it is right."""
    row, refusal, header = (
        (GOLDEN / f"{name}.v{version}.bin").read_bytes() for name in ("row", "refusal", "header")
    )

    old = version < 3
    profile, memory, expected_header = (PROFILE, MEMORY, HEADER) if old else (PROFILE_3, MEMORY_3, HEADER_3)

    assert (profile, memory) == decode_row(row)
    assert glance_at(profile, memory) == glance_row(row)
    assert (REFUSAL, ModelMemory()) == decode_row(refusal)
    assert glance_row(refusal).refuses
    assert glance_row(refusal).shrunk
    assert (expected_header, NEXT_OFFSET) == decode_header(header)


def test_golden_files_of_the_current_version_are_written() -> None:
    """The current codec still writes what it wrote; else it needs a version of its own."""
    assert (GOLDEN / "row.v3.bin").read_bytes() == encode_row(PROFILE_3, MEMORY_3)
    assert (GOLDEN / "refusal.v3.bin").read_bytes() == encode_row(REFUSAL, ModelMemory())
    assert (GOLDEN / "header.v3.bin").read_bytes() == encode_header(HEADER_3, NEXT_OFFSET)[1]


@pytest.mark.parametrize("version", [1, 2])
def test_a_row_of_a_version_before_becomes_one_of_the_current(version: int) -> None:
    """Read and written again, an old row is one of version 3."""
    old = (GOLDEN / f"row.v{version}.bin").read_bytes()
    new = encode_row(*decode_row(old))

    assert encode_row(PROFILE, MEMORY) == new
    assert 3 == new[2]


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("kind", ["row", "refusal", "header"])
def test_a_thousand_damages_are_found(kind: str, version: int) -> None:
    """500 flipped bits and 500 cuts at random places: each is an error."""
    value = (GOLDEN / f"{kind}.v{version}.bin").read_bytes()
    read = decode_header if kind == "header" else check_row
    places = np.random.Generator(np.random.Philox(11))
    for _ in range(500):
        damaged = bytearray(value)
        damaged[places.integers(len(value))] ^= 1 << places.integers(8)
        with pytest.raises(StateCodecError):
            read(bytes(damaged))
        with pytest.raises(StateCodecError):
            read(value[: places.integers(len(value))])


def test_header_and_row_are_not_mixed_up() -> None:
    """A header is no row and a row is no header."""
    row, header = encode_row(Profile(), ModelMemory()), encode_header(Header(), 0)[1]
    with pytest.raises(StateCodecError, match="kind"):
        decode_row(header)
    with pytest.raises(StateCodecError, match="kind"):
        decode_header(row)
