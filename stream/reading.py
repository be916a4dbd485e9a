"""Read files that users hand us: events as lines, reference records as lines, campaigns as YAML or JSON.

Every error names the file, the line, what is wrong and what would be right.
"""

from __future__ import annotations

import difflib
import gzip
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import yaml

from schemas.catalogue import Campaign, Item, Offer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["BadFileError", "open_lines", "read_campaigns", "read_items", "read_offers"]

_GZIP_MAGIC = b"\x1f\x8b"
_CAMPAIGN_FILES = {".yaml", ".yml", ".json"}
T = TypeVar("T")


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
    except (OSError, EOFError) as error:
        message = f"{path}: {error}"
        raise BadFileError(message) from error


def read_items(path: Path) -> dict[str, Item]:
    """Read catalogue records, one JSON object a line; the last of an id wins."""
    return {item.item_id: item for item in _records(path, Item)}


def read_offers(path: Path) -> dict[str, Offer]:
    """Read offers, one JSON object a line; the last of an id wins."""
    return {offer.offer_id: offer for offer in _records(path, Offer)}


def read_campaigns(path: Path) -> dict[str, Campaign]:
    """Read campaigns from a YAML or JSON file (one, or a list of them), or from all such files of a folder.

    JSON with one campaign a line is read too.
    """
    files = sorted(p for p in path.iterdir() if p.suffix in _CAMPAIGN_FILES) if path.is_dir() else [path]
    campaigns: dict[str, Campaign] = {}
    for file in files:
        for line, data in _documents(file):
            campaign = _campaign(file, line, data)
            if campaign.campaign_id in campaigns:
                message = f"{file}:{line}: campaign_id {campaign.campaign_id!r} is defined twice"
                raise BadFileError(message)
            campaigns[campaign.campaign_id] = campaign
    return campaigns


def _records(path: Path, kind: type[T]) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    for number, line in enumerate(open_lines(path), 1):
        if not line.strip():
            continue
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"{path}:{number}: not a {kind.__name__.lower()}: {error}"
            raise BadFileError(message) from error


def _documents(path: Path) -> list[tuple[int, Any]]:
    """Read (line, mapping) of each campaign in a file; YAML is a superset of JSON."""
    text = b"\n".join(open_lines(path)).decode(errors="replace")
    try:
        return list(_yaml_documents(text))
    except yaml.YAMLError as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        try:
            return [(number, msgspec.json.decode(line)) for number, line in lines]
        except msgspec.DecodeError:
            message = f"{path}: neither YAML nor JSON: {str(error).splitlines()[0]}"
            raise BadFileError(message) from error


def _yaml_documents(text: str) -> Iterator[tuple[int, Any]]:
    for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
        data = yaml.SafeLoader("").construct_document(node)
        nodes = node.value if isinstance(data, list) else [node]
        for inner, value in zip(nodes, data if isinstance(data, list) else [data], strict=True):
            yield inner.start_mark.line + 1, value


def _campaign(path: Path, line: int, data: Any) -> Campaign:
    if isinstance(data, dict):
        known = Campaign.__struct_fields__
        for name in data:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else f"; known: {', '.join(known)}"
                message = f"{path}:{line}: {name!r} is not a field of a campaign{hint}"
                raise BadFileError(message)
    try:
        return msgspec.convert(data, Campaign, strict=False)
    except msgspec.ValidationError as error:
        message = f"{path}:{line}: {error}"
        raise BadFileError(message) from error
