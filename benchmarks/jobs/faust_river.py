"""Faust and River put together the straightforward way: an agent, a table of users, River's models.

For each event, which Faust decodes from JSON, one at a time:

- the user's row of the table is brought up to date: the last 64 items, counts by kind, last slate and offer;
  Faust sends it to the table's changelog (in memory, default settings);
- for each item of a view, click, wish, cart or order ``reco.BiasedMF`` learns the pair as 1 and one popular
  item as 0; popularity and what follows what are counted;
- a list shown is a click example for ``linear_model.LogisticRegression`` on hashed features, learned when the
  user clicks (1) or sees the next list (0);
- a slate of ten of up to 70 candidates (50 popular, 20 that followed the last item), ranked by BiasedMF,
  without what the user has seen, at most every 60 s of the user's event time; on request always;
- at cart and checkout ``bandit.ThompsonSampling`` chooses one of four offers or nothing, at most every 30
  minutes, and learns whether an order came before the next.

What it does less than the worker: models live in the process only, so a restart forgets them, a second
worker learns its own, and a rebalance splits what was learned; a slate or an update may be lost or doubled
(at least once by timer, River's models outside of any commit); no check of what comes in, no duplicates, no
late events, no dead letters; no campaigns with delays, caps, quiet hours and holdouts; no catalogue, consent,
budgets or eligibility; no reasons, propensities, decision log or progressive metrics; one source of scores
and no online blend. Started by ``benchmarks/end_to_end.py`` as ``faust -A benchmarks.jobs.faust_river
worker`` with the environment below.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

import faust
from river import bandit, linear_model, optim, preprocessing, proba, reco

KINDS = {
    "Product Viewed": "view",
    "Product Clicked": "click",
    "Product Added to Wishlist": "wish",
    "Product Added": "cart",
    "Order Completed": "order",
}
REQUEST, LIST, CLICK = "Recommendations Requested", "Product List Viewed", "Product Clicked"
OFFER_AT = {"Product Added", "Cart Viewed", "Checkout Started"}
OFFERS: list[int | str] = ["nothing", "free-shipping", "ten-percent-off", "free-gift", "early-access"]
RING, N_ITEMS, N_POPULAR, N_FOLLOWERS = 64, 10, 50, 20
SLATE_S, OFFER_S = 60.0, 1800.0
LOOK_EVERY = (
    100  # interactions between two looks for the most popular items: to sort them each time costs more
)

Profile = dict[str, Any]

app = faust.App(
    os.environ["ECHO_GROUP"],
    broker=f"kafka://{os.environ['ECHO_BOOTSTRAP']}",
    topic_partitions=int(os.environ["ECHO_PARTITIONS"]),  # a table needs as many as its source
)
source = app.topic(os.environ["ECHO_SOURCE"], key_type=str)
target = app.topic(os.environ["ECHO_TARGET"], key_type=str)
users = app.Table("users", default=dict)


class Advisor:
    """River's models, and what they need to be asked."""

    def __init__(self) -> None:
        start = optim.initializers.Normal(sigma=0.1, seed=1)
        self._ranker: Any = reco.BiasedMF(n_factors=16, latent_initializer=start, seed=1)
        hasher = preprocessing.FeatureHasher(n_features=2**18, seed=1)
        self._clicks = hasher | linear_model.LogisticRegression()
        self._policy: Any = bandit.ThompsonSampling(reward_obj=proba.Beta(), seed=1)
        self._seen: Counter[str] = Counter()
        self._popular: list[str] = []
        self._followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._n = 0

    def learn(self, user: str, item: str, before: str | None) -> None:
        """Learn that a user took an item, and did not take a popular one."""
        self._seen[item] += 1
        if self._n % LOOK_EVERY == 0:
            self._popular = [popular for popular, _ in self._seen.most_common(N_POPULAR)]
        self._n += 1
        if before is not None and before != item:
            self._followers[before][item] += 1
        self._ranker.learn_one(user, item, 1.0)
        other = self._popular[self._n % len(self._popular)]
        if other != item:
            self._ranker.learn_one(user, other, 0.0)

    def learn_click(self, user: str, item: str, position: int, *, clicked: bool) -> None:
        """Learn whether an item of a list was clicked."""
        features = {"user": user, "item": item, "position": str(position), "both": f"{user} {item}"}
        self._clicks.learn_one(features, clicked)

    def slate(self, user: str, recent: list[str]) -> list[str]:
        """Rank popular items and what followed the last item; nothing that the user has seen."""
        candidates = set(self._popular)
        if recent:
            followers = self._followers.get(recent[0], Counter())
            candidates.update(item for item, _ in followers.most_common(N_FOLLOWERS))
        candidates.difference_update(recent)
        ranked: list[str] = self._ranker.rank(user, candidates)
        return ranked[:N_ITEMS]

    def choose(self) -> str:
        """Draw an offer."""
        return str(self._policy.pull(OFFERS))

    def reward(self, offer: str, *, ordered: bool) -> None:
        """Learn how an offer ended."""
        self._policy.update(offer, ordered)


advisor = Advisor()


def learn(profile: Profile, user: str, name: str, properties: dict[str, Any]) -> None:
    """Bring models and profile up to date with one event."""
    if name == LIST:
        for item, position in profile.get("shown", {}).items():
            advisor.learn_click(user, item, position, clicked=False)
        rows = properties.get("products", [])
        profile["shown"] = {row["product_id"]: n for n, row in enumerate(rows)}
    if name not in KINDS:
        return
    profile[KINDS[name]] = profile.get(KINDS[name], 0) + 1
    recent: list[str] = profile.setdefault("recent", [])
    for row in properties.get("products", [properties]):
        item = row["product_id"]
        if name == CLICK and item in profile.get("shown", {}):
            advisor.learn_click(user, item, profile["shown"].pop(item), clicked=True)
        advisor.learn(user, item, recent[0] if recent else None)
        recent = [item, *itertools.islice((one for one in recent if one != item), RING - 1)]
    profile["recent"] = recent
    if name == "Order Completed" and "offer" in profile:
        advisor.reward(profile.pop("offer"), ordered=True)


def offer(profile: Profile, name: str, at: float) -> str | None:
    """Choose an offer where one is due."""
    if name not in OFFER_AT or at - profile.get("offer_at", 0.0) < OFFER_S:
        return None
    if "offer" in profile:
        advisor.reward(profile.pop("offer"), ordered=False)
    profile["offer"], profile["offer_at"] = advisor.choose(), at
    return str(profile["offer"])


def slate(profile: Profile, user: str, name: str, at: float) -> list[str]:
    """Rank a slate where one is due; empty where not."""
    if name != REQUEST and (name not in KINDS or at - profile.get("slate_at", 0.0) < SLATE_S):
        return []
    profile["slate_at"] = at
    return advisor.slate(user, profile.get("recent", []))


@app.agent(source)
async def advise(stream: faust.StreamT[dict[str, Any]]) -> None:
    """Learn from each event, and answer those that call for it."""
    async for event in stream:
        user = event.get("userId") or event["anonymousId"]
        name, at = event["event"], datetime.fromisoformat(event["timestamp"]).timestamp()
        profile = users[user]
        learn(profile, user, name, event.get("properties", {}))
        items = slate(profile, user, name, at)
        chosen = offer(profile, name, at)
        if items:
            answer = {"user_id": user, "items": items, "cause": event["messageId"]}
            await target.send(key=user, value=answer)  # type: ignore[unused-awaitable]
        if chosen is not None:
            answer = {"user_id": user, "offer": chosen, "cause": event["messageId"]}
            await target.send(key=user, value=answer)  # type: ignore[unused-awaitable]
        users[user] = profile
