"""Live quality through the driver: each measure against one computed from the outputs alone."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from schemas.catalogue import Offer
from schemas.codec import parse_time
from schemas.outputs import Decision
from stream.core.quality import ENOUGH, EVERY
from stream.settings import Settings
from stream.testing import EPOCH, Driver, event

SMALL: dict[str, Any] = {"max_items": 256, "click_slots": 2**10}
DAY = 86_400.0


def browsing(n_users: int = 30, n_events: int = 400) -> list[tuple[str, float, str]]:
    """(user, time, item) of users who walk along a chain of items, some steps at random."""
    rng = np.random.default_rng(11)
    at, places = 0.0, [0] * n_users
    found = []
    for _ in range(n_events):
        user = int(rng.integers(n_users))
        places[user] = places[user] + 1 if rng.random() < 0.7 else int(rng.integers(60))
        at += 40.0
        found.append((f"u{user}", at, f"i{places[user] % 60}"))
    return found


def views(batch_size: int = 1) -> Driver:
    """A driver that has seen the browsing users."""
    stream = Driver(settings=Settings(**SMALL), batch_size=batch_size)
    stream.pipe(
        *(event("Product Viewed", user=user, at=at, product_id=item) for user, at, item in browsing())
    )
    stream.flush()
    return stream


def test_a_slate_is_judged_by_the_next_event_of_its_user() -> None:
    """Hits counted from the recommendations that went out, of every fourth event, weighted by time."""
    stream = views()
    shown: dict[str, tuple[float, set[str]]] = {}
    sent = {
        (r.user_id, r.cause.timestamp): {i.item_id for i in r.items} for r in stream.take("recommendations")
    }
    slates = {(user, round(parse_time(time))): items for (user, time), items in sent.items()}
    weights, hits, met, seen = [], [], dict[str, set[str]](), Counter[str]()
    for user, at, item in browsing():
        time = EPOCH + at
        before = met.setdefault(user, set())
        seen[user] += 1
        if item not in before and user in shown and seen[user] % EVERY == 0:
            weights.append(2.0 ** ((time - EPOCH) / DAY))
            hits.append(item in shown[user][1])
        shown.pop(user, None)
        before.add(item)
        if (user, round(time)) in slates:
            shown[user] = time, slates[user, round(time)]
    expected = np.dot(weights, hits) / np.sum(weights)
    told = stream.models.live.snapshot(60)["slate_hit_rate"]

    assert 30 < len(hits)
    assert expected == pytest.approx(told["shown"])
    assert told["shown"] > told["popularity"] > 0.0


def test_popularity_is_judged_on_the_same_events() -> None:
    """Everybody takes the bestseller fourth: slates and lists of one item find it, once they know it."""
    stream = Driver(settings=Settings(**SMALL, recommend={"n_items": 1, "min_interval_s": 0.0}))
    for n in range(40):
        items = "entry-a", "entry-b", "entry-c", "bestseller"
        for place, item in enumerate(items):
            at = 100.0 * n + 10 * place
            stream.pipe(event("Product Viewed", user=f"u{n}", at=at, product_id=item))
    stream.flush()
    told = stream.models.live.snapshot(0)["slate_hit_rate"]

    assert 0.8 < told["popularity"] <= 1.0
    assert 0.8 < told["shown"] <= 1.0


def test_coverage_and_gini_are_those_of_the_slates() -> None:
    """From the items of all recommendations, over a catalogue of 60."""
    stream = views()
    exposure = np.zeros(60)
    for slate in stream.take("recommendations"):
        weight = 2.0 ** ((parse_time(slate.produced_at) - EPOCH) / DAY)
        for item in slate.items:
            exposure[int(item.item_id[1:])] += weight
    told = stream.models.live.snapshot(60)
    pairs = np.abs(exposure[:, None] - exposure[None, :]).mean()

    assert (exposure > 0).mean() == pytest.approx(told["catalogue_coverage"][""])
    assert pairs / (2 * exposure.mean()) == pytest.approx(told["exposure_gini"][""], rel=1e-6)


def offers_made() -> tuple[Driver, list[Decision], set[str]]:
    """Decisions between three offers, and which of them were answered: by every other user of offer good."""
    made = [
        Offer(offer_id=name, version=1, cost=0.0, value=10.0, currency="EUR")
        for name in ("bad", "good", "so")
    ]
    stream = Driver(settings=Settings(**SMALL), offers=made)
    decisions: list[Decision] = []
    answered: set[str] = set()
    for n in range(300):
        stream.pipe(event("Product Added", user=f"u{n}", at=60.0 * n, product_id="p"))
        (decision,) = [one for one in stream.take("decisions") if one.kind == "offer"]
        decisions.append(decision)
        if decision.action == "good" and n % 2:
            answered.add(decision.decision_id)
            stream.pipe(
                event("Promotion Clicked", user=f"u{n}", at=60.0 * n + 30, promotion_id=decision.action)
            )
    stream.flush()
    return stream, decisions, answered


def test_the_value_of_policies_is_ips_of_the_decision_log() -> None:
    """Importance weights and their sums from the decisions as logged."""
    stream, decisions, answered = offers_made()
    w = np.array([2.0 ** ((parse_time(d.decided_at) - EPOCH) / DAY) for d in decisions])
    reward = np.array([d.decision_id in answered for d in decisions], float)
    weights = {
        "running": np.ones(len(decisions)),
        "greedy": np.array([(d.reason == "best") / d.propensity for d in decisions]),
        "uniform": np.array([1.0 / (len(d.eligible) * d.propensity) for d in decisions]),
    }
    told = stream.models.live.snapshot(0)["offer_policy_value"]
    for policy, importance in weights.items():
        scores = importance * reward
        mean = (w @ scores) / w.sum()
        width = 1.959964 * math.sqrt(w**2 @ (scores - mean) ** 2) / w.sum()

        assert mean == pytest.approx(told[f"{policy}.estimate"])
        assert mean - width == pytest.approx(told[f"{policy}.low"])
        assert mean + width == pytest.approx(told[f"{policy}.high"])
    assert 0 < len(answered)


def test_entropy_is_that_of_the_chosen_offers() -> None:
    """Shares of the actions in the decision log, "nothing" among them."""
    stream, decisions, _ = offers_made()
    shares: dict[str, float] = {}
    for decision in decisions:
        weight = 2.0 ** ((parse_time(decision.decided_at) - EPOCH) / DAY)
        shares[decision.action] = shares.get(decision.action, 0.0) + weight
    p = np.array([*shares.values()]) / sum(shares.values())
    told = stream.models.live.snapshot(0)["offer_entropy"]

    assert -(p @ np.log(p)) == pytest.approx(told[""])


def test_a_number_with_too_little_behind_it_is_left_out() -> None:
    """Of a hundred slates coverage is told and of ninety-nine not; of a worker that saw nothing no number."""
    stream = Driver(settings=Settings(**SMALL, recommend={"min_interval_s": 0.0}))
    live, n_slates = stream.models.live, 0
    for user, at, item in browsing():
        stream.pipe(event("Product Viewed", user=user, at=at, product_id=item))
        n_slates += len(stream.take("recommendations"))
        told = {measure for measure, numbers in live.snapshot(60, ENOUGH).items() if numbers}
        assert told <= {"catalogue_coverage", "exposure_gini", "slate_hit_rate"}
        assert ("catalogue_coverage" in told) == ("exposure_gini" in told) == (n_slates >= ENOUGH)
        assert ("slate_hit_rate" in told) == (live._hits.n >= ENOUGH)
    assert n_slates > ENOUGH
    for n in range(ENOUGH):
        assert not live.snapshot(60, ENOUGH)["log_loss"]
        assert "offer_entropy" not in live.snapshot(60, ENOUGH)
        live.losses["clicks"].update(float(n % 2), 0.5, 1.0, EPOCH + n)
        live._arms.update("a", EPOCH + n)
    assert ["clicks"] == [*live.snapshot(60, ENOUGH)["log_loss"]]
    assert "offer_entropy" in live.snapshot(60, ENOUGH)
    unseen = Driver(settings=Settings(**SMALL)).models.live
    assert not any(unseen.snapshot(60).values())


def test_batches_change_nothing() -> None:
    """One record at a time or a hundred: the same numbers to the last bit."""
    assert views(1).models.live.snapshot(60) == views(100).models.live.snapshot(60)
