"""How a simulated shopper behaves: visits as sequences of steps.

A visit is a generator of :class:`Step`: what happens now, and how long the shopper takes until the next one.
Each step is chosen when its time has come, so what the shop showed and the shopper did meanwhile counts.
Each shopper has a random stream of its own: a decision for one changes nothing for the others.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stream.simulating.goods import CURRENCY, N_TRAITS, Goods, Offer, stream

__all__ = ["Shopper", "Step", "Steps"]

_LIST_LENGTH = 8
_EXAMINED = 0.85  # of those who looked at one place of a list, the share who look at the next
_PAGE_LOAD = 0.1  # units of thinking time between a click and the page it opens
_MAX_PAGES = 12  # a visit ends after so many pages of lists at the latest
_PURPOSES = ("personalise", "learn", "contact")


class Step(NamedTuple):
    """Something a shopper does.

    Attributes
    ----------
    think : float
        How long until the next step, in units of the shop's mean thinking time.
    event : str
        Name of the event.
    properties, context : dict[str, Any]
        As the Segment spec has them.
    """

    think: float
    event: str
    properties: dict[str, Any]
    context: dict[str, Any] | None = None


Steps = Generator[Step, None, None]


@dataclass(frozen=True, slots=True)
class Recommended:
    """A published recommendation that waits for the shopper's next page."""

    decision_id: str
    slot: str
    items: tuple[int, ...]


class Shopper:
    """One user or anonymous visitor of the shop, with fixed tastes.

    Parameters
    ----------
    index : int
        Key of the shopper's random stream, beside the shop's seed.
    anonymous_share, deny_share : float
        Probability to stay anonymous; probability to deny consent when asked.
    """

    def __init__(
        self,
        seed: int,
        index: int,
        goods: Goods,
        offers: Sequence[Offer],
        *,
        anonymous_share: float,
        deny_share: float,
        promotion_share: float,
    ) -> None:
        self.rng = rng = stream(seed, index)
        self._goods = goods
        self._offers = offers
        self._promotion_share = promotion_share
        self.anonymous = self._happens(anonymous_share)
        self.id = f"{'a' if self.anonymous else 'u'}{index:05d}"
        self.activity = float(rng.gamma(2.0, 0.5))
        self.bargain_hunter = self._happens(1 / 2)
        self.denies = self._happens(deny_share)
        self.taste = rng.dirichlet(np.full(len(goods.categories), 0.3))
        self._taste_cumulated = np.cumsum(self.taste)
        self._traits = rng.normal(0.0, 1.0, N_TRAITS)
        self.progress = 0.0  # of the simulation, 0 to 1; kept up by the shop
        self.contactable = not self.anonymous
        self.waiting: list[Recommended] = []
        self.later: list[tuple[float, Steps]] = []  # what starts after so many units of thinking time
        self._cart: dict[int, int] = {}
        self._coupon: str | None = None
        self._n_visits = 0
        self._n_orders = 0

    # --- truth -----------------------------------------------------------------------------------------

    def appeal(self, item: int) -> float:
        """Probability that the shopper clicks an item that caught the eye."""
        # Relative to an even taste; the logarithm keeps a single loved category from drowning the rest.
        liking = math.log(0.02 + self.taste[self._goods.category_of[item]] * len(self.taste))
        return 1.0 / (1.0 + math.exp(2.2 - 0.6 * liking - float(self._traits @ self._goods.traits[item])))

    def click_probability(self, offer: Offer) -> float:
        """Probability that the shopper clicks an offer when it is shown."""
        return offer.click_rate * (1.2 if offer.for_bargain_hunters == self.bargain_hunter else 0.8)

    # --- visits ----------------------------------------------------------------------------------------

    def visit(self, came_for: int | None = None) -> Steps:
        """Visit the shop once; a shopper who came for an item looks at it first."""
        yield from self._arrive(came_for)
        for _ in range(_MAX_PAGES):
            if self.waiting:
                yield from self._recommended(self.waiting.pop())
            yield from self._list_page()
            if self._happens(0.35):
                break
        if self._cart and self._happens(0.55):
            yield from self._check_out()
        if self.contactable and self._happens(0.15):
            self.later.append((20.0 * self._pause(), self.email("newsletter", "newsletter", None)))

    def _arrive(self, came_for: int | None) -> Steps:
        """Answer about consent, look at what one came for or left in the cart, see the home page."""
        self._n_visits += 1
        if self._n_visits == 1 and self._happens(0.9):
            yield self._answer_consent(allow=not self.denies)
        elif self._happens(0.01):
            yield self._answer_consent(allow=not self.contactable)
        if came_for is not None:
            yield from self._item_page(came_for, {})
        if self._cart and self._happens(0.4):
            yield from self._check_out()
        if self._happens(0.35):
            yield Step(self._pause(), "Recommendations Requested", {"slot": "home"})
        if self._happens(self._promotion_share):
            yield from self.promotion(self._offers[int(self.rng.integers(len(self._offers)))], None)

    def promotion(self, offer: Offer, decision_id: str | None) -> Steps:
        """Show an offer; the shopper clicks, and buys, with the true probabilities."""
        echo = {} if decision_id is None else {"decision_id": decision_id}
        shown = {"promotion_id": offer.offer_id, "name": offer.offer_id, "position": "banner", **echo}
        yield Step(self._pause(), "Promotion Viewed", shown)
        if not self._happens(self.click_probability(offer)):
            return
        yield Step(self._pause(), "Promotion Clicked", shown)
        if not self._happens(offer.buy_rate):
            return
        (item,) = self._goods.draw(self.rng, self._category(), 1, self.progress)
        self._cart[item] = 1
        self._coupon = offer.offer_id
        yield Step(
            self._pause(), "Product Added", {"cart_id": self._cart_id(), **self._product(item), "quantity": 1}
        )
        if self._cart:  # else bought meanwhile, in a visit that goes on beside
            yield self._order()

    def email(
        self, email_id: str, campaign_id: str, decision_id: str | None, came_for: int | None = None
    ) -> Steps:
        """Receive a message by e-mail; some open it, some of these come to the shop, a few unsubscribe."""
        if not self.contactable:
            return
        properties = {"email_id": f"{email_id}-{self.id}", "campaign_id": campaign_id}
        if decision_id is not None:
            properties["decision_id"] = decision_id
        context = {"campaign": {"name": campaign_id, "medium": "email", "content": decision_id or ""}}
        yield Step(4.0 * self._pause(), "Email Delivered", properties, context)
        if not self._happens(0.45):
            return
        yield Step(self._pause(), "Email Opened", properties, context)
        if self._happens(0.03):
            self.contactable = False
            yield Step(self._pause(), "Unsubscribed", properties, context)
            return
        if self._happens(0.35):
            yield Step(self._pause(), "Email Link Clicked", properties, context)
            yield from self.visit(came_for)

    # --- pages -----------------------------------------------------------------------------------------

    def _list_page(self) -> Steps:
        """Look at a category or at what a search found: an impression of its items, perhaps a click."""
        category = self._category()
        name = self._goods.categories[category]
        if self._happens(0.12):
            yield Step(self._pause(), "Products Searched", {"query": name.lower()})
        items = self._goods.draw(self.rng, category, _LIST_LENGTH, self.progress)
        yield from self._shown({"list_id": f"category-{category}", "category": name}, items, {})

    def _recommended(self, recommended: Recommended) -> Steps:
        """Show the recommended items, as the shop's page does with a published recommendation."""
        echo = {"decision_id": recommended.decision_id}
        yield from self._shown({"list_id": f"recommendations-{recommended.slot}"}, recommended.items, echo)

    def _shown(self, where: dict[str, Any], items: Iterable[int], echo: dict[str, Any]) -> Steps:
        places = list(enumerate(items, start=1))
        products = [{"product_id": self._product_id(item), "position": place} for place, item in places]
        yield Step(self._pause(), "Product List Viewed", {**where, **echo, "products": products})
        for place, item in places:
            if self._happens(self.appeal(item)):
                clicked = {"list_id": where["list_id"], "position": place, **echo}
                yield from self._item_page(item, clicked)
                return
            if not self._happens(_EXAMINED):
                return

    def _item_page(self, item: int, clicked: dict[str, Any]) -> Steps:
        """Look at an item, then perhaps at its companions; some are added to the cart or the wishlist."""
        if clicked:
            yield Step(_PAGE_LOAD, "Product Clicked", {**self._product(item), **clicked})
        for _ in range(4):
            product = self._product(item)
            yield Step(self._pause(), "Product Viewed", product)
            appeal = self.appeal(item)
            if self._happens(0.1 + 0.3 * appeal):
                self._cart[item] = self._cart.get(item, 0) + 1
                yield Step(
                    self._pause(), "Product Added", {"cart_id": self._cart_id(), **product, "quantity": 1}
                )
            elif self._happens(0.05):
                yield Step(
                    self._pause(), "Product Added to Wishlist", {"wishlist_id": f"w-{self.id}", **product}
                )
            elif self._happens(0.1):
                yield Step(self._pause(), "Recommendations Requested", {"slot": "product"})
            if not self._happens(0.3):
                return
            companions = self._goods.companions[item]
            item = companions[int(self.rng.integers(len(companions)))]

    def _check_out(self) -> Steps:
        """Go through the checkout; a third leave it, and their cart stays."""
        if len(self._cart) > 1 and self._happens(0.2):
            item = next(iter(self._cart))
            quantity = self._cart.pop(item)
            removed = {"cart_id": self._cart_id(), **self._product(item), "quantity": quantity}
            yield Step(self._pause(), "Product Removed", removed)
        if not self._cart:
            return
        started = {"cart_id": self._cart_id(), "currency": CURRENCY, "products": self._lines()}
        yield Step(self._pause(), "Checkout Started", started)
        if self._cart and self._happens(0.65):
            yield self._order()

    def _order(self) -> Step:
        """Buy what is in the cart; some orders come back, some are reviewed."""
        products = self._lines()
        total = round(sum(product["price"] * product["quantity"] for product in products), 2)
        order = {
            "order_id": f"o-{self.id}-{self._n_orders}",
            "total": total,
            "revenue": total,
            "currency": CURRENCY,
            **({} if self._coupon is None else {"coupon": self._coupon}),
            "products": products,
        }
        self._n_orders += 1
        self._cart = {}
        self._coupon = None
        if self._happens(0.06):
            self.later.append((60.0 * self._pause(), self._refund(order)))
        elif self._happens(0.1):
            self.later.append((40.0 * self._pause(), self._review(products[0])))
        return Step(self._pause(), "Order Completed", order)

    def _refund(self, order: dict[str, Any]) -> Steps:
        kept = ("order_id", "total", "currency", "products")
        yield Step(self._pause(), "Order Refunded", {key: order[key] for key in kept})

    def _review(self, product: dict[str, Any]) -> Steps:
        rating = str(self.rng.integers(2, 6))
        yield Step(self._pause(), "Product Reviewed", {"product_id": product["product_id"], "rating": rating})

    # --- pieces ----------------------------------------------------------------------------------------

    def _answer_consent(self, *, allow: bool) -> Step:
        self.contactable = allow and not self.anonymous
        purposes = dict.fromkeys(_PURPOSES, allow)
        return Step(
            self._pause(),
            "Consent Changed",
            {"purposes": purposes},
            {"consent": {"categoryPreferences": purposes}},
        )

    def _category(self) -> int:
        if self._happens(0.1):  # now and then a look elsewhere
            return int(self.rng.integers(len(self.taste)))
        return min(int(np.searchsorted(self._taste_cumulated, self.rng.random())), len(self.taste) - 1)

    def _happens(self, probability: float) -> bool:
        return float(self.rng.random()) < probability

    def _pause(self) -> float:
        return float(self.rng.exponential())

    def _product_id(self, item: int) -> str:
        product_id: str = self._goods.products[item]["product_id"]
        return product_id

    def _product(self, item: int) -> dict[str, Any]:
        return self._goods.products[item]

    def _cart_id(self) -> str:
        return f"c-{self.id}-{self._n_orders}"

    def _lines(self) -> list[dict[str, Any]]:
        return [{**self._product(item), "quantity": quantity} for item, quantity in self._cart.items()]
