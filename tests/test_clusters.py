"""`nudge clusters`: what is learned can be declared, and then holds whom it was said to hold."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from stream.campaign_files import read_segments
from stream.testing import Driver, event
from tests.nudge_process import nudge


def visits(n: int) -> Iterator[tuple[float, bytes]]:
    """Every second user looks at a few products, the others at many, and buy."""
    views, orders = (2 + n % 3, 0) if n % 2 else (30 + n % 5, 6)
    for k in range(views):
        at = 100.0 * k + n
        yield at, event("Product Viewed", user=f"u{n}", at=at, product_id=f"p{k % 7}")
    for k in range(orders):
        at = 5000.0 + 10 * k + n
        yield at, event("Order Completed", user=f"u{n}", at=at, products=[])


def test_clusters_hold_whom_they_were_said_to_hold(tmp_path: Path) -> None:
    """A replay puts as many users into each as were counted; the same events give the same clusters."""
    lines = [line for _, line in sorted(visit for n in range(60) for visit in visits(n))]
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"\n".join(lines))
    ask = ("clusters", "--events", events, "--n", "2", "--name", "style")
    done, again = nudge(*ask), nudge(*ask)
    text = done.stdout.decode()
    (tmp_path / "segments.yaml").write_text(text)
    sizes = [int(line.split()[3]) for line in text.splitlines() if line.startswith("#")]
    found = read_segments(tmp_path / "segments.yaml")
    stream = Driver(segments=found.values())
    stream.pipe(*lines)
    members: Counter[str] = Counter()
    for change in stream.take("segments"):
        members[change.segment] += 1 if change.member else -1

    assert 0 == done.returncode, done.stderr
    assert done.stdout == again.stdout
    assert ["style-1", "style-2"] == list(found)
    assert [30, 30] == sizes == [members["style-1"], members["style-2"]]


def test_facts_that_time_changes_are_refused(tmp_path: Path) -> None:
    """As are such that are no numbers."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"")
    asked = [nudge("clusters", "--events", events, "--facts", fact) for fact in ("user.stage", "user.age_s")]

    assert [2, 2] == [done.returncode for done in asked]
    events.write_bytes(gzip.compress(b"no event\n" * 9)[:-9])
    damaged = nudge("clusters", "--events", events)
    assert 65 == damaged.returncode
    assert str(events) in damaged.stderr.decode()
    assert "--facts" not in damaged.stderr.decode()
