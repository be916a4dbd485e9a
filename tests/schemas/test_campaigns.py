"""Campaigns on the wire: what we write of one is read as the same one, whatever its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.campaigns import Campaign
from stream.campaign_files import read_campaigns
from stream.testing import cart_campaign

EXAMPLES = read_campaigns(Path(__file__).resolve().parents[2] / "examples" / "campaigns")


@pytest.mark.parametrize("campaign", [cart_campaign(), *EXAMPLES.values()], ids=lambda one: one.campaign_id)
def test_a_campaign_survives_the_topic(campaign: Campaign) -> None:
    """Defaults are written out, and a default must not be what the schema refuses."""
    assert campaign == msgspec.json.decode(msgspec.json.encode(campaign), type=Campaign)


NEVER = [
    (
        {"kind": "win_back", "delay_s": 86_400.0 * 30},
        {"audience": {"fact": "item.price", "above": 1}},
        "item.price",
    ),
    (
        {"kind": "cart_abandonment", "key": "cart"},
        {"audience": {"fact": "item.brand", "is": "b"}},
        "item.brand",
    ),
    (
        {"kind": "checkout_abandonment"},
        {"audience": {"not": {"fact": "item.hidden", "is": True}}},
        "item.hidden",
    ),
    (
        {"kind": "event", "when": {"events": ["Product Viewed"]}},
        {"audience": {"fact": "item.stock", "above": 1}},
        "item.stock",
    ),
    (
        {"kind": "cart_abandonment"},
        {"starts_at": "2026-02-01T00:00:00Z", "ends_at": "2026-02-01T00:00:00Z"},
        "ends_at: is not after starts_at",
    ),
    (
        {"kind": "milestone", "counter": "n_views"},
        {"thresholds": [5.0, -1.0]},
        "thresholds: are numbers above 0",
    ),
    (
        {"kind": "milestone", "counter": "n_views"},
        {"thresholds": [float("inf")]},
        "thresholds: are numbers above 0",
    ),
]


@pytest.mark.parametrize(("basis", "fields", "fault"), NEVER)
def test_what_could_never_be_fulfilled_is_refused(
    basis: dict[str, Any], fields: dict[str, Any], fault: str
) -> None:
    """Silence would look like a campaign for which nobody was."""
    campaign = {"campaign_id": "c", "version": 1, "message_class": "marketing", "thresholds": [1.0]} | basis
    if basis["kind"] != "milestone":
        del campaign["thresholds"]
    assert msgspec.convert(campaign, Campaign).campaign_id == "c"
    with pytest.raises(msgspec.ValidationError, match=fault):
        msgspec.convert(campaign | fields, Campaign)


@pytest.mark.parametrize("key", ["product", "variant"])
def test_who_writes_about_a_product_may_ask_for_its_item(key: str) -> None:
    """The item is known then."""
    audience = {"fact": "item.stock", "above": 1}
    fields = {"kind": "event", "key": key, "when": {"events": ["Product Viewed"]}, "audience": audience}
    basis = {"campaign_id": "c", "version": 1, "message_class": "marketing"}
    assert key == msgspec.convert(basis | fields, Campaign).key
