"""What lies encoded under ``golden/``, one file for each codec version: a user, a refusal, a header."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from stream.core.rows import (
    Header,
    Impression,
    ItemShares,
    Match,
    ModelMemory,
    OpenDecision,
    Pace,
    Profile,
    Send,
    Timer,
)

GOLDEN = Path(__file__).parent / "golden"

PROFILE = Profile(
    known=True,
    touched=7_000_000_001,
    first_seen=1_767_225_600.25,
    last_seen=1_767_225_900.5,
    session_start=1_767_225_600.25,
    n_events=5,
    n_views=2,
    n_adds=1,
    n_orders=1,
    revenue={"EUR": 19.9, "USD": 3.0},
    time_zone="Europe/Berlin",
    consent={"contact": True, "learn": True},
    ring=["p3", "päö", "p1"],
    views={"p1": 1, "p3": 1},
    bought={"p2": 1_767_225_800.0},
    seen_ids=[1, 2**64 - 1, 2**40],
    minute=29_453_765,
    minute_events=2,
    slot_times={"for_you": 1_767_225_900.5},
    timers={
        "cart\x1fp3": Timer(
            1_767_229_500.5, "m5", "Product Added", 1_767_225_900.5, {"product_id": "p3", "price": 2.5}
        ),
        "browse\x1fp1": Timer(1_767_230_000.0, "m4", "Product Viewed", 1_767_225_850.0, {"product_id": "p1"}),
    },
    sent_times={"cart": 1_767_200_000.0},
    cap_day=739_617,
    cap_count=1,
    campaign_day={"cart": [739_617, 1]},
    impressions=[Impression("p9", [3, 17, 2**18 - 1], 1_767_227_700.0)],
    impressions_due_at=1_767_227_700.0,
)
MEMORY = ModelMemory(
    factors=bytes(range(32)),
    open={
        "d1": OpenDecision("recommendation", "for_you", 1_767_312_300.5, items=["p1", "p4"]),
        "d2": OpenDecision("offer", "o1", 1_767_312_000.0, features=[1.0, 0.5, -2.0]),
    },
    due_at=1_767_312_000.0,
)
REFUSAL = Profile(known=True, touched=12, consent={"contact": False, "learn": True}, unsubscribed=["email"])
HEADER = Header(
    watermark=1_767_225_900.5,
    jump_time=1_767_400_000.0,
    jump_user="u2",
    sequence=7_000_000_002,
    spend={"o1": 4.5},
)
# Fields that came with version 3.
WATCH = Timer(
    1_775_001_900.5,
    "m4",
    "Product Viewed",
    1_767_225_900.5,
    {"product_id": "p1", "price_before": 30.0},
    held_for="unavailable",
    watch=True,
)
CART = Timer(1_767_229_500.5, "m5", "Cart Viewed", 1_767_225_900.5, {}, products={"p3": 1_767_225_900.5})
PROFILE_3 = replace(
    PROFILE,
    timers=PROFILE.timers | {"drop\x1fp1": WATCH, "checkout\x1f": CART},
    last_order_at=1_767_225_800.0,
    matched={"view\x1fp1": [Match(1_767_225_850.0, "m4", "Product Viewed")]},
    sends=[Send(1_767_200_000.0, "cart", "email", 739_617)],
    sent_keys={"cart\x1fp2": 1_767_200_000.0},
    hours=[0] * 23 + [5],
    engaged={"push": 2},
    answered_at={"contact": 1_767_225_700.0},
    last_item_at=1_767_225_900.5,
    zone_at=1_767_225_600.25,
    order_ids=[2**63],
)
MEMORY_3 = ModelMemory(
    factors=MEMORY.factors,
    open=MEMORY.open
    | {
        "d3": OpenDecision("offer:unanswered", "o2", 1_767_312_000.0, [], [1.0], "gifts", 1_767_399_000.5),
        "d4": OpenDecision("offer:rewarded", "o1", 1_767_312_000.0, features=[0.5], order="A-7"),
    },
    due_at=MEMORY.due_at,
    taught=[20_454, 7, 2],
)
HEADER_3 = Header(
    watermark=HEADER.watermark,
    jump_time=HEADER.jump_time,
    jump_user=HEADER.jump_user,
    sequence=HEADER.sequence,
    spend=HEADER.spend,
    paces={"o1": Pace(0.25, 1_767_225_900.5, 4.5)},
    shares=ItemShares(490_896, 12, {"p1": 9, "p2": 1}),
    sent={"cart": [20_454, 3, 70]},
    free_at=1_767_225_930.5,
    gaps=2,
)
NEXT_OFFSET = 123_456_789_012
