"""Headers of partitions when users move to another number of them: what was spent stays spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.core.measuring import merged
from stream.core.rows import Header, Pace

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["shared_out"]


def shared_out(headers: Sequence[Header], n: int) -> list[Header]:
    """Return ``n`` headers that hold together what these hold, and let nothing happen too early or too often.

    The watermark is the least. What budgets have spent is shared out evenly, messages rounded up; of prices
    of budgets and of the send rate's next moment the latest and highest count. Counts of experiments go to
    the first. What operators stopped stays stopped everywhere: a partition that has not heard it yet must
    not undo it for the others.

    >>> [
    ...     header.sent
    ...     for header in shared_out([Header(sent={"a": [7, 3, 9]}), Header(sent={"a": [8, 1, 2]})], 3)
    ... ]
    [{'a': [8, 1, 4]}, {'a': [8, 1, 4]}, {'a': [8, 1, 4]}]
    """
    watermark = min((header.watermark for header in headers), default=float("-inf"))
    free_at = max((header.free_at for header in headers), default=float("-inf"))
    stopped = list(dict.fromkeys(name for header in headers for name in header.stopped))
    experiments = merged(header.lift for header in headers)
    return [
        Header(
            watermark=watermark,
            spend=_spend(headers, n),
            paces=_paces(headers, n),
            sent=_sent(headers, n),
            free_at=free_at,
            stopped=[*stopped],
            lift=experiments if first else {},
        )
        for first in (True, *[False] * (n - 1))
    ]


def _spend(headers: Sequence[Header], n: int) -> dict[str, float]:
    offers = {offer for header in headers for offer in header.spend}
    return {offer: sum(header.spend.get(offer, 0.0) for header in headers) / n for offer in sorted(offers)}


def _paces(headers: Sequence[Header], n: int) -> dict[str, Pace]:
    found: dict[str, list[Pace]] = {}
    for header in headers:
        for offer, pace in header.paces.items():
            found.setdefault(offer, []).append(pace)
    return {
        offer: Pace(
            max(pace.price for pace in paces),
            max(pace.at for pace in paces),
            sum(pace.spent for pace in paces) / n,
        )
        for offer, paces in sorted(found.items())
    }


def _sent(headers: Sequence[Header], n: int) -> dict[str, list[int]]:
    found: dict[str, list[list[int]]] = {}
    for header in headers:
        for campaign, counts in header.sent.items():
            found.setdefault(campaign, []).append(counts)
    shared = {}
    for campaign, several in sorted(found.items()):
        today = max(day for day, _, _ in several)
        on_day = sum(count for day, count, _ in several if day == today)
        total = sum(count for _, _, count in several)
        shared[campaign] = [today, -(-on_day // n), -(-total // n)]
    return shared
