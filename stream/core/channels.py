"""Which channels a message may take, best first, and whether the user agreed to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.campaigns import Campaign
    from stream.core.rows import Profile

__all__ = ["channels_of", "consents"]


def channels_of(campaign: Campaign, profile: Profile) -> list[str]:
    """The campaign's channels, those in which the user opened and clicked most first, else in its order."""
    channels = campaign.channels or [campaign.channel]
    return sorted(channels, key=lambda name: -profile.engaged.get(name.casefold(), 0))


def consents(campaign: Campaign, channel: str, profile: Profile, unknown: Mapping[str, bool]) -> bool:
    """Whether the user agrees to the campaign's purpose on a channel.

    An answer to ``purpose:channel`` goes before one to the purpose; where there is none, what the campaign
    says of silence goes before what the settings say.
    """
    purpose = campaign.consent.purpose
    answer = profile.said(f"{purpose}:{channel}")
    if answer is None:
        answer = profile.answer(purpose)
    if answer is not None:
        return answer
    if campaign.consent.when_unknown is not None:
        return campaign.consent.when_unknown == "allow"
    return unknown.get(purpose, unknown.get("*", False))
