"""The delta container: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

import struct
import zlib

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.delta import STEP, DeltaError, DeltaWriter, read_delta

SPEC = "counts(half_life_s=60)"
HEADER_SIZE = 28


def written() -> bytes:
    """A delta with two sections."""
    return writer_of_two().to_bytes()


def writer_of_two() -> DeltaWriter:
    """The same, not yet as bytes."""
    writer = DeltaWriter(SPEC)
    writer.begin_strings(["a", "b", "a"])
    writer.add(
        "counts",
        {
            STEP: np.array([1, 2, 2, 5], np.int32),
            "item": np.array([0, 1, 1, 2], np.int32),
            "weight": np.array([0.5, 1.0, -0.0, np.pi]),
        },
    )
    writer.add("ranker", {"weights": np.arange(6, dtype=np.float32).reshape(2, 3)})
    return writer


def resealed(data: bytes) -> bytes:
    """The same body with a checksum that fits."""
    return data[: HEADER_SIZE - 4] + struct.pack("<I", zlib.crc32(data[HEADER_SIZE:])) + data[HEADER_SIZE:]


def test_round_trip() -> None:
    """Strings, names, dtypes, shapes and bits survive."""
    reader = read_delta(written(), SPEC)

    assert ["a", "b", "a"] == reader.strings
    assert ("counts", "ranker") == reader.names
    assert np.array([0.5, 1.0, -0.0, np.pi]).tobytes() == reader.columns("counts")["weight"].tobytes()
    assert [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] == reader.columns("ranker")["weights"].tolist()
    assert {} == reader.columns("absent")


@given(
    st.lists(st.text(max_size=20), max_size=8),
    st.lists(st.floats(width=32), max_size=20),
    st.sampled_from(["<f8", "<f4", "<i8", "<i4", "<i2", "|u1"]),
)
def test_any_columns_round_trip(strings: list[str], values: list[float], dtype: str) -> None:
    """Whatever bits a model writes are the bits it reads."""
    with np.errstate(invalid="ignore", over="ignore"):
        column = np.array(values).astype(dtype)
    writer = DeltaWriter(SPEC)
    indices = [writer.intern(text) for text in strings]
    writer.add("m", {"column": column})
    reader = read_delta(writer.to_bytes(), SPEC)

    assert strings == [reader.text_of(index) for index in indices]
    assert column.tobytes() == reader.columns("m").get("column", np.zeros(0)).tobytes()


def test_a_writer_is_read_as_its_bytes_are() -> None:
    """The same columns of the same types: kernels compile anew for arrays that may be written."""
    writer = writer_of_two()
    own, read = writer.reader(), read_delta(writer.to_bytes(), SPEC)

    assert read.strings == own.strings
    assert read.names == own.names
    for name in read.names:
        for key, column in read.columns(name).items():
            mine = own.columns(name)[key]
            assert (column.dtype, column.shape, column.tobytes()) == (mine.dtype, mine.shape, mine.tobytes())
            assert numba.typeof(column) == numba.typeof(mine)


def test_window_shows_operations_of_its_steps() -> None:
    """Each operation is in exactly one of adjoining windows; sections without steps stay whole."""
    reader = read_delta(written(), SPEC)
    shown = []
    for first, last in [(-1, 1), (1, 4), (4, 5)]:
        reader.window(first, last)
        shown.append(reader.columns("counts")["item"].tolist())

    assert [[0], [1, 1], [2]] == shown
    assert (2, 3) == reader.columns("ranker")["weights"].shape


def test_item_rows() -> None:
    """Indices become rows of the folding worker; −1 stays −1 and unknown items are −1."""
    reader = read_delta(written(), SPEC)
    reader.rows[:3] = [7, -1, 3]

    assert [[7, -1], [-1, 3]] == reader.item_rows(np.array([[0, 1], [-1, 2]], np.int32)).tolist()
    for index in (3, -2):
        with pytest.raises(DeltaError, match="table of 3"):
            reader.item_rows(np.array([index], np.int32))
        with pytest.raises(DeltaError, match="table of 3"):
            reader.text_of(index)


def test_other_spec_is_refused() -> None:
    """A delta learned under other hyper-parameters cannot be folded."""
    with pytest.raises(DeltaError, match="hyper-parameters"):
        read_delta(written(), SPEC + "!")


def test_every_damaged_byte_is_noticed() -> None:
    """One flipped bit anywhere is refused."""
    data = written()
    for at in range(len(data)):
        if 5 <= at < 8:  # padding of the header
            continue
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(DeltaError):
            read_delta(bytes(damaged), SPEC)


def test_every_truncation_is_noticed() -> None:
    """A delta cut anywhere is refused, even when its checksum was made to fit."""
    data = written()
    for size in range(len(data)):
        with pytest.raises(DeltaError):
            read_delta(data[:size], SPEC)
        if size >= HEADER_SIZE:
            with pytest.raises(DeltaError):
                read_delta(resealed(data[:size]), SPEC)


def test_trailing_bytes_are_refused() -> None:
    """Nothing may follow the last section."""
    with pytest.raises(DeltaError, match="after the last section"):
        read_delta(resealed(written() + b"x"), SPEC)


@given(st.binary(max_size=200))
def test_hostile_bodies_are_refused_or_read(body: bytes) -> None:
    """Random bytes behind a valid header never do anything but raise DeltaError or parse."""
    data = resealed(written()[:HEADER_SIZE] + body)
    try:
        reader = read_delta(data, SPEC)
    except DeltaError:
        return
    assert len(body) >= 6
    assert isinstance(reader.names, tuple)


def test_writer_refuses_misuse() -> None:
    """Unequal columns, a section twice, and a late vocabulary are errors of the caller."""
    writer = DeltaWriter(SPEC)
    writer.add("m", {"a": np.zeros(2)})

    with pytest.raises(ValueError, match="twice"):
        writer.add("m", {"a": np.zeros(2)})
    with pytest.raises(ValueError, match="equal"):
        writer.add("n", {"a": np.zeros(2), "b": np.zeros(3)})
    writer.intern("x")
    with pytest.raises(ValueError, match="first"):
        writer.begin_strings(["y"])


def test_nothing_learned_is_empty() -> None:
    """Sections without rows are not written."""
    writer = DeltaWriter(SPEC)
    writer.add("m", {"a": np.zeros(0)})

    assert writer.empty
    assert () == read_delta(writer.to_bytes(), SPEC).names
