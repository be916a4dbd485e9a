"""User state survives its encoding exactly, and damage is never taken for state."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.state import Header, Impression, ModelMemory, OpenDecision, Profile, Timer
from stream.runtime.statecodec import (
    HEADER_KEY,
    StateCodecError,
    decode_header,
    decode_row,
    encode_header,
    encode_row,
    model_free,
    user_of,
)

times = st.floats(allow_nan=False, width=64)
ids = st.text(min_size=1, max_size=20)
profiles = st.builds(
    Profile,
    known=st.booleans(),
    touched=st.integers(0, 2**53),
    first_seen=times,
    last_seen=times,
    revenue=st.dictionaries(st.sampled_from(["EUR", "USD"]), times),
    consent=st.dictionaries(ids, st.booleans(), max_size=4),
    ring=st.lists(ids, max_size=8),
    seen_ids=st.lists(st.integers(0, 2**64 - 1), max_size=8),
    timers=st.dictionaries(
        ids,
        st.builds(Timer, times, ids, ids, times, st.dictionaries(ids, st.one_of(ids, times), max_size=3)),
        max_size=3,
    ),
    impressions=st.lists(
        st.builds(Impression, ids, st.lists(st.integers(0, 2**24), max_size=4), times), max_size=3
    ),
)
memories = st.builds(
    ModelMemory,
    factors=st.binary(max_size=64),
    open=st.dictionaries(
        ids, st.builds(OpenDecision, ids, ids, times, st.lists(ids), st.lists(times)), max_size=3
    ),
)


@given(ids, profiles, memories)
def test_a_row_comes_back_as_it_was(user: str, profile: Profile, memory: ModelMemory) -> None:
    """decode(encode(row)) is the row, bit for bit, and its key names the user."""
    key, value = encode_row(user, profile, memory)
    assert (profile, memory) == decode_row(value)
    assert user == user_of(key)
    assert value == encode_row(user, *decode_row(value))[1]


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
    plain = encode_row("u", profile, ModelMemory())[1]
    learned = encode_row("u", profile, ModelMemory(factors=b"xyz"))[1]
    other = encode_row("u", Profile(n_events=4, ring=["a"]), ModelMemory())[1]
    assert plain != learned
    assert model_free(plain) == model_free(learned)
    assert model_free(plain) != model_free(other)


@given(profiles, memories, st.data())
def test_any_damaged_byte_is_found(profile: Profile, memory: ModelMemory, data: st.DataObject) -> None:
    """One changed bit anywhere, or a cut at any place, is an error and never another state."""
    value = encode_row("u", profile, memory)[1]
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
    value = bytearray(encode_row("u", Profile(), ModelMemory())[1])
    struct.pack_into("B", value, 2, 9)
    with pytest.raises(StateCodecError, match=r"version 9.*upgrade"):
        decode_row(bytes(value))


def test_header_and_row_are_not_mixed_up() -> None:
    """A header is no row and a row is no header."""
    row, header = encode_row("u", Profile(), ModelMemory())[1], encode_header(Header(), 0)[1]
    with pytest.raises(StateCodecError, match="kind"):
        decode_row(header)
    with pytest.raises(StateCodecError, match="kind"):
        decode_header(row)
