"""What the simulated shop sells: items in categories, their drifting popularity, and offers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

__all__ = ["N_TRAITS", "Goods", "Offer", "catalogue", "draw_offers", "offers", "rfc3339", "stream"]

CURRENCY = "EUR"
N_TRAITS = 4  # latent traits of items and shoppers: enough that tastes within a category differ
_N_PHASES = 20  # popularity is a step function of time; 20 steps follow the drift closely
_ZIPF_EXPONENT = 0.9
_N_COMPANIONS = 4
# Keys of the Philox streams beside the shoppers', which have their index as key.
_GOODS_STREAM = 1 << 40
_OFFERS_STREAM = _GOODS_STREAM + 1

_NOUNS = {
    "Running": ("shoe", "short", "jacket", "cap", "sock"),
    "Cycling": ("helmet", "jersey", "glove", "lamp", "pump"),
    "Hiking": ("boot", "backpack", "pole", "map case", "gaiter"),
    "Camping": ("tent", "sleeping bag", "stove", "lantern", "mug"),
    "Climbing": ("harness", "rope", "chalk bag", "carabiner", "crash pad"),
    "Swimming": ("goggles", "towel", "swimsuit", "fin", "nose clip"),
    "Winter": ("ski", "beanie", "thermal shirt", "sledge", "snow goggle"),
    "Yoga": ("mat", "block", "strap", "bolster", "leggings"),
    "Fishing": ("rod", "reel", "landing net", "waders", "tackle box"),
    "Team sports": ("ball", "net", "shin guard", "jersey", "whistle"),
}
_ADJECTIVES = ("Alpine", "Light", "Classic", "Storm", "Urban", "Trail", "Pro", "Easy", "Nordic", "Coast")
_BRANDS = ("Aldra", "Berno", "Cimbra", "Dolma", "Elvik", "Fjeld", "Garo", "Halden")
_COLOURS = ("black", "blue", "green", "grey", "orange", "red", "white")


def stream(seed: int, key: int) -> np.random.Generator:
    """One random stream of the shop; streams of different keys are independent."""
    return np.random.Generator(np.random.Philox(key=[seed, key]))


def rfc3339(time_s: float) -> str:
    """UTC time with milliseconds, from seconds since the epoch."""
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=round(time_s * 1000))
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer and how shoppers truly respond to it.

    Attributes
    ----------
    cost, value : float
        What giving it costs, and what a click on it is worth, in :data:`CURRENCY`.
    click_rate : float
        Probability that an average shopper who sees it clicks.
    buy_rate : float
        Probability that a shopper who clicked it buys.
    for_bargain_hunters : bool
        Whether price-sensitive shoppers like it more, and others less.
    """

    offer_id: str
    cost: float
    value: float
    click_rate: float
    buy_rate: float
    for_bargain_hunters: bool


class Goods:
    """Items of one shop.

    Parameters
    ----------
    seed : int
        The shop's seed.
    n_items : int
        Number of items, at least 40 (four of each category and some to drift).

    Attributes
    ----------
    products : list[dict[str, Any]]
        Per item the product fields of the Segment spec: id, name, category, brand, price, currency.
    category_of : NDArray[np.int64]
        Category of each item, shape ``(n_items,)``.
    traits : NDArray[np.float64]
        Latent traits of each item, shape ``(n_items, N_TRAITS)``.
    bestseller : int
        The item that becomes the most popular one halfway; unpopular before.
    """

    def __init__(self, seed: int, n_items: int = 300) -> None:
        self.categories = tuple(_NOUNS)
        if n_items < 4 * len(self.categories):
            raise ValueError(
                f"n_items is {n_items}; at least {4 * len(self.categories)}: four for each of the categories"
            )
        rng = stream(seed, _GOODS_STREAM)
        self.n_items = n_items
        # Dealt in turn, so that no category is empty, whatever the seed.
        self.category_of: NDArray[np.int64] = np.arange(n_items) % len(self.categories)
        self.traits = rng.normal(0.0, 1.0, (n_items, N_TRAITS)) / np.sqrt(N_TRAITS)
        self.products = [self._product(item, rng) for item in range(n_items)]
        self.stock: list[int] = rng.integers(5, 500, n_items).tolist()
        self.colours = [_COLOURS[n] for n in rng.integers(0, len(_COLOURS), n_items)]
        # Accessories: items that are looked at after this one, anywhere in the shop.
        self.companions: list[list[int]] = rng.integers(0, n_items, (n_items, _N_COMPANIONS)).tolist()
        self.index = {product["product_id"]: item for item, product in enumerate(self.products)}
        ranks = rng.permutation(n_items)
        self.bestseller = int(np.argmax(ranks))
        # Some ranks change hands over time: the end's popularity is the start's with noise on the logarithm.
        first = np.power(1.0 + ranks.astype(np.float64), -_ZIPF_EXPONENT)
        last = first * np.exp(rng.normal(0.0, 1.0, n_items))
        self._popularity = [self._weights(first, last, phase / _N_PHASES) for phase in range(_N_PHASES)]
        members = [np.flatnonzero(self.category_of == c) for c in range(len(self.categories))]
        self._members = members
        self._cumulated = [
            [np.cumsum(weights[items]) / weights[items].sum() for items in members]
            for weights in self._popularity
        ]

    def popularity(self, progress: float) -> NDArray[np.float64]:
        """Weight of each item, shape ``(n_items,)``, at a point of the simulation (0 start, 1 end)."""
        return self._popularity[_phase(progress)]

    def draw(self, rng: np.random.Generator, category: int, n: int, progress: float) -> list[int]:
        """At most `n` different items of a category, popular ones more often and nearer the top."""
        cumulated = self._cumulated[_phase(progress)][category]
        places = np.searchsorted(cumulated, rng.random(n + n // 2))
        items = self._members[category]
        return list(dict.fromkeys(int(items[min(place, len(items) - 1)]) for place in places))[:n]

    def _product(self, item: int, rng: np.random.Generator) -> dict[str, Any]:
        category = self.categories[self.category_of[item]]
        nouns = _NOUNS[category]
        adjective = _ADJECTIVES[rng.integers(len(_ADJECTIVES))]
        return {
            "product_id": f"p{item:04d}",
            "name": f"{adjective} {nouns[rng.integers(len(nouns))]}",
            "category": category,
            "brand": _BRANDS[rng.integers(len(_BRANDS))],
            "price": round(float(rng.lognormal(3.5, 0.7))) + 0.95,
            "currency": CURRENCY,
        }

    def _weights(
        self, first: NDArray[np.float64], last: NDArray[np.float64], progress: float
    ) -> NDArray[np.float64]:
        weights = (1.0 - progress) * first + progress * last
        if progress >= 1 / 2:
            weights[self.bestseller] = 2.0 * weights.max()
        result: NDArray[np.float64] = weights / weights.sum()
        return result


def _phase(progress: float) -> int:
    return min(_N_PHASES - 1, max(0, int(progress * _N_PHASES)))


def draw_offers(seed: int) -> tuple[Offer, ...]:
    """Four offers; which of them shoppers like best depends on the seed, and one is clearly best."""
    rates = stream(seed, _OFFERS_STREAM).permutation([0.04, 0.08, 0.12, 0.25]).tolist()
    names = (
        ("free-shipping", True),
        ("ten-percent-off", True),
        ("free-gift", False),
        ("early-access", False),
    )
    return tuple(
        # A cost that grows with the appeal, but less: the best liked is also the best paying.
        Offer(offer_id, round(rate / 2, 3), 4.0, rate, 0.3, bargain)
        for (offer_id, bargain), rate in zip(names, rates, strict=True)
    )


@lru_cache(maxsize=8)
def goods(seed: int, n_items: int) -> Goods:
    """Items of one shop, built once: they never change."""
    return Goods(seed, n_items)


def catalogue(seed: int, *, n_items: int = 300, start: float = 0.0) -> Iterator[bytes]:
    """Catalogue records of the shop's items, by id, without line ends.

    Parameters
    ----------
    start : float
        ``updated_at`` of each item, seconds since the epoch.
    """
    wares = goods(seed, n_items)
    for item, product in enumerate(wares.products):
        fields = {key: value for key, value in product.items() if key != "product_id"}
        yield orjson.dumps(
            {
                "item_id": product["product_id"],
                "version": 1,
                **fields,
                "stock": wares.stock[item],
                "attributes": {"colour": wares.colours[item]},
                "updated_at": rfc3339(start),
            }
        )


def offers(seed: int, *, start: float = 0.0) -> Iterator[bytes]:
    """Offer records of the shop, without line ends; their true rates stay the shop's secret.

    Parameters
    ----------
    start : float
        When they become active, seconds since the epoch.
    """
    for offer in draw_offers(seed):
        yield orjson.dumps(
            {
                "offer_id": offer.offer_id,
                "version": 1,
                "cost": offer.cost,
                "value": offer.value,
                "currency": CURRENCY,
                "active_from": rfc3339(start),
            }
        )
