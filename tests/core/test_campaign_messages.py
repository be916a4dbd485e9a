"""Whatever is sent twice, out of order, in whatever batches, and wherever it crashes: the same messages.

Events come in clusters of 200 s, 1200 s apart, and messages come due between them: within a cluster any order
is within the lateness, so the design promises the messages of the clean stream, which the oracle tells.
"""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.campaigns import Campaign
from schemas.catalogue import Item
from schemas.ids import bucket
from stream.settings import Settings
from stream.testing import EPOCH, Driver, event
from tests.oracles.campaign_messages import CAMPAIGNS, DAILY_CAP, LATENESS_S, Told, messages

PERIOD_S = 1200.0
NAMES = {
    "view": "Product Viewed",
    "add": "Product Added",
    "remove": "Product Removed",
    "order": "Order Completed",
}
KINDS = ("view", "view", "view", "add", "add", "remove", "order", "yes", "no")
USERS, PRODUCTS = ("u1", "u2", "u3", "u4"), ("p1", "p2")
SALT = "nudge"

SEEDS = range(40)
Step = tuple[int, str, str, str]


def steps_of(chance: random.Random) -> list[list[Step]]:
    """Clusters of what four users do with two products; hardly an hour without an event of each."""
    return [
        [
            (chance.randrange(11), chance.choice(USERS), chance.choice(KINDS), chance.choice(PRODUCTS))
            for _ in range(chance.randrange(10))
        ]
        for _ in range(chance.randrange(2, 24))
    ]


def told(steps: list[list[Step]]) -> list[list[Told]]:
    """Clusters of events with ids of their own."""
    return [
        [
            Told(PERIOD_S * k + 20.0 * at, f"m{k}-{n}", user, kind, "" if kind in {"yes", "no"} else product)
            for n, (at, user, kind, product) in enumerate(cluster)
        ]
        for k, cluster in enumerate(steps)
    ]


def record(one: Told) -> bytes:
    """As a producer would write it."""
    about: dict[str, Any] = {"product_id": one.product}
    name = NAMES.get(one.kind, "Consent Changed")
    if one.kind == "order":
        about = {"products": [about]}
    elif name == "Consent Changed":
        about = {"purposes": {"contact": one.kind == "yes"}}
    return event(name, user=one.user, at=one.time, message_id=one.message_id, **about)


def driver(campaigns: list[dict[str, Any]], items: list[Item], batch_size: int, **policy: Any) -> Driver:
    """A partition with these campaigns."""
    rules = {"holdout_share": 0.0, "daily_cap": DAILY_CAP, "holdout_salt": SALT} | policy
    return Driver(
        settings=Settings(max_items=256, click_slots=2**10, campaigns=rules),
        campaigns=msgspec.convert(campaigns, list[Campaign]),
        items=items,
        batch_size=batch_size,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_messages_are_those_of_the_clean_stream(seed: int) -> None:
    """Duplicates, disorder within the lateness, batches and crashes change nothing; the oracle agrees."""
    chance = random.Random(seed)
    clusters, batch_size = told(steps_of(chance)), chance.choice([1, 3, 1000])
    stream = driver(CAMPAIGNS, [], batch_size)
    for cluster in clusters:
        again = [one for one in cluster if chance.random() < 0.3]
        shuffled = [*cluster, *again]
        chance.shuffle(shuffled)
        for one in shuffled:
            stream.pipe(record(one))
            if chance.random() < 0.1:
                stream.crash()
        if chance.random() < 0.1:
            stream.restart()
    stream.advance(86_400.0)
    found = stream.take("triggers")
    held_out = {
        (user, str(campaign["campaign_id"]))
        for user in USERS
        for campaign in CAMPAIGNS
        if bucket(f"{SALT}:{campaign['campaign_id']}", user) < campaign["holdout_share"]
    }
    expected = messages({one for cluster in clusters for one in cluster}, held_out)

    assert expected == [
        (trigger.campaign_id, trigger.recipient.user_id, trigger.cause.message_id) for trigger in found
    ]
    assert len({trigger.id for trigger in found}) == len(found)


def test_the_oracle_has_something_to_say() -> None:
    """A stream by hand with a message of each campaign, so that the property above is not about nothing."""
    view, add = ("view", "p1"), ("add", "p2")
    cluster = [
        (n, user, kind, product)
        for user in USERS
        for n, (kind, product) in enumerate([view, view, view, add])
    ]
    expected = messages(set(told([cluster])[0][:3]) | set(told([[], cluster])[1][3::4]), set())

    assert {"browse", "cart", "sequence"} == {campaign for campaign, _, _ in expected}


EVERY_KIND: list[dict[str, Any]] = [
    {"version": 1, "message_class": "marketing", "consent": {"when_unknown": "allow"}, "cooldown_s": 1800.0}
    | fields
    for fields in (
        {"campaign_id": "cart", "kind": "cart_abandonment", "key": "cart", "delay_s": 600.0, "priority": 2},
        {"campaign_id": "browse", "kind": "browse_abandonment", "delay_s": 900.0, "send_time": "users_hours"},
        {"campaign_id": "drop", "kind": "price_drop", "delay_s": 0.0, "quiet_hours": "01:00-02:00"},
        {"campaign_id": "back", "kind": "back_in_stock", "delay_s": 0.0, "re_eligible_after_s": "never"},
        {"campaign_id": "seen", "kind": "event", "when": {"events": ["Product Viewed"]}, "key": "product"},
        {"campaign_id": "refill", "kind": "replenishment", "delay_s": 86_400.0},
        {
            "campaign_id": "second",
            "kind": "milestone",
            "counter": "n_orders",
            "thresholds": [2],
            "delay_s": 60.0,
        },
        {"campaign_id": "away", "kind": "win_back", "delay_s": 86_400.0, "holdout_share": 0.5},
    )
]
OF_PRODUCT = {"browse", "drop", "back", "seen"}  # a purchase of the product ends these


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_is_written_to_who_must_not_be(seed: int) -> None:
    """Bought, refused, capped, held out, written to already: with prices, stock, quiet hours, crashes."""
    chance = random.Random(seed)
    clusters, batch_size = told(steps_of(chance)), chance.choice([1, 4, 1000])
    cap, per_minute = chance.randrange(1, 4), chance.choice([None, 0.5])
    items = [Item(item_id=product, version=0, price=100.0, stock=1) for product in PRODUCTS]
    stream = driver(
        EVERY_KIND, items, batch_size, holdout_share=0.2, max_per_minute=per_minute,
        caps=[{"max_messages": cap, "window": "rolling", "window_s": 7200}],
    )  # fmt: skip
    for k, cluster in enumerate(clusters):
        shuffled = [*cluster, *cluster[:2]]
        chance.shuffle(shuffled)
        for one in shuffled:
            stream.pipe(record(one))
            if chance.random() < 0.1:
                stream.crash()
        stream.flush()
        product = chance.choice(PRODUCTS)
        item = Item(
            item_id=product, version=k + 1, price=chance.choice([50.0, 100.0]), stock=chance.randrange(2)
        )
        stream.reference.items[product] = item
    stream.advance(3 * 86_400.0)
    found = stream.take("triggers")
    everything = [one for cluster in clusters for one in cluster]

    assert len({trigger.id for trigger in found}) == len(found)
    sent: dict[str, list[float]] = {}
    for trigger in found:
        user, at = trigger.recipient.user_id, seconds(trigger.send_at)
        mine = [one for one in everything if one.user == user]
        seen = [one for one in mine if one.time <= at - LATENESS_S]  # what has come in by then, however late
        since = seconds(trigger.cause.timestamp)
        bought = {one.product for one in seen if one.kind == "order" and one.time >= since}
        said = [one for one in mine if one.kind in {"yes", "no"}]
        refused = max((one.time for one in said if one.kind == "no" and one in seen), default=-1.0)
        agreed = any(one.kind == "yes" and refused < one.time <= at for one in said)
        assert not (trigger.campaign_id in OF_PRODUCT and trigger.context["product_id"] in bought)
        assert not (trigger.campaign_id == "cart" and bought & set(trigger.context["product_ids"]))
        assert refused < 0 or agreed
        assert bucket(SALT, user) >= 0.2
        assert not (trigger.campaign_id == "away" and bucket(f"{SALT}:away", user) < 0.5)
        earlier = sent.setdefault(user, [])
        assert sum(at - 7200 < time for time in earlier) < cap
        earlier.append(at)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 7, 1000]), st.data())
def test_no_order_within_the_lateness_writes_to_a_buyer(
    seed: int, batch_size: int, data: st.DataObject
) -> None:
    """Without clusters: every event may be late by up to the lateness, come twice, or meet a crash.

    Batches and crashes change no message. Whoever bought, by the time the message went out less the lateness,
    is not written to about it, and nobody gets one message twice.
    """
    chance = random.Random(seed)
    events = [
        Told(
            60.0 * chance.randrange(240),
            f"m{n}",
            chance.choice(USERS[:2]),
            chance.choice(KINDS),
            chance.choice(PRODUCTS),
        )
        for n in range(chance.randrange(60))
    ]
    arrivals = [(one.time + chance.uniform(0, 0.99 * LATENESS_S), one) for one in events * 2]
    records = [record(one) for _, one in sorted(arrivals)]
    crashes = data.draw(st.sets(st.integers(0, len(records)), max_size=4))
    runs = []
    for size, lost in ((1, set[int]()), (batch_size, crashes)):
        stream = driver(CAMPAIGNS, [], size)
        for n, one in enumerate(records):
            stream.pipe(one)
            if n in lost:
                stream.crash()
        stream.advance(86_400.0)
        runs.append(stream.take("triggers"))
    found = runs[0]

    assert runs[0] == runs[1]
    assert len({trigger.id for trigger in found}) == len(found)
    for trigger in found:
        if trigger.campaign_id not in {"cart", "browse"}:
            continue
        since, until = seconds(trigger.cause.timestamp), seconds(trigger.send_at) - LATENESS_S
        about = (trigger.recipient.user_id, trigger.context["product_id"])
        bought = [e.time for e in events if e.kind == "order" and (e.user, e.product) == about]
        assert not any(since <= time <= until for time in bought)


SIZED: list[dict[str, Any]] = [
    {"version": 1, "message_class": "marketing", "consent": {"when_unknown": "allow"}, "cooldown_s": 1800.0}
    | fields
    for fields in (
        {"campaign_id": "browse", "kind": "browse_abandonment", "min_views": 2, "delay_s": 2800.0},
        {"campaign_id": "cart", "kind": "cart_abandonment", "delay_s": 1600.0},
        {
            "campaign_id": "sequence",
            "kind": "sequence",
            "when": {"events": ["Product Viewed"], "at_least": 2},
            "unless_before": {"events": ["Order Completed"], "within_s": 3600},
            "delay_s": 400.0,
        },
    )
]


@pytest.mark.parametrize("seed", SEEDS)
def test_variants_are_as_products_of_their_own(seed: int) -> None:
    """Shirts in two sizes under ``key: variant`` get the messages that two products get under ``product``."""
    chance = random.Random(seed)
    clusters, batch_size = told(steps_of(chance)), chance.choice([1, 3, 1000])
    found = []
    for key in ("product", "variant"):
        stream = driver([campaign | {"key": key} for campaign in SIZED], [], batch_size)
        for cluster in clusters:
            for one in random.Random(seed).sample(cluster, len(cluster)):
                line = record(one)
                sized = line.replace(b'"product_id":', b'"product_id":"shirt","variant":')
                stream.pipe(line if key == "product" else sized)
        stream.advance(86_400.0)
        found.append(
            [
                (t.campaign_id, t.recipient.user_id, t.cause.message_id, t.send_at, t.context.get("variant"))
                for t in stream.take("triggers")
            ]
        )

    assert [message[:4] for message in found[0]] == [message[:4] for message in found[1]]
    assert {message[4] for message in found[1]} <= set(PRODUCTS)


def seconds(text: str) -> float:
    """RFC 3339 as seconds after the epoch of these streams."""
    return datetime.fromisoformat(text).timestamp() - EPOCH
