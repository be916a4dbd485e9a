"""Read campaigns from YAML or JSON. An error says ``file:line:column``, what is wrong, and what was meant."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import yaml
from msgspec import inspect

from schemas.campaigns import Campaign
from schemas.codec import UNREADABLE
from schemas.segments import Segment
from stream.reading import BadFileError, open_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from msgspec import Struct

__all__ = ["CAMPAIGN_FILES", "campaign_records", "read_campaigns", "read_segments"]

CAMPAIGN_FILES = frozenset({".yaml", ".yml", ".json"})
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_INVALID = re.compile(r"Invalid enum value (.*)$")
_FIELD = re.compile(r"(\w+): ")
_Read = TypeVar("_Read", Campaign, Segment)


@dataclass(frozen=True, slots=True)
class _Place:
    """A campaign as written: what it says, and where; ``node`` is absent in JSON lines."""

    file: Path
    line: int
    data: Any
    node: yaml.Node | None = None


def read_campaigns(path: Path) -> dict[str, Campaign]:
    """Read campaigns from a YAML or JSON file (one, or a list of them), or from all such files of a folder.

    JSON with one campaign a line is read too.

    Raises
    ------
    BadFileError
        Something is wrong; the message has a line for each campaign that is.
    """
    return _read(path, Campaign, lambda place: not _is_segment(place))


def read_segments(path: Path) -> dict[str, Segment]:
    """Read the segments that stand beside campaigns: what has a ``segment_id``, in the same files.

    Raises
    ------
    BadFileError
        Something is wrong; the message has a line for each segment that is.
    """
    return _read(path, Segment, _is_segment)


def campaign_records(path: Path) -> list[bytes]:
    """Return the campaigns and segments of a file or a folder as records of their topic, one JSON each.

    Raises
    ------
    BadFileError
        Something is wrong, or there is nothing.
    """
    found = [*read_campaigns(path).values(), *read_segments(path).values()]
    if not found:
        raise BadFileError(f"{path}: no campaign and no segment in it")
    return [msgspec.json.encode(one) for one in found]


def _read(path: Path, kind: type[_Read], wanted: Callable[[_Place], bool]) -> dict[str, _Read]:
    """Read what is wanted from a file or a folder, by its id."""
    files = sorted(p for p in path.iterdir() if p.suffix in CAMPAIGN_FILES) if path.is_dir() else [path]
    id_field = f"{kind.__name__.lower()}_id"
    found: dict[str, _Read] = {}
    faults: list[str] = []
    for place in (place for file in files for place in _places(file) if wanted(place)):
        try:
            one = msgspec.convert(place.data, kind, strict=False)
        except msgspec.ValidationError as error:
            faults.append(_explained(place, str(error), kind))
            continue
        except RecursionError:
            faults.append(_at(place, "$", "it holds itself, or is nested too deep"))
            continue
        name: str = getattr(one, id_field)
        if name in found:
            faults.append(_at(place, f"$.{id_field}", f"{id_field} {name!r} is defined twice"))
        found[name] = one
    if faults:
        raise BadFileError("\n".join(faults))
    return found


def _is_segment(place: _Place) -> bool:
    return isinstance(place.data, dict) and "segment_id" in place.data


def _places(path: Path) -> list[_Place]:
    """Campaigns of a file; YAML is a superset of JSON."""
    text = b"\n".join(open_lines(path)).decode(errors="replace")
    try:
        return list(_yaml_places(path, text))
    except yaml.YAMLError as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        try:
            return [_Place(path, number, msgspec.json.decode(line)) for number, line in lines]
        except UNREADABLE:
            mark = getattr(error, "problem_mark", None)
            where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            message = f"{path}{where}: neither YAML nor JSON: {problem}"
            raise BadFileError(message) from error
    except BadFileError:
        raise
    except (ValueError, RecursionError) as error:  # a date that does not exist, nesting without end
        message = f"{path}: a value that YAML cannot read: {error}"
        raise BadFileError(message) from error


def _yaml_places(path: Path, text: str) -> Iterator[_Place]:
    for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
        _require_once(path, node)
        data = yaml.SafeLoader("").construct_document(node)
        nodes = node.value if isinstance(data, list) else [node]
        for inner, value in zip(nodes, data if isinstance(data, list) else [data], strict=True):
            yield _Place(path, inner.start_mark.line + 1, value, inner)


def _require_once(path: Path, root: yaml.Node) -> None:
    """Refuse a key that stands twice in a mapping: of two caps the last would count, without a word."""
    for mapping in _mappings(root):
        names: set[str] = set()
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in names:
                line, column = key.start_mark.line + 1, key.start_mark.column + 1
                raise BadFileError(f"{path}:{line}:{column}: {key.value!r} is written twice")
            names.add(key.value)


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    """Every mapping below a node, once: an alias stands for what it names, also for what holds it."""
    waiting, met = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in met:
            continue
        met.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _explained(place: _Place, error: str, kind: type[Struct]) -> str:
    """Say where in the file msgspec's error lies, and what was probably meant."""
    message, _, path = error.partition(" - at `")
    path = path.rstrip("`") or "$"
    if unknown := _UNKNOWN.search(message):
        name = unknown[1]
        known = [named.encode_name for named in _struct_at(path, kind)]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        what = f"a {kind.__name__.lower()}" if path == "$" else path
        return _at(place, f"{path}.{name}", f"{name!r} is not a field of {what} ({hint})")
    if invalid := _INVALID.search(message):
        name = invalid[1].strip("'\"")
        values = [str(value) for value in _literals_at(path, kind)]
        near = difflib.get_close_matches(name, values, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(values)}"
        return _at(place, path, f"{path} is {name!r} ({hint})")
    if named := _FIELD.match(message):
        return _at(place, f"{path}.{named[1]}", message)
    return _at(place, path, message if path == "$" else f"{path}: {message}")


def _at(place: _Place, path: str, message: str) -> str:
    line, column = place.line, 1
    if place.node is not None:
        mark = _node_at(place.node, path)
        line, column = mark.line + 1, mark.column + 1
    return f"{place.file}:{line}:{column}: {message}"


def _node_at(node: yaml.Node, path: str) -> Any:
    """Mark of the key or element that a path like ``$.caps[0].window`` names, as far as it is there."""
    mark = node.start_mark
    for name, number in _STEP.findall(path):
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == name), None)
            if found is None:
                return mark
            mark, node = found[0].start_mark, found[1]
        elif isinstance(node, yaml.SequenceNode) and number and int(number) < len(node.value):
            node = node.value[int(number)]
            mark = node.start_mark
    return mark


def _struct_at(path: str, kind: type[Struct]) -> tuple[inspect.Field, ...]:
    found = _type_at(path, kind)
    return found.fields if isinstance(found, inspect.StructType) else ()


def _literals_at(path: str, kind: type[Struct]) -> tuple[Any, ...]:
    found = _type_at(path, kind)
    return found.values if isinstance(found, inspect.LiteralType) else ()


def _type_at(path: str, kind: type[Struct]) -> inspect.Type:
    """Type of what a path names."""
    here: inspect.Type = inspect.type_info(kind)
    for name, number in _STEP.findall(path):
        if number or name == "...":
            here = _chosen(here.item_type) if isinstance(here, inspect.ListType) else here
            continue
        if isinstance(here, inspect.StructType):
            named = next((f for f in here.fields if f.encode_name == name), None)
            here = here if named is None else _chosen(named.type)
    return here


def _chosen(kind: inspect.Type) -> inspect.Type:
    """Of an optional, the type that is not none."""
    if isinstance(kind, inspect.UnionType):
        wanted = (inspect.StructType, inspect.ListType, inspect.LiteralType)
        return next((one for one in kind.types if isinstance(one, wanted)), kind.types[0])
    return kind
