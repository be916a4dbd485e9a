"""What messages lead to: the funnel by hand, lift against a simulated truth, broken splits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from schemas.campaigns import CampaignConsent
from schemas.ids import bucket
from stream.core.measuring import ALL, merged
from stream.core.rows import Tally, Trial
from stream.report import campaign_funnel, lift
from stream.runtime.statecodec import ROWS
from stream.settings import Settings
from stream.testing import Driver, cart_campaign, event

HOUR, DAY = 3600.0, 86_400.0
CONSENT = CampaignConsent(when_unknown="allow")
SALT = "nudge"


def driver(
    share: float = 0.0, of_campaign: float = 0.0, batch_size: int = 1, campaigns: int = 1, **fields: Any
) -> Driver:
    """Cart campaigns with a delay of an hour, without caps; orders count for two days."""
    settings = Settings(
        max_items=256,
        click_slots=2**10,
        campaigns={"holdout_share": share, "daily_cap": None, "cooldowns": False},
        lift={"window_s": 2 * DAY},
    )
    active = [
        cart_campaign(name, delay_s=HOUR, holdout_share=of_campaign, consent=CONSENT, **fields)
        for name in ("cart", "later")[:campaigns]
    ]
    return Driver(settings=settings, campaigns=active, batch_size=batch_size, codec=ROWS)


def carted(user: str, at: float, item: str = "p1") -> bytes:
    """A user put a product into the cart."""
    return event("Product Added", user=user, at=at, product_id=item)


def ordered(user: str, at: float, total: float = 10.0, item: str = "p9") -> bytes:
    """A user bought something, for EUR."""
    products = [{"product_id": item}]
    return event("Order Completed", user=user, at=at, total=total, currency="eur", products=products)


def mailed(name: str, user: str, at: float, **named: Any) -> bytes:
    """The mail system reports something."""
    return event(name, user=user, at=at, **named)


def funnel(stream: Driver) -> dict[str, Any]:
    """The report's funnel of the campaign."""
    found: dict[str, Any] = campaign_funnel(stream.counts, {}, stream.revenue)["cart"]
    return found


def test_a_message_is_followed_to_the_order() -> None:
    """Sent, delivered, opened twice, clicked, bought for 10 EUR: each stage counts once."""
    stream = driver()
    stream.pipe(carted("u1", 0))
    stream.advance(2 * HOUR)
    [trigger] = stream.take("triggers")
    echo = {"decision_id": trigger.decision.decision_id}
    stream.pipe(
        mailed("Email Delivered", "u1", 2 * HOUR + 1, **echo),
        mailed("Email Opened", "u1", 2 * HOUR + 2, **echo),
        mailed("Email Opened", "u1", 2 * HOUR + 3, **echo),
        mailed("Email Link Clicked", "u1", 2 * HOUR + 4, context={"campaign": {"content": trigger.id}}),
        ordered("u1", 2 * HOUR + 5),
    )
    stream.flush()
    told = funnel(stream)

    stages = ("eligible", "chosen", "sent", "delivered", "opened", "clicked", "converted")
    assert [1] * 7 == [told[stage] for stage in stages]
    assert {"EUR": 10.0} == told["revenue"]


def test_a_report_without_our_id_belongs_to_the_newest_message_of_its_campaign() -> None:
    """Segment's campaign_id is enough; without any name nothing is counted."""
    stream = driver()
    stream.pipe(carted("u1", 0))
    stream.advance(2 * HOUR)
    stream.pipe(
        mailed("Email Opened", "u1", 3 * HOUR, campaign_id="cart"),
        mailed("Email Bounced", "u1", 3 * HOUR, campaign_id="spring"),
        mailed("Email Link Clicked", "u1", 3 * HOUR),
    )
    stream.flush()
    told = funnel(stream)

    assert (1, 0, 0) == (told["opened"], told["bounced"], told["clicked"])


def test_an_order_belongs_to_the_newest_message_within_the_window() -> None:
    """Two campaigns wrote; the later one gets the order. One second after the window nobody does."""
    stream = driver(campaigns=2)
    stream.pipe(carted("u1", 0), carted("u1", 2 * HOUR, "p2"))
    stream.advance(DAY)
    newest = max(stream.take("triggers"), key=lambda trigger: (trigger.send_at, trigger.campaign_id))
    stream.pipe(ordered("u1", 20 * HOUR))
    stream.flush()
    assert [("campaign", newest.campaign_id, "converted")] == [k for k in stream.counts if "converted" in k]

    late = driver()
    late.pipe(carted("u1", 0))
    late.advance(3 * DAY)
    late.pipe(ordered("u1", HOUR + 300 + 2 * DAY + 1))
    late.flush()
    assert 0 == funnel(late)["converted"]


@pytest.mark.parametrize(("share", "of_campaign"), [(0.3, 0.0), (0.0, 0.3), (0.2, 0.3)])
def test_users_fall_into_the_arms_of_their_hash(share: float, of_campaign: float) -> None:
    """200 users: each is assigned once, to the arm that its bucket says, whatever the number of messages."""
    stream = driver(share, of_campaign)
    users = [f"u{n}" for n in range(200)]
    for n, user in enumerate(users):
        stream.pipe(carted(user, n), carted(user, n + 0.5, "p2"))
    stream.advance(DAY)
    tallies = stream.engine.state.header.lift
    globally = {user for user in users if bucket(SALT, user) < share}
    own = {user for user in users if bucket(f"{SALT}:cart", user) < of_campaign}
    if of_campaign:
        left = set(users) - globally
        assert [len(left - own), len(left & own)] == tallies["cart"].assigned
    else:
        assert [len(users) - len(globally), len(globally)] == tallies["cart"].assigned
    if share:
        assert [len(users) - len(globally), len(globally)] == tallies[ALL].assigned
    else:
        assert ALL not in tallies


def test_a_user_counts_when_the_window_is_over_and_once() -> None:
    """An order within two days counts, a second message and a later order do not."""
    stream = driver(0.5)
    stream.pipe(carted("u1", 0))
    stream.advance(2 * HOUR)
    stream.pipe(ordered("u1", 3 * HOUR, 7.0))
    stream.advance(DAY)
    arm = int(bucket(SALT, "u1") < 0.5)
    assert [0, 0] == stream.engine.state.header.lift["cart"].users

    stream.restart()
    stream.advance(2 * DAY)
    stream.pipe(carted("u1", 5 * DAY), ordered("u1", 5 * DAY + 2 * HOUR))
    stream.advance(10 * DAY)
    tally = stream.engine.state.header.lift["cart"]

    assert (1, 1) == (tally.users[arm], tally.converted[arm])
    assert (1, 1) == (sum(tally.assigned), sum(tally.users))
    assert [7.0, 49.0] == tally.revenue["EUR"][2 * arm : 2 * arm + 2]


def test_another_share_is_another_experiment() -> None:
    """With a new holdout share counting begins anew, also for users who were counted before."""
    stream = driver(of_campaign=0.5)
    stream.pipe(*(carted(f"u{n}", n) for n in range(20)))
    stream.advance(DAY)
    stream.flush()
    stream.reference.campaigns["cart"] = cart_campaign(delay_s=HOUR, holdout_share=0.1, consent=CONSENT)
    stream.pipe(*(carted(f"u{n}", DAY + n, "p2") for n in range(10)))
    stream.advance(DAY)
    tally = stream.engine.state.header.lift["cart"]

    assert (0.1, 10) == (tally.share, sum(tally.assigned))
    stream.advance(10 * DAY)
    assert 10 == sum(stream.engine.state.header.lift["cart"].users)


def test_a_dry_run_and_a_transactional_message_are_no_experiment() -> None:
    """Nothing was sent, or nobody may be held out."""
    for fields in ({"dry_run": True}, {"message_class": "transactional"}):
        stream = driver(0.5, **fields)
        stream.pipe(carted("u1", 0))
        stream.advance(DAY)
        assert {} == stream.engine.state.header.lift


@pytest.mark.parametrize(
    ("users", "estimate"), [([500, 0], None), ([0, 40], None), ([0, 0], None), ([500, 40], 0.02)]
)
def test_nobody_to_compare_with_is_no_estimate(users: list[int], estimate: float | None) -> None:
    """A rate minus nothing is no difference; bounds of a rate are known from the first user on."""
    converted = [users[0] // 8, users[1] // 10]
    revenue = {"EUR": [10.0 * converted[0], 100.0 * converted[0], 10.0 * converted[1], 100.0 * converted[1]]}
    tally = Tally(0.05, [600, 50], users, converted, revenue)
    told = lift({"cart": tally}, 0.05, 0.001)["cart"]

    assert estimate == pytest.approx(told["conversion"]["estimate"], abs=0.005)
    assert (estimate is None) == (told["revenue_per_user"]["EUR"]["estimate"] is None)
    assert -1.0 <= told["conversion"]["low"] < told["conversion"]["high"] <= 1.0


def shoppers(n: int, seed: int, caused: float) -> Iterator[tuple[str, float, bool]]:
    """Users with the time of their cart; a fifth would buy anyway, messages make ``caused`` more buy."""
    random_ = random.Random(seed)
    for k in range(n):
        luck = random_.random()
        user = f"s{seed}-{k}"
        treated = bucket(SALT, user) >= 0.5
        yield user, 60.0 * k, luck < 0.2 + caused * treated


def report_of(n: int, seed: int, caused: float) -> dict[str, Any]:
    """Run the shoppers; half of them are held out."""
    stream = driver(0.5, batch_size=500)
    lines = []
    for user, at, buys in shoppers(n, seed, caused):
        lines.append((at, carted(user, at)))
        if buys:
            lines.append((at + 5 * HOUR, ordered(user, at + 5 * HOUR)))
    stream.pipe(*(line for _, line in sorted(lines)))
    stream.advance(10 * DAY)
    found: dict[str, Any] = lift(merged([stream.engine.state.header.lift]), 0.05, 0.001)["cart"]
    return found


def test_lift_is_found_where_there_is_one_and_not_where_there_is_none() -> None:
    """3,000 users: with 20 points more the interval is above 0 and holds 0.2; without it holds 0."""
    caused, none = report_of(3000, 1, 0.2), report_of(3000, 2, 0.0)

    assert 0 < caused["conversion"]["low"] <= 0.2 <= caused["conversion"]["high"]
    assert none["conversion"]["low"] <= 0 <= none["conversion"]["high"]
    assert 3000 == sum(none[arm]["users"] for arm in ("treated", "control"))
    assert not caused["sample_ratio"]["alarm"]
    assert not none["sample_ratio"]["alarm"]


def test_a_broken_split_raises_the_alarm() -> None:
    """A tenth of the held-out users went missing on the way: half and half it is not."""
    found = lift({"cart": Tally(0.5, assigned=[10_000, 9000])}, 0.05, 0.001)["cart"]

    assert found["sample_ratio"]["alarm"]
    assert not lift({"cart": Tally(0.5, assigned=[10_000, 9900])}, 0.05, 0.001)["cart"]["sample_ratio"][
        "alarm"
    ]


@limits(max_examples=20)
@given(st.integers(1, 200), st.lists(st.integers(0, 60), max_size=3))
def test_batches_crashes_and_cold_rows_change_no_count(batch_size: int, crashes: list[int]) -> None:
    """The same events in other batches, with lost batches and cold rows: the same counts and state."""
    lines = [carted(f"u{n % 17}", n * HOUR, f"p{n % 5}") for n in range(60)]
    lines += [ordered(f"u{n % 17}", n * HOUR + 600, 3.0) for n in range(0, 60, 4)]
    plain, other = driver(0.3), driver(0.3, batch_size=batch_size)
    for stream in (plain, other):
        for n, line in enumerate(lines):
            if stream is other and n in crashes:
                stream.crash()
            stream.pipe(line)
        stream.restart()
        stream.advance(10 * DAY)

    assert plain.counts == other.counts
    assert plain.revenue == other.revenue
    assert plain.engine.state.header.lift == other.engine.state.header.lift
    assert plain.committed == other.committed


def test_what_a_user_keeps_is_bounded() -> None:
    """A user with a hundred messages of one campaign keeps sixteen, and one trial of each experiment."""
    stream = driver(0.0, of_campaign=1e-9)
    stream.pipe(*(carted("u1", n * 60.0, f"p{n}") for n in range(60)))
    stream.advance(DAY)
    profile = stream.engine.state.profile("u1")

    assert 60 == stream.counts["campaign", "cart", "sent"]
    assert 16 == len(profile.messages)
    assert ["cart"] == list(profile.trials)
    assert isinstance(profile.trials["cart"], Trial)


def test_partitions_add_up() -> None:
    """Two partitions' users and money are summed; of two splits the one with more users stays."""
    one = Tally(0.5, [1, 2], [3, 4], [5, 6], {"EUR": [1.0, 1.0, 0.0, 0.0]})
    other = Tally(0.5, [10, 20], [30, 40], [50, 60], {"EUR": [2.0, 4.0, 0.0, 0.0], "USD": [0.0] * 4})
    total = merged([{"c": one}, {"c": other}, {"c": Tally(0.1, [5, 5])}])["c"]

    assert Tally(0.5, [11, 22], [33, 44], [55, 66], {"EUR": [3.0, 5.0, 0.0, 0.0], "USD": [0.0] * 4}) == total
