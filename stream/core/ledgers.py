"""What was spent and sent, by name: bounded, and never at the cost of a budget that is still in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_NAMES", "book"]

MAX_NAMES: Final = 4096  # 30 to 60 bytes each in a record that goes with every batch

Entry = TypeVar("Entry")


def book(ledger: dict[str, Entry], name: str, entry: Entry, in_force: Callable[[str], bool]) -> None:
    """Set an entry; for a new one without room the oldest goes whose name has no budget in force.

    >>> ledger = {f"offer{n}": 0.0 for n in range(MAX_NAMES)}
    >>> book(ledger, "new", 1.0, lambda name: name not in {"offer7", "offer8"})
    >>> len(ledger) == MAX_NAMES, "offer7" in ledger, "offer8" in ledger, ledger["new"]
    (True, False, True, 1.0)
    """
    if name not in ledger and len(ledger) >= MAX_NAMES:
        gone = next((known for known in ledger if not in_force(known)), None)
        if gone is not None:
            del ledger[gone]
    ledger[name] = entry
