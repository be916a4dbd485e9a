"""Headers that are shared out among another number of partitions: no budget begins anew."""

from __future__ import annotations

import math

import pytest

from schemas.campaigns import Budget
from stream.core.budgets import Budgets
from stream.core.config import CampaignPolicy
from stream.core.headers import shared_out
from stream.core.reference import Reference
from stream.core.rows import Header, ItemShares, Pace, Tally
from stream.core.state import PartitionState
from stream.testing import cart_campaign

# What a header holds that is of its partition alone.
OF_A_PARTITION = {"jump_time", "jump_user", "sequence", "next_command", "shares", "gaps"}


def headers() -> list[Header]:
    """Two headers with something in every field."""
    return [
        Header(
            watermark=50.0 + n,
            jump_time=1.0,
            jump_user="u",
            sequence=9,
            spend={"o1": 3.0, f"only-{n}": 1.0},
            stopped=["learning", f"messages:c{n}"],
            next_command=3,
            paces={"o1": Pace(1.0 + n, 10.0 * n, 3.0)},
            shares=ItemShares(1, 1, {"p": 1}),
            sent={"c": [n, 4, 7]},
            free_at=100.0 - n,
            lift={"c": Tally(0.1, [1, n])},
        )
        for n in range(2)
    ]


@pytest.mark.parametrize("n", [1, 3, 7])
def test_what_was_spent_stays_spent(n: int) -> None:
    """Sums are kept, or rounded up; what holds back the longest holds back all."""
    found = shared_out(headers(), n)

    assert n == len(found)
    assert {"o1": 6.0, "only-0": 1.0, "only-1": 1.0} == {
        offer: pytest.approx(sum(header.spend[offer] for header in found)) for offer in found[0].spend
    }
    for header in found:
        assert (50.0, 100.0) == (header.watermark, header.free_at)
        assert ["learning", "messages:c0", "messages:c1"] == header.stopped
        assert {"c": [1, math.ceil(4 / n), math.ceil(14 / n)]} == header.sent
        assert {"o1": Pace(2.0, 10.0, 6.0 / n)} == header.paces
    assert [{"c": Tally(0.1, [2, 1])}, *[{}] * (n - 1)] == [header.lift for header in found]


def test_no_field_of_a_header_is_left_behind() -> None:
    """A field that is new must be shared out, or named as one of a partition alone."""
    plain, [found, *_] = Header(), shared_out(headers(), 3)
    same = {name for name in Header.__struct_fields__ if getattr(found, name) == getattr(plain, name)}

    assert OF_A_PARTITION == same


@pytest.mark.parametrize(("sent_before", "partitions"), [(4, 3), (5, 2), (0, 4), (10, 3)])
def test_a_budget_holds_over_the_move(sent_before: int, partitions: int) -> None:
    """Of ten messages in all some went from one partition; the new ones do not send more than the rest."""
    campaign = cart_campaign(budget=Budget(messages=10))

    def sent_by(header: Header, n: int, most: int) -> int:
        state = PartitionState()
        state.header = header
        budgets, sent = Budgets(CampaignPolicy(partitions=n), state, Reference()), 0
        while sent < most and budgets.allows(campaign, now=0.0):
            budgets.consume(campaign, now=0.0)
            sent += 1
        return sent

    before = Header()
    assert sent_before == sent_by(before, 1, sent_before)
    after = [sent_by(header, partitions, 100) for header in shared_out([before], partitions)]

    assert 10 - sent_before - 2 * partitions <= sum(after) <= 10 - sent_before
