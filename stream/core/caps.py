"""How often somebody may be written to: by calendar day in the user's zone, by rolling window, or once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.campaigns import MAX_WINDOW_S
from stream.core.localtime import day_of, zone_of
from stream.core.rows import Send

if TYPE_CHECKING:
    from schemas.campaigns import Campaign, Cap
    from stream.core.causes import Occasion
    from stream.core.config import CampaignPolicy
    from stream.core.reference import Reference
    from stream.core.rows import Profile

__all__ = ["DRY", "MAX_SENDS", "MAX_SENT_TIMES", "Caps", "name_of"]

MAX_SENDS: Final = 64
MAX_SENT_KEYS: Final = 64
MAX_SENT_TIMES: Final = 256  # campaigns of which it is known when they last wrote to a user
NO_LIMIT: Final = 1 << 30
DRY: Final = "\x1fdry"  # behind the name of a campaign


class Caps:
    """Counts marketing messages, held-out ones included, else the lift that a holdout measures is biased."""

    def __init__(self, policy: CampaignPolicy, reference: Reference) -> None:
        self._policy = policy
        self._reference = reference

    def room(self, campaign: Campaign, channel: str, occasion: Occasion) -> int:
        """How many more messages the tightest cap lets through now, this one included."""
        profile, today, name = occasion.profile, self.day(occasion), name_of(campaign)
        room = NO_LIMIT
        if (cap := self._policy.daily_cap) is not None:
            room = cap - (profile.cap_count if profile.cap_day == today else 0)
        if campaign.max_per_day is not None:
            day, count = profile.campaign_day.get(name, (0, 0))
            room = min(room, campaign.max_per_day - (count if day == today else 0))
        sends = [send for send in profile.sends if not send.campaign_id.endswith(DRY)]
        own = [send for send in profile.sends if send.campaign_id == name] if campaign.caps else []
        for caps, meant in ((self._policy.caps, sends), (campaign.caps, own)):
            for cap_ in caps:
                room = min(room, _left(cap_, channel, meant, sends, occasion.now, today))
        return max(0, room)

    def last_sent(self, campaign: Campaign, profile: Profile) -> float:
        """When the campaign last wrote to the user; of one that may be forgotten, when it could have been."""
        times = profile.sent_times
        forgotten = min(times.values()) if len(times) >= MAX_SENT_TIMES else float("-inf")
        return times.get(name_of(campaign), forgotten)

    def re_eligible(self, campaign: Campaign, ref: str, profile: Profile, now: float) -> bool:
        """Whether the same message may go to the user again; where too many are remembered, it may not."""
        after_s = campaign.re_eligible_after_s
        if after_s is None:
            return True
        last = profile.sent_keys.get(_ref_of(campaign, ref))
        if last is None:
            return len(profile.sent_keys) < MAX_SENT_KEYS or bool(self._forgettable(campaign, profile, now))
        return not isinstance(after_s, str) and now - last >= after_s

    def consume(self, campaign: Campaign, ref: str, channel: str, occasion: Occasion) -> None:
        """Count a message; one of a dry run for its own campaign alone, and no longer when that goes live."""
        profile, now, today = occasion.profile, occasion.now, self.day(occasion)
        name, ref = name_of(campaign), _ref_of(campaign, ref)
        if not campaign.dry_run:
            if profile.cap_day != today:
                profile.cap_day, profile.cap_count = today, 0
            profile.cap_count += 1
        on_day = {other: count for other, count in profile.campaign_day.items() if count[0] >= today}
        _, count = on_day.get(name, (today, 0))
        profile.campaign_day = on_day | {name: [today, count + 1]}
        times = profile.sent_times
        times[name] = now
        if len(times) > MAX_SENT_TIMES:
            del times[min(times, key=times.__getitem__)]
        sends = profile.sends
        while sends and sends[0].time < now - MAX_WINDOW_S:
            del sends[0]
        if len(sends) >= MAX_SENDS:
            dry = (n for n, send in enumerate(sends) if send.campaign_id.endswith(DRY))
            del sends[next(dry, 0)]  # what nobody got goes first
        sends.append(Send(now, name, channel, today))
        if campaign.re_eligible_after_s is not None:
            if ref not in profile.sent_keys and len(profile.sent_keys) >= MAX_SENT_KEYS:
                forgettable = self._forgettable(campaign, profile, now)
                if forgettable is not None:
                    del profile.sent_keys[forgettable]
            profile.sent_keys[ref] = now

    def day(self, occasion: Occasion) -> int:
        """Number of the user's calendar day; an unknown zone counts as the default one.

        It never goes back: a timer that fires late, or a user who travels west, does not empty a day's cap.
        """
        zone = zone_of(occasion.profile.time_zone, self._policy.default_time_zone)
        return max(day_of(occasion.now, zone), occasion.profile.cap_day)

    def _forgettable(self, campaign: Campaign, profile: Profile, now: float) -> str | None:
        """A remembered message that no longer stands in the way of anything, or only of a dry run."""
        for ref, last in profile.sent_keys.items():
            if ref.endswith(DRY) and not campaign.dry_run:
                return ref
            known = self._reference.campaigns.get(ref.partition("\x1f")[0])
            after_s = None if known is None else known.re_eligible_after_s
            if after_s is None or (not isinstance(after_s, str) and now - last >= after_s):
                return ref
        return None


def name_of(campaign: Campaign) -> str:
    """Name under which a campaign's messages are counted; what a dry run would have sent has its own."""
    return campaign.campaign_id + DRY if campaign.dry_run else campaign.campaign_id


def _ref_of(campaign: Campaign, ref: str) -> str:
    return ref + DRY if campaign.dry_run else ref


def _left(cap: Cap, channel: str, meant: list[Send], sends: list[Send], now: float, today: int) -> int:
    """What a cap leaves of the messages that it means; where some of its window may be lost, nothing."""
    of = None if cap.channel is None else cap.channel.casefold()
    if of is not None and of != channel.casefold():
        return NO_LIMIT
    since = now - (cap.window_s or MAX_WINDOW_S)

    def counts(send: Send) -> bool:
        return send.time > since if cap.window == "rolling" else send.day >= today

    if len(sends) >= MAX_SENDS and counts(sends[0]):
        return 0
    return cap.max_messages - sum(
        counts(send) for send in meant if of is None or send.channel.casefold() == of
    )
