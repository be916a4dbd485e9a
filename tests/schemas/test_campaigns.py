"""Campaigns on the wire: what we write of one is read as the same one, whatever its kind."""

from __future__ import annotations

from pathlib import Path

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
