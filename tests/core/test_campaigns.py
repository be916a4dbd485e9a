"""The rules of a message, through the driver: bytes in, decisions out, time moved by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.campaigns import CampaignConsent
from schemas.catalogue import Item
from schemas.codec import rfc3339
from schemas.conditions import Condition
from schemas.reasons import SuppressionReason
from stream.settings import Settings
from stream.testing import EPOCH, Driver, cart_campaign, event

HOUR = 3600.0
DAY = 86_400.0
CONSENT = CampaignConsent(when_unknown="allow")


def carted(at: float = 0.0, product_id: str = "p1", user: str = "u1", **properties: Any) -> bytes:
    """A user put a product into the cart."""
    return event("Product Added", user=user, at=at, product_id=product_id, **properties)


def ordered(at: float, *product_ids: str, user: str = "u1") -> bytes:
    """A user bought products."""
    products = [{"product_id": product_id} for product_id in product_ids]
    return event("Order Completed", user=user, at=at, order_id=f"o{at}", products=products)


def driver(
    campaign: dict[str, Any] | None = None, policy: dict[str, Any] | None = None, **more: Any
) -> Driver:
    """One cart campaign with a delay of an hour, consent given, no holdout."""
    settings = Settings(
        max_items=256,
        click_slots=2**10,
        campaigns={"holdout_share": 0.0, **(policy or {})},
    )
    fields: dict[str, Any] = {"delay_s": HOUR, "consent": CONSENT} | (campaign or {})
    return Driver(settings=settings, campaigns=[cart_campaign(**fields)], **more)


def sent(stream: Driver) -> list[str]:
    """Products of the messages since the last look."""
    return [trigger.context["product_id"] for trigger in stream.take("triggers")]


def suppressed(stream: Driver) -> list[str]:
    """Reasons of the suppressions since the last look."""
    kinds = {"suppression", "holdout"}
    return [d.reason for d in stream.take("decisions") if d.kind in kinds]


def test_an_abandoned_cart_is_written_to_once() -> None:
    """Delay 3600 s and lateness 300 s after the cart event, one message goes out, and no second."""
    stream = driver()
    stream.pipe(carted())
    stream.advance(HOUR + 299)
    assert [] == sent(stream)

    stream.advance(1)
    [trigger] = stream.take("triggers")

    assert (rfc3339(EPOCH + 3900), "u1", "cart") == (
        trigger.send_at,
        trigger.recipient.user_id,
        trigger.campaign_id,
    )
    stream.advance(10 * DAY)
    assert [] == sent(stream)


def test_a_purchase_cancels_its_product_only() -> None:
    """Of two carted products the bought one is silent."""
    stream = driver(policy={"daily_cap": None, "cooldowns": False})
    stream.pipe(carted(0, "p1"), carted(1, "p2"), ordered(60, "p1"))
    stream.advance(DAY)

    assert ["p2"] == sent(stream)
    assert 1 == stream.counts["campaign", "cart", "cancelled"]


def test_an_order_without_products_cancels_everything() -> None:
    """Nobody who bought something unknown is reminded of anything."""
    stream = driver()
    stream.pipe(carted(0, "p1"), carted(1, "p2"), ordered(60))
    stream.advance(DAY)

    assert [] == sent(stream)


def test_a_purchase_within_the_lateness_still_cancels() -> None:
    """Due at 3600, firing at 3900: an order at 3899 is in time, one at 3900 is not."""
    in_time, too_late = driver(), driver()
    in_time.pipe(carted(), ordered(3899, "p1"))
    too_late.pipe(carted(), ordered(3900, "p1"))

    assert ([], ["p1"]) == (sent(in_time), sent(too_late))


def test_a_late_order_cancels_though_it_teaches_nothing() -> None:
    """An order more than 24 h behind the watermark is too late to learn from, not to cancel."""
    stream = driver(campaign={"delay_s": 3 * DAY})
    stream.pipe(carted(0), event("Cart Viewed", user="u2", at=2 * DAY), ordered(100, "p1"))
    stream.advance(5 * DAY)

    assert [] == sent(stream)
    assert 0 == stream.counts["rejected", "late"]


def test_a_cart_event_that_comes_after_its_purchase_does_not_arm() -> None:
    """Reordered: the order of 60 is applied before the cart event of 0."""
    stream = driver()
    stream.pipe(ordered(60, "p1"), carted(0, "p1"))
    stream.advance(DAY)

    assert [] == sent(stream)


def test_removing_from_the_cart_cancels() -> None:
    """What is not in the cart is not abandoned there."""
    stream = driver()
    stream.pipe(carted(), event("Product Removed", user="u1", at=10, product_id="p1"))
    stream.advance(DAY)

    assert [] == sent(stream)


def test_carting_again_moves_the_timer() -> None:
    """One live timer per user, campaign and product; the id is that of the event that moved it last."""
    stream, other = driver(), driver()
    stream.pipe(carted(0), carted(1800))
    stream.advance(2500)  # watermark 4300: the first cart event alone would have fired
    assert [] == sent(stream)

    stream.advance(DAY)
    other.pipe(carted(1800))
    other.advance(DAY)

    [moved], [alone] = stream.take("triggers"), other.take("triggers")
    assert alone.id == moved.id
    assert 1 == stream.counts["campaign", "cart", "moved"]


def test_an_older_cart_event_does_not_move_the_timer_back() -> None:
    """Reordering of two cart events changes nothing."""
    ahead, behind = driver(), driver()
    ahead.pipe(carted(0), carted(1800))
    behind.pipe(carted(1800), carted(0))
    ahead.advance(DAY)
    behind.advance(DAY)

    assert [t.id for t in ahead.take("triggers")] == [t.id for t in behind.take("triggers")]


def test_consent_is_checked_when_the_timer_fires() -> None:
    """Withdrawn between cart and message: suppressed."""
    stream = driver()
    withdrawn = event("Consent Changed", user="u1", at=60, purposes={"contact": False})
    stream.pipe(carted(), withdrawn)
    stream.advance(DAY)

    assert ([], ["no_consent"]) == (sent(stream), suppressed(stream))


@pytest.mark.parametrize(("silence", "expected"), [("allow", ["p1"]), ("deny", [])])
def test_silence_means_what_the_settings_say(silence: str, expected: list[str]) -> None:
    """consent.when_unknown decides where neither the user nor the campaign does."""
    settings = Settings(max_items=256, consent={"when_unknown": silence}, campaigns={"holdout_share": 0.0})
    stream = Driver(settings=settings, campaigns=[cart_campaign()])
    stream.pipe(carted())
    stream.advance(DAY)

    assert expected == sent(stream)


def test_silence_is_no_by_default() -> None:
    """The safe default: nobody who did not agree is written to."""
    stream = Driver(campaigns=[cart_campaign()])
    stream.pipe(carted())
    stream.advance(DAY)

    assert ["no_consent"] == suppressed(stream)


def test_unsubscribed_from_the_channel() -> None:
    """An Unsubscribed event of the e-mail provider silences that channel, consent or not."""
    stream = driver()
    stream.pipe(carted(), event("Unsubscribed", user="u1", at=5))
    stream.advance(DAY)

    assert ["unsubscribed"] == suppressed(stream)


def test_cooldown_counts_from_the_last_message() -> None:
    """Two messages of a campaign are at least cooldown_s apart."""
    stream = driver(campaign={"cooldown_s": 2 * HOUR}, policy={"daily_cap": None})
    stream.pipe(carted(0, "p1"), carted(HOUR, "p2"), carted(3 * HOUR, "p3"))
    stream.advance(DAY)

    assert (["p1", "p3"], ["cooldown"]) == (sent(stream), suppressed(stream))


def test_the_daily_cap_is_a_calendar_day_in_the_users_zone() -> None:
    """Cap 1: in Tokyo a message at 23:55 and one at 00:05 the next day both go out; in UTC only the first."""
    local_midnight = 15 * HOUR  # 2026-01-01T15:00Z is midnight in Tokyo
    first, second = local_midnight - 300 - 3900, local_midnight + 300 - 3900
    zones: dict[str, list[str]] = {}
    for zone in ("Asia/Tokyo", "UTC", "Not/AZone"):
        stream = driver(policy={"daily_cap": 1, "cooldowns": False})
        context = {"timezone": zone}
        stream.pipe(carted(first, "p1", context=context), carted(second, "p2", context=context))
        stream.advance(DAY)
        zones[zone] = sent(stream)

    assert {"Asia/Tokyo": ["p1", "p2"], "UTC": ["p1"], "Not/AZone": ["p1"]} == zones


def test_a_day_that_has_passed_does_not_empty_the_cap() -> None:
    """Cap 1: a message of today; a cart event of yesterday that came late; another of today: one is sent."""
    stream = driver(policy={"daily_cap": 1, "cooldowns": False})
    stream.pipe(carted(DAY, "p1"), event("Cart Viewed", user="u2", at=DAY + 3901))
    stream.pipe(carted(DAY - 5000, "p2"), event("Cart Viewed", user="u2", at=DAY + 3902))
    stream.pipe(carted(DAY + 4000, "p3"))
    stream.advance(DAY)

    assert (["p1"], ["frequency_capped"] * 2) == (sent(stream), suppressed(stream))


def test_transactional_messages_are_exempt_from_caps_and_holdout() -> None:
    """Message class transactional: no cap, no cooldown, no holdout; consent still counts."""
    stream = driver(
        campaign={"message_class": "transactional"}, policy={"daily_cap": 0, "holdout_share": 1.0}
    )
    stream.pipe(carted(0, "p1"), carted(1, "p2"))
    stream.advance(DAY)

    assert ["p1", "p2"] == sent(stream)


def test_a_held_out_message_consumes_the_cap() -> None:
    """Held out counts like sent, else the lift is biased: the second message meets the cap."""
    stream = driver(policy={"daily_cap": 1, "cooldowns": False, "holdout_share": 1.0})
    stream.pipe(carted(0, "p1"), carted(1, "p2"))
    stream.advance(DAY)

    assert ["holdout", "frequency_capped"] == suppressed(stream)


def test_the_holdout_is_sticky() -> None:
    """A user is held out from all messages or from none, and near the configured share of users are."""
    stream = driver(policy={"daily_cap": None, "cooldowns": False, "holdout_share": 0.2})
    for n in range(300):
        stream.pipe(carted(n, "p1", user=f"u{n}"), carted(n, "p2", user=f"u{n}"))
    stream.advance(DAY)
    decisions = stream.take("decisions")
    held = {d.user_id for d in decisions if d.kind == "holdout"}
    told = {d.user_id for d in decisions if d.kind == "trigger"}

    assert set() == held & told
    assert 300 == len(held | told)
    assert 30 < len(held) < 90  # 60 expected, standard deviation 7


def test_unavailable_items_are_not_advertised() -> None:
    """Checked on the catalogue as it is when the timer fires."""
    stream = driver(items=[Item(item_id="p1", version=1, stock=3)])
    stream.pipe(carted())
    stream.flush()
    stream.reference.items["p1"] = Item(item_id="p1", version=2, stock=0)
    stream.advance(DAY)

    assert ["ineligible"] == suppressed(stream)


def test_a_disabled_campaign_sends_nothing_at_once() -> None:
    """The kill switch acts on timers that are already armed."""
    stream = driver()
    stream.pipe(carted())
    stream.flush()
    stream.reference.campaigns["cart"] = cart_campaign(enabled=False)
    stream.advance(DAY)

    assert ["campaign_inactive"] == suppressed(stream)


def test_history_can_be_loaded_without_writing_to_anybody() -> None:
    """Messages before the go-live time are suppressed as backfill."""
    stream = driver(policy={"go_live": rfc3339(EPOCH + 2 * HOUR)})
    stream.pipe(carted(0, "p1"), carted(3 * HOUR, "p2"))
    stream.advance(DAY)

    assert (["p2"], ["backfill"]) == (sent(stream), suppressed(stream))


def test_a_message_that_is_too_old_expires() -> None:
    """Two days of records were missing: the watermark leaps over send_at + expires_after_s."""
    stream = driver(campaign={"expires_after_s": DAY})
    stream.pipe(carted(0), event("Cart Viewed", user="u2", at=2 * DAY + HOUR))

    assert ["expired"] == suppressed(stream)


def test_dry_run_is_marked() -> None:
    """The same pipeline; the message says so, and so do the decisions, of what was not sent, too."""
    for dry_run in (True, False):
        stream = driver(campaign={"dry_run": dry_run})
        stream.pipe(carted(), carted(1, "p2"))
        stream.advance(DAY)
        decisions = stream.take("decisions")

        assert [dry_run] == [trigger.dry_run for trigger in stream.take("triggers")]
        assert ["trigger", "suppression"] == [d.kind for d in decisions if d.campaign_id]
        assert {dry_run} == {d.dry_run for d in decisions if d.campaign_id}


def test_timers_per_user_are_bounded() -> None:
    """A bot with a thousand carted products arms 64 timers; the rest is counted."""
    stream = driver(policy={"daily_cap": None, "cooldowns": False})
    stream.pipe(*(carted(n / 10, f"p{n}") for n in range(200)))
    stream.flush()

    assert (64, 136) == (
        stream.counts["campaign", "cart", "armed"],
        stream.counts["campaign", "cart", "not_armed"],
    )


def test_browse_abandonment_needs_views_and_yields_to_the_cart() -> None:
    """Two views of a product arm; putting it into the cart hands over to the cart campaign."""
    browse = cart_campaign("browse", kind="browse_abandonment", delay_s=HOUR, min_views=2, consent=CONSENT)
    settings = Settings(max_items=256, campaigns={"holdout_share": 0.0, "daily_cap": None})
    stream = Driver(settings=settings, campaigns=[browse])
    views = [("u1", 0), ("u2", 1), ("u2", 2), ("u3", 3), ("u3", 4)]
    stream.pipe(*(event("Product Viewed", user=user, at=at, product_id="p1") for user, at in views))
    stream.pipe(carted(5, user="u3"))
    stream.advance(DAY)

    assert ["u2"] == [trigger.recipient.user_id for trigger in stream.take("triggers")]


def test_the_funnel_adds_up() -> None:
    """Armed = cancelled + eligible + pending, eligible = sent + suppressed."""
    stream = driver(policy={"daily_cap": 1})
    for n in range(50):
        stream.pipe(carted(n * 10, f"p{n % 7}", user=f"u{n % 5}"))
        if n % 6 == 0:
            stream.pipe(ordered(n * 10 + 5, f"p{n % 7}", user=f"u{n % 5}"))
    stream.advance(HOUR)
    counts = stream.counts
    suppressions = sum(n for key, n in counts.items() if key[:1] == ("campaign",) and "suppressed" in key)
    pending = stream.engine.state.pending_timers().get("cart", 0)

    assert counts["campaign", "cart", "armed"] == (
        counts["campaign", "cart", "cancelled"] + counts["campaign", "cart", "eligible"] + pending
    )
    assert counts["campaign", "cart", "eligible"] == counts["campaign", "cart", "sent"] + suppressions


def test_every_reason_is_reached_by_a_test_here() -> None:
    """The closed set of reasons and the tests of messages, here and as stories, cover one another."""
    folder = Path(__file__).parent
    stories = sorted((folder.parent / "scenarios").glob("*.jsonl"))
    others = [folder / "test_policy.py", folder.parent / "simulation" / "test_quarantine.py"]
    text = "".join(path.read_text() for path in [Path(__file__), *others, *stories])

    elsewhere = {"stopped"}
    reasons = {reason.value for reason in SuppressionReason} - elsewhere

    assert set() == {reason for reason in reasons if f'"{reason}"' not in text}


def test_the_zone_is_that_of_the_latest_event() -> None:
    """An order that comes a month late, made in Tokyo, does not move quiet hours back there."""
    stream = driver({"delay_s": 0.0}, {"quiet_hours": "21:00-08:00"})
    for name, at, zone in (
        ("Product Viewed", 30 * DAY, "Europe/Berlin"),
        ("Order Completed", 0.0, "Asia/Tokyo"),
    ):
        stream.pipe(event(name, user="u1", at=at, product_id="p2", context={"timezone": zone}))
    stream.pipe(event("Product Added", user="u1", at=30 * DAY + 14 * 3600, product_id="p1"))
    stream.advance(HOUR)

    assert ["Europe/Berlin"] == [trigger.time_zone for trigger in stream.take("triggers")]


def test_who_has_left_the_audience_is_not_written_to() -> None:
    """The audience is asked when the timer is armed, and again when the message is due."""
    stream = driver({"audience": Condition(fact="user.n_views", at_most=1)})
    views = [event("Product Viewed", user="u2", at=at, product_id="p1") for at in (1, 3, 4)]
    stream.pipe(carted(), views[0], carted(2, user="u2"), *views[1:])
    stream.advance(DAY)

    assert (["p1"], ["not_in_audience"]) == (sent(stream), suppressed(stream))
