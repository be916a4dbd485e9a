"""Which metrics, labels and label values a PromQL expression names: grammar enough for our own files.

A full parser is promtool's business; what this reader does not know is an error, never passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

FUNCTIONS = {
    *("absent", "changes", "histogram_quantile", "increase", "max_over_time", "rate", "scalar", "vector"),
}
AGGREGATIONS = {"avg", "count", "max", "min", "sum"}
OPERATORS = {"and", "bool", "offset", "or", "unless"}
GROUPINGS = {"by", "ignoring", "on", "without"}

_TOKEN = re.compile(
    r"""\s+
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<range>\[[^\]]*\])
    | (?P<number>\d+(?:\.\d+)?[smhdwy]?)
    | (?P<name>[a-zA-Z_:][\w:]*)
    | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^<>=(){},])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Selector:
    """One mention of a metric: its name and the matchers ``(label, operator, value)`` in its braces."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...] = ()


@dataclass(slots=True)
class Names:
    """What an expression names; ``grouped`` are the labels of ``by``, ``on`` and their like."""

    selectors: list[Selector] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)


def names_of(expression: str) -> Names:
    """Read an expression.

    Raises
    ------
    ValueError
        A character or an identifier that is neither a metric of a selector nor known to this reader.
    """
    tokens, names, at = _tokens(expression), Names(), 0
    while at < len(tokens):
        kind, text = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        at += 1
        if kind != "name" or text in OPERATORS or text in AGGREGATIONS:
            continue
        if text in GROUPINGS:
            labels, at = _until(tokens, at, "(", ")")
            names.grouped.update(label for kind, label in labels if kind == "name")
        elif following == "{":
            inside, at = _until(tokens, at, "{", "}")
            names.selectors.append(Selector(text, _matchers(inside)))
        elif following == "(":
            if text not in FUNCTIONS:
                raise ValueError(f"unknown function {text} in {expression!r}")
        else:
            names.selectors.append(Selector(text))
    return names


def _tokens(expression: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        if found is None:
            raise ValueError(f"cannot read {expression[at : at + 20]!r} in {expression!r}")
        if found.lastgroup is not None:
            tokens.append((found.lastgroup, found[0]))
        at = found.end()
    return tokens


def _until(
    tokens: list[tuple[str, str]], at: int, opening: str, closing: str
) -> tuple[list[tuple[str, str]], int]:
    """Return the tokens between brackets, and the place behind them."""
    if tokens[at][1] != opening:
        raise ValueError(f"{opening} expected, {tokens[at][1]} found")
    end = tokens.index(("sign", closing), at)
    return tokens[at + 1 : end], end + 1


def _matchers(inside: list[tuple[str, str]]) -> tuple[tuple[str, str, str], ...]:
    parts = [text for _, text in inside if text != ","]
    if len(parts) % 3:
        raise ValueError(f"cannot read the matchers {' '.join(parts)}")
    triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return tuple((label, operator, value[1:-1]) for label, operator, value in triples)
