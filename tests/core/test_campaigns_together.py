"""Campaigns and streams drawn at random: no campaign changes another, nor do batches and restarts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from schemas.campaigns import Campaign
from schemas.catalogue import Item
from schemas.conditions import Condition
from schemas.segments import Segment
from stream.settings import Settings
from stream.testing import Driver, event

HOUR = 3600.0
SEEDS = range(200)
ABOUT_ONE = ("Product Added", "Product Removed", "Product Viewed")
ABOUT_MANY = ("Order Completed", "Checkout Started", "Order Refunded")
ABOUT_NONE = ("Cart Viewed", "Products Searched")
SEGMENTS = [
    Segment(segment_id="quiet", version=1, when=Condition(fact="user.active_age_s", at_least=1800)),
    Segment(segment_id="loyal", version=1, when=Condition(fact="user.n_orders", at_least=2)),
]
KEYED = ("cart_abandonment", "browse_abandonment", "post_purchase", "event", "sequence")
KINDS = (*KEYED, "checkout_abandonment", "win_back", "milestone", "segment_entry", "price_drop")


def campaigns_of(chance: random.Random, least: int) -> list[Campaign]:
    """Up to five; those of every other draw are of one kind and differ in their keys."""
    kinds = [chance.choice(KEYED)] if chance.random() < 0.5 else KINDS
    return [campaign(chance, n, chance.choice(kinds)) for n in range(chance.randint(least, 5))]


def campaign(chance: random.Random, n: int, kind: str) -> Campaign:
    """One that the schema allows."""
    fields: dict[str, Any] = {"delay_s": chance.choice([0.0, 60.0, 600.0, HOUR])}
    if kind == "win_back":
        fields["delay_s"] = 24 * HOUR
    if kind in KEYED:
        fields["key"] = chance.choice([None, "product", "variant", "cart", "user"])
    if kind in {"event", "sequence"}:
        names = chance.sample([*ABOUT_ONE, *ABOUT_MANY, *ABOUT_NONE], 2)
        fields["when"] = {"events": names, "at_least": chance.randint(1, 3), "within_s": 2 * HOUR}
        fields["cancel_on"] = [chance.choice(["Order Completed", "Product Removed", "Cart Viewed"])]
        if chance.random() < 0.6:
            before = chance.choice(["Order Completed", "Products Searched"])
            fields["unless_before"] = {"events": [before], "within_s": 2 * HOUR}
    if kind == "milestone":
        fields |= {"counter": chance.choice(["n_orders", "n_views"]), "thresholds": [2.0, 5.0]}
    if kind == "segment_entry":
        fields["segment"] = chance.choice(["quiet", "loyal"])
        fields["segment_change"] = chance.choice(["entry", "exit"])
    named = {"campaign_id": f"c{n}", "version": 1, "kind": kind, "message_class": "marketing"}
    return msgspec.convert(named | {"cooldown_s": 0.0} | fields, Campaign)


def stream_of(chance: random.Random) -> list[bytes]:
    """Up to thirty events of two users with two products in two variants, up to 200 s late."""
    at, found = 0.0, []
    gaps = chance.choice([[1, 5, 20, 60, 100], [20, 60, 200, 600, 2000]])

    def product() -> dict[str, str]:
        return {"product_id": chance.choice("pq")} | chance.choice([{}, {"variant": "M"}, {"variant": "L"}])

    for n in range(chance.randint(5, 30)):
        at += chance.choice(gaps)
        name = chance.choice(["Product Added", "Order Completed", *ABOUT_ONE, *ABOUT_MANY, *ABOUT_NONE])
        about: dict[str, Any] = {}
        if name in ABOUT_ONE:
            about = product()
        elif name in ABOUT_MANY and chance.random() < 0.8:
            about = {"products": [product() for _ in range(chance.randint(1, 2))]}
        one = event(name, user=chance.choice("uv"), at=at, message_id=f"m{n}", **about)
        found.append((at + chance.uniform(0.0, 200.0), one))
    return [one for _, one in sorted(found)]


def item(item_id: str, price: float = 10.0, version: int = 1) -> Item:
    """A product that can be had."""
    return Item(item_id=item_id, version=version, price=price, currency="EUR", stock=5.0)


def outcome(
    events: Sequence[bytes],
    campaigns: Sequence[Campaign],
    *,
    batch_size: int = 1,
    restarts: random.Random | None = None,
    **policy: Any,
) -> list[tuple[str, bytes]]:
    """What was sent, suppressed and told of segments, with the campaign; a price falls on the way."""
    rules = {"holdout_share": 0.0, "daily_cap": None, "cooldowns": False} | policy
    settings = Settings(max_items=256, click_slots=2**10, consent={"when_unknown": "allow"}, campaigns=rules)
    catalogue = [item("p"), item("q")]
    stream = Driver(
        settings=settings, campaigns=campaigns, segments=SEGMENTS, items=catalogue, batch_size=batch_size
    )
    for n, one in enumerate(events):
        stream.pipe(one)
        if restarts is not None and restarts.random() < 0.3:
            stream.restart()
        if n == len(events) // 2:
            stream.flush()
            stream.reference.items["p"] = item("p", price=5.0, version=2)
    for _ in range(6):
        stream.advance(8 * HOUR)
    sent = [(trigger.campaign_id, msgspec.json.encode(trigger)) for trigger in stream.take("triggers")]
    logged = [
        (decision.campaign_id, msgspec.json.encode((decision.user_id, decision.reason, decision.decided_at)))
        for decision in stream.take("decisions")
        if decision.campaign_id
    ]
    return sent + logged + [("", msgspec.json.encode(change)) for change in stream.take("segments")]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_campaign_sends_what_it_sends_alone(seed: int) -> None:
    """Without caps and cooldowns, up to four others beside it change nothing for it."""
    chance = random.Random(seed)
    campaigns = campaigns_of(chance, 2)
    events = stream_of(chance)
    together = outcome(events, campaigns)

    for one in campaigns:
        alone = [told for name, told in outcome(events, [one]) if name == one.campaign_id]
        assert alone == [told for name, told in together if name == one.campaign_id]


@pytest.mark.parametrize("seed", SEEDS)
def test_batches_and_restarts_change_nothing(seed: int) -> None:
    """One by one, or two to seven at a time with a restart after every third event: the same, in order."""
    chance = random.Random(seed)
    campaigns = campaigns_of(chance, 1)
    policy: dict[str, Any] = {"daily_cap": chance.choice([None, 2]), "cooldowns": True}
    policy["quiet_hours"] = chance.choice(["none", "10:00-14:00"])
    policy["max_per_minute"] = chance.choice([None, 1])
    events = stream_of(chance)
    whole = outcome(events, campaigns, **policy)

    assert whole == outcome(events, campaigns, batch_size=chance.randint(2, 7), **policy)
    assert whole == outcome(events, campaigns, batch_size=3, restarts=chance, **policy)


def test_the_draws_reach_every_kind_and_send() -> None:
    """What is compared above is not mostly nothing."""
    kinds, n_sent = set(), 0
    for seed in SEEDS:
        chance = random.Random(seed)
        campaigns = campaigns_of(chance, 2)
        kinds |= {one.kind for one in campaigns}
        n_sent += sum(bool(name) for name, _ in outcome(stream_of(chance), campaigns))

    assert set(KINDS) == kinds
    assert n_sent > 2 * len(SEEDS)
