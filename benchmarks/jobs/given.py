"""What the jobs of ``benchmarks/end_to_end.py`` get: events of one source, and reference data for them."""

from __future__ import annotations

import io
import itertools
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.jobs.process import ROOT
from schemas.campaigns import CampaignConsent
from schemas.codec import parse_time
from stream.campaign_files import read_campaigns
from stream.importing import import_events
from stream.simulating import catalogue, offers, simulate

DATA = Path(os.environ.get("NUDGE_DATA", ROOT.parent / "shared" / "data"))
TAOBAO = DATA / "taobao" / "UserBehavior_first100k.csv.gz"
START = parse_time("2017-11-25")
SEED = 1


@dataclass(frozen=True, slots=True)
class Input:
    """What all jobs get."""

    name: str
    warm_up: list[bytes]
    measured: list[bytes]
    following: list[bytes]
    catalogue: list[bytes]
    offers: list[bytes]
    campaigns: list[bytes]


def read_input(name: str | None, n: int) -> Input:
    """Take events of the imported data set, where there is one, else of the simulated shop."""
    name = name or ("taobao" if TAOBAO.is_file() else "shop")
    n_warm, events, items = n // 10, io.BytesIO(), io.BytesIO()
    if name == "taobao":
        import_events("taobao", TAOBAO, out=events, catalogue=items, from_s=START, to_s=START + 9 * 86_400)
        lines, wares = events.getvalue().splitlines(), items.getvalue().splitlines()
    else:
        shop = simulate(
            seed=SEED, n_users=2000, n_items=3000, start=START, duration_s=n / 10, hostile_share=0.0
        )
        lines, wares = list(itertools.islice(shop, 3 * n)), list(catalogue(SEED, n_items=3000, start=START))
    if len(lines) < n_warm + 2 * n:
        sys.exit(f"input {name} has {len(lines)} events, {n_warm + 2 * n} needed: lower --events")
    allowed = CampaignConsent(when_unknown="allow")
    found = read_campaigns(ROOT / "examples" / "campaigns.yaml").values()
    campaigns = [msgspec.json.encode(msgspec.structs.replace(one, consent=allowed)) for one in found]
    return Input(
        name=name,
        warm_up=lines[:n_warm],
        measured=lines[n_warm : n_warm + n],
        following=lines[n_warm + n : n_warm + 2 * n],
        catalogue=wares,
        offers=list(offers(SEED)),
        campaigns=campaigns,
    )
