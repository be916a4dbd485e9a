"""Variables that look like settings and are none: a cap that is misspelt is no cap.

Settings that nobody knows are passed by, for an environment holds others that begin alike: Kubernetes sets
``NUDGE_SERVICE_HOST`` beside a service called nudge.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from stream.settings import all_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["misspelt"]

PREFIX: Final = "NUDGE_"
LIKENESS: Final = 0.85


def misspelt(variables: Iterable[str]) -> dict[str, str]:
    """Return variables that mean a setting and do not name one, with the setting that may be meant.

    They have a section's ``__``, or the name of a setting without its section, or nearly that of a setting.

    >>> misspelt(["NUDGE_DAILY_CAP", "NUDGE_SERVICE_HOST", "NUDGE_SEED", "HOME"])
    {'NUDGE_DAILY_CAP': 'NUDGE_CAMPAIGNS__DAILY_CAP'}
    """
    known = [name for name, _ in all_settings()]
    found = {}
    for variable in sorted({name.upper() for name in variables if name.upper().startswith(PREFIX)}):
        if any(variable == name or variable.startswith(f"{name}__") for name in known):  # as of purposes
            continue
        rest = variable.removeprefix(PREFIX).rpartition("__")[2]
        same = [name for name in known if name.endswith(f"__{rest}")]
        near = same or difflib.get_close_matches(variable, known, n=1, cutoff=LIKENESS)
        if near or "__" in variable:
            found[variable] = near[0] if near else ""
    return found
