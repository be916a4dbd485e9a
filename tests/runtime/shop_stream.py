"""A seeded stream for every model-free rule: consent, caps, purchases, duplicates, late and broken ones."""

from __future__ import annotations

import random
from collections.abc import Iterator

from schemas.campaigns import Campaign, CampaignConsent
from stream.testing import cart_campaign, event

START = -800 * 86_400.0  # seconds from the zero of `event`: long past on any machine's clock
CONSENT = CampaignConsent(when_unknown="allow")


def campaigns() -> list[Campaign]:
    """Four campaigns without offers, so that no model has a say."""
    return [
        cart_campaign("cart", delay_s=1800.0, cooldown_s=7200.0, consent=CONSENT, holdout_share=0.2),
        cart_campaign("cart-dry", delay_s=900.0, cooldown_s=3600.0, consent=CONSENT, dry_run=True),
        cart_campaign(
            "browse", kind="browse_abandonment", delay_s=2400.0, min_views=2, max_per_day=1, consent=CONSENT
        ),
        cart_campaign("receipt", message_class="transactional", delay_s=600.0, consent=CONSENT),
    ]


def shop_stream(n: int, seed: int, n_users: int = 120, n_items: int = 60) -> Iterator[bytes]:
    """Yield ``n`` records: 30 s apart, some twice, some late, some that no decoder takes."""
    random_ = random.Random(seed)
    recent: list[bytes] = []
    for k in range(n):
        at = START + 30.0 * k
        user, item = f"u{random_.randrange(n_users)}", f"p{random_.randrange(n_items)}"
        luck = random_.random()
        message_id = f"m{k}"
        if luck < 0.02:
            yield b'{"type":"track","messageId":"%d","userId":"%s","event":' % (k, user.encode())
            continue
        if luck < 0.05 and recent:
            yield random_.choice(recent)
            continue
        if luck < 0.07:
            yield event(
                "Product Viewed", user=user, at=at - 2 * 86_400, message_id=message_id, product_id=item
            )
            continue
        if luck < 0.45:
            line = event("Product Viewed", user=user, at=at, message_id=message_id, product_id=item)
        elif luck < 0.75:
            line = event("Product Added", user=user, at=at, message_id=message_id, product_id=item, price=9.5)
        elif luck < 0.92:
            products = [{"product_id": item}, {"product_id": f"p{random_.randrange(n_items)}"}]
            line = event("Order Completed", user=user, at=at, message_id=message_id, products=products)
        elif luck < 0.96:
            line = event(
                "Consent Changed",
                user=user,
                at=at,
                message_id=message_id,
                purposes={"marketing": random_.random() < 0.6},
            )
        else:
            line = event("Product Removed", user=user, at=at, message_id=message_id, product_id=item)
        recent = [*recent[-40:], line]
        yield line
    yield from last_events(n)


def last_events(n: int) -> Iterator[bytes]:
    """Half a day after ``n`` records everything that was armed is due; idle time after this cannot matter."""
    for k in range(400):
        yield event("Cart Viewed", user=f"end{k}", at=START + 30.0 * n + 43_200, message_id=f"end{k}")
