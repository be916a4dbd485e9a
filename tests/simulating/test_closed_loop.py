"""The shop reacts to what is published, with the true preferences that it states."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import orjson
import pytest

from stream.simulating import Shop

START = 1_700_000_000.0


def events_of(shop: Shop, seconds: float) -> list[dict[str, Any]]:
    """Let time pass; return what happened."""
    return [orjson.loads(record) for record in shop.next_events(shop.now + seconds)]


def quiet_shop(**arguments: Any) -> Shop:
    """Open a shop whose only promotions are those it is told to show."""
    return Shop(
        11,
        start=START,
        **{"n_users": 200, "promotion_share": 0.0, "hostile_share": 0.0, "events_per_s": 100.0, **arguments},
    )


def test_a_recommendation_is_shown_and_clicked_with_its_decision_id() -> None:
    """Lists that match true tastes are clicked more often than the opposite; both echo the decision."""
    shop = quiet_shop(n_users=100)
    ranked = {
        user_id: sorted(shop.goods.index, key=lambda item: -shop.appeal(item, user_id))
        for user_id in shop.user_ids
    }
    rates = {}
    for name, part in (("best", slice(None, 5)), ("worst", slice(-5, None))):
        shown = clicked = 0
        for n in range(20):
            for user_id in shop.user_ids:
                shop.react(
                    {
                        "id": "r",
                        "user_id": user_id,
                        "slot": "home",
                        "decision_id": f"{name}-{n}-{user_id}",
                        "items": [{"item_id": item, "score": 1.0} for item in ranked[user_id][part]],
                    }
                )
            for event in events_of(shop, 5.0):
                if str(event["properties"].get("decision_id", "")).startswith(name):
                    shown += event["event"] == "Product List Viewed"
                    clicked += event["event"] == "Product Clicked"
                    assert event["properties"]["list_id"] == "recommendations-home"
        rates[name] = clicked / shown
    assert rates["best"] > 0.7
    assert rates["worst"] < 0.2


def test_offers_are_clicked_with_the_stated_probability() -> None:
    """Observed click and purchase shares agree with the truth within four standard errors."""
    shop = quiet_shop(events_per_s=5.0)
    user_ids = shop.user_ids
    seen: Counter[tuple[str, str]] = Counter()
    for _ in range(40):
        for offer_id in shop.offers:
            for user_id in user_ids:
                shop.react(
                    {"kind": "offer", "user_id": user_id, "action": offer_id, "decision_id": f"d-{offer_id}"}
                )
        for event in events_of(shop, 60.0):
            if event["event"] in {"Promotion Viewed", "Promotion Clicked"}:
                seen[event["properties"]["promotion_id"], event["event"]] += 1
                assert event["properties"]["decision_id"] == f"d-{event['properties']['promotion_id']}"
    for offer_id in shop.offers:
        n_shown = seen[offer_id, "Promotion Viewed"]
        truth = float(np.mean([shop.click_probability(offer_id, user_id) for user_id in user_ids]))
        error = (truth * (1 - truth) / n_shown) ** 0.5
        assert n_shown > 7000
        assert seen[offer_id, "Promotion Clicked"] / n_shown == pytest.approx(truth, abs=4 * error)


def test_a_bandit_moves_to_the_better_offer() -> None:
    """Beta Thompson sampling on the shop's own feedback gives the best offer most of the last rounds."""
    shop = quiet_shop()
    rng = np.random.Generator(np.random.Philox(5))
    offer_ids = list(shop.offers)
    shown, clicked = Counter(dict.fromkeys(offer_ids, 1)), Counter(dict.fromkeys(offer_ids, 1))
    best = shop.best_offer(shop.user_ids[0])
    shares = []
    for n in range(40):
        chosen: Counter[str] = Counter()
        for user_id in shop.user_ids[:100]:
            draws = [rng.beta(clicked[o], max(1, shown[o] - clicked[o])) for o in offer_ids]
            action = offer_ids[int(np.argmax(draws))]
            chosen[action] += 1
            shop.react(
                {"kind": "offer", "user_id": user_id, "action": action, "decision_id": f"{n}-{user_id}"}
            )
        for event in events_of(shop, 10.0):
            if event["event"] == "Promotion Viewed":
                shown[event["properties"]["promotion_id"]] += 1
            elif event["event"] == "Promotion Clicked":
                clicked[event["properties"]["promotion_id"]] += 1
        shares.append(chosen[best] / chosen.total())
    assert shares[0] < 0.5
    assert np.mean(shares[-10:]) > 0.8


def test_the_best_offer_is_clear_whatever_the_seed() -> None:
    """One offer is the best for every shopper, by a quarter at least; which one depends on the seed."""
    bests = set()
    for seed in range(12):
        shop = Shop(seed, start=START, n_users=20)
        for user_id in shop.user_ids:
            values = sorted(
                (shop.expected_value(offer_id, user_id) for offer_id in shop.offers), reverse=True
            )
            assert values[0] > 1.25 * values[1]
            assert values[-1] > 0
            bests.add((seed, shop.best_offer(user_id)))
    assert len(bests) == 12
    assert len({offer_id for _, offer_id in bests}) > 1


def test_a_trigger_becomes_an_e_mail_and_sometimes_a_visit() -> None:
    """Delivered, opened, clicked, in falling numbers, with both ways of echoing; then the product's page."""
    shop = quiet_shop(n_users=400, anonymous_share=0.0, deny_share=0.0)
    users = shop.user_ids
    for user_id in users:
        shop.react(
            {
                "id": f"t-{user_id}",
                "campaign_id": "cart",
                "recipient": {"user_id": user_id},
                "context": {"product_id": "p0007"},
                "decision": {"decision_id": f"d-{user_id}"},
            }
        )
    events = [e for e in events_of(shop, 120.0) if e["properties"].get("campaign_id") == "cart"]
    counts = Counter(event["event"] for event in events)
    assert counts["Email Delivered"] == len(users)
    assert len(users) > counts["Email Opened"] > counts["Email Link Clicked"] > 20
    for event in events:
        assert event["properties"]["decision_id"] == f"d-{event['userId']}"
        assert event["context"]["campaign"]["content"] == event["properties"]["decision_id"]


def test_a_reaction_changes_nothing_for_the_other_shoppers() -> None:
    """What one shopper is shown moves no draw of another: two policies can be compared on the same crowd."""
    told, untold = quiet_shop(), quiet_shop()
    someone = told.user_ids[3]
    for n in range(10):
        told.react({"kind": "offer", "user_id": someone, "action": "free-gift", "decision_id": f"d{n}"})
    others = [
        [
            event
            for event in events_of(shop, 60.0)
            if someone not in {event.get("userId"), event.get("anonymousId")}
        ]
        for shop in (told, untold)
    ]
    assert others[0] == others[1]
    assert others[0]


@pytest.mark.parametrize(
    "decision",
    [
        {},
        {"kind": "offer", "user_id": "stranger", "action": "free-gift", "decision_id": "d"},
        {"kind": "offer", "user_id": "u00000", "action": "nothing", "decision_id": "d"},
        {"kind": "suppression", "user_id": "u00000", "action": "free-gift", "decision_id": "d"},
        {"slot": "home", "items": [{"item_id": "unknown"}], "user_id": "u00000", "decision_id": "d"},
        {"slot": "home", "items": ["p0001"], "user_id": "u00000", "decision_id": "d"},
        {"slot": "home", "items": [{"item_id": "p0001"}], "user_id": "u00000"},
        {"campaign_id": "c", "recipient": None},
        {"campaign_id": "c", "recipient": {"user_id": "stranger"}},
    ],
)
def test_what_concerns_nobody_changes_nothing(decision: dict[str, Any]) -> None:
    """Strangers, unknown offers and items, other kinds of decision: the shop goes on as if never told."""
    told, untold = quiet_shop(anonymous_share=0.0), quiet_shop(anonymous_share=0.0)
    told.react(decision)
    assert told.next_events(START + 20.0) == untold.next_events(START + 20.0)
