"""The demo from end to end: it shows what it promises, ends by itself, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from stream.runtime.broker import EmbeddedBroker
from stream.runtime.consuming import read_topic
from stream.runtime.topics import TopicNames, open_admin
from stream.sections import OfferSettings
from stream.simulating import simulate

# The first run of a machine compiles all kernels; the rest is seconds.
LIMIT_S = 300.0


def start(tmp_path: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start the demo with a temporary directory of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUDGE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "stream", "demo", *map(str, arguments)],
        env=clean | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(demo: subprocess.Popen[bytes]) -> tuple[dict[str, Any], str]:
    """Wait for a demo that ends well; return its summary and what it said."""
    try:
        stdout, stderr = demo.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        demo.kill()
        raise
    assert 0 == demo.returncode, stderr.decode()
    summary: dict[str, Any] = json.loads(stdout)
    return summary, stderr.decode()


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes whose temporary directory is the folder, or lies in it."""
    mark = f"TMPDIR={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # ended meanwhile, or is not ours
    return found


def test_a_short_demo_shows_every_kind_of_output(tmp_path: Path) -> None:
    """Lists, offers with posterior and share, messages, suppressions and rejects by reason; then all is gone.

    The numbers agree with each other: what the worker counted is what could be read from its topics.
    """
    # Of so many records half a dozen are from the future, on whichever events the shop's answers put them; an
    # order from the future is no reject.
    summary, _ = finish(start(tmp_path, "--seconds", "10", "--rate", "600", "--seed", "7", "--json"))

    events = summary["events"]
    assert summary["sent"] == events["consumed"]
    assert events["consumed"] == events["accepted"] + events["duplicate"] + sum(events["rejected"].values())
    assert events["rejected"] == summary["dead_letters"]
    assert {"late", "future"} <= set(events["rejected"])

    assert summary["recommendations"]["published"] > 100
    assert summary["shop"]["lists"]["nudge"]["clicked"] > 0
    assert {"cart-reminder", "browse-reminder"} == set(summary["triggers"])
    assert {"no_consent", "cooldown"} <= set(summary["suppressed"])
    for campaign, funnel in summary["campaigns"].items():
        assert summary["triggers"][campaign] == funnel["sent"]
        assert funnel["eligible"] == funnel["sent"] + sum(funnel["suppressed"].values())

    offers = summary["offers"]
    assert summary["best_offer"] in offers
    assert 1.0 == pytest.approx(sum(offer["share"] for offer in offers.values()), abs=1e-3)
    learned = [offer for offer in offers.values() if "posterior_mean" in offer]
    assert learned
    assert all(0 < offer["posterior_mean"] < 1 and offer["posterior_deviation"] > 0 for offer in learned)
    assert all(offer["least_propensity"] >= OfferSettings().floor for offer in offers.values())

    freshness = summary["freshness_ms"]
    assert freshness["n"] > 100
    assert 0 < freshness["p50"] <= freshness["p99"]
    assert [] == processes_of(tmp_path)
    assert [] == list(tmp_path.iterdir())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children can be interrupted, also where the tests run in the background of a shell, which cannot."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM in the middle of the stream: worker and broker end, and no file stays."""
    demo = start(tmp_path, "--seconds", "300", "--rate", "50")
    assert demo.stderr is not None
    watchdog = threading.Timer(LIMIT_S, demo.kill)
    watchdog.start()
    try:
        said = b""
        while b"streaming" not in said:
            row = demo.stderr.readline()
            assert row, said.decode()
            said += row
        assert len(processes_of(tmp_path)) >= 3  # demo, worker, broker
        demo.send_signal(number)
        assert 128 + number == demo.wait(60)
    finally:
        watchdog.cancel()
        demo.kill()
        demo.communicate()
    deadline = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [] == processes_of(tmp_path)
    assert [] == list(tmp_path.iterdir())


async def test_a_file_on_somebodys_kafka(tmp_path: Path, embedded_broker: EmbeddedBroker) -> None:
    """Any file of events on any Kafka: every line is processed, and the demo's topics are deleted again."""
    events = tmp_path / "events.jsonl"
    rows = list(simulate(seed=3, start=1_767_225_600.0, duration_s=7200.0, events_per_s=0.1, n_users=40))
    broken = [b"not json", orjson.dumps({"event": "Product Viewed"})]
    events.write_bytes(b"\n".join([*rows, *broken]) + b"\n")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    async with open_admin(embedded_broker.bootstrap) as admin:
        before = set(await admin.list_topics())

    arguments = ("--bootstrap", embedded_broker.bootstrap, "--events", events, "--rate", "400", "--json")
    summary, _ = finish(start(temporary, *arguments))

    assert len(rows) + len(broken) == summary["sent"] == summary["events"]["consumed"]
    assert 1 == summary["events"]["rejected"]["not_json"]
    assert summary["source"] == "events.jsonl"
    async with open_admin(embedded_broker.bootstrap) as admin:
        after = set(await admin.list_topics())
    assert not [name for name in after - before if name.startswith("nudge-demo-")]


async def test_segments_beside_campaigns(tmp_path: Path, embedded_broker: EmbeddedBroker) -> None:
    """What `--campaigns` holds is in force whole; on a given Kafka the topics may stay."""
    events, campaigns = tmp_path / "events.jsonl", tmp_path / "campaigns.yaml"
    events.write_bytes(
        b"\n".join(simulate(seed=3, start=1_767_225_600.0, duration_s=600.0, events_per_s=0.2, n_users=4))
    )
    campaigns.write_text("- segment_id: known\n  version: 1\n  when: {fact: user.n_events, at_least: 1}\n")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    arguments = ("--bootstrap", embedded_broker.bootstrap, "--events", events, "--campaigns", campaigns)
    summary, _ = finish(start(temporary, *arguments, "--keep", "--json"))
    names = TopicNames(summary["topic_prefix"])
    entered = await read_topic(embedded_broker.bootstrap, names.segments)

    assert {"known"} == {orjson.loads(record.value or b"{}")["segment"] for record in entered}


def test_without_a_broker_the_demo_says_so(tmp_path: Path) -> None:
    """Nobody listens there: exit code 69, a sentence, no traceback."""
    demo = start(tmp_path, "--bootstrap", "127.0.0.1:1")
    _, stderr = demo.communicate(timeout=LIMIT_S)
    assert 69 == demo.returncode
    assert b"127.0.0.1:1" in stderr
    assert b"Traceback" not in stderr
