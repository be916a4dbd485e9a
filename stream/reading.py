"""Read files that users hand us: events as lines, items and offers as lines.

Every error names the file, the line and what is wrong. Campaigns have ``stream.campaign_files``.
"""

from __future__ import annotations

import gzip
import zlib
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

import msgspec

from schemas.catalogue import Item, Offer
from schemas.codec import UNREADABLE, epoch_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["BadFileError", "ItemVersion", "open_lines", "read_item_versions", "read_items", "read_offers"]

_GZIP_MAGIC = b"\x1f\x8b"
T = TypeVar("T")
ItemVersion = tuple[float, Item]
"""An item with when it took effect, seconds since the epoch."""


class BadFileError(ValueError):
    """A file cannot be used; the message says where and why."""


def open_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a plain or gzipped file without their ends; empty lines are kept.

    Raises
    ------
    BadFileError
        The file cannot be read.
    """
    try:
        with path.open("rb") as raw:
            gzipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            with gzip.open(raw) if gzipped else raw as stream:
                for line in stream:
                    yield line.rstrip(b"\r\n")
    except (OSError, EOFError, zlib.error) as error:
        message = f"{path}: {error}"
        raise BadFileError(message) from error


def read_items(path: Path) -> dict[str, Item]:
    """Read catalogue records, one JSON object a line; the last of an id wins."""
    return {item.item_id: item for item in _records(path, Item)}


def read_item_versions(path: Path) -> tuple[dict[str, Item], list[ItemVersion]]:
    """Read a catalogue as it was over time: each item as it first was, and what changed when.

    The first line of an item counts from the beginning on, whenever it was written; a later one from its
    ``updated_at`` on, and where it has none in place of the one before.
    """
    first: dict[str, Item] = {}
    later: list[ItemVersion] = []
    for item in _records(path, Item):
        if item.item_id in first and item.updated_at is not None:
            later.append((epoch_seconds(item.updated_at), item))
        else:
            first[item.item_id] = item
    return first, sorted(later, key=itemgetter(0))


def read_offers(path: Path) -> dict[str, Offer]:
    """Read offers, one JSON object a line; the last of an id wins."""
    return {offer.offer_id: offer for offer in _records(path, Offer)}


def _records(path: Path, kind: type[T]) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    for number, line in enumerate(open_lines(path), 1):
        if not line.strip():
            continue
        try:
            yield decoder.decode(line)
        except UNREADABLE as error:
            message = f"{path}:{number}: not a {kind.__name__.lower()}: {error}"
            raise BadFileError(message) from error
