from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from schemas.catalogue import Item
from stream.evaluate.recommend import Protocol, evaluate_recommend
from stream.importing import import_events
from stream.reading import BadFileError
from stream.settings import Settings
from stream.testing import event

VIEW = frozenset({"Product Viewed"})
SETTINGS = Settings(max_items=1024)


def line(user: str, item: str, at: int, name: str = "Product Viewed", **properties: Any) -> bytes:
    """One event; ``at`` is in minutes."""
    hours, minutes = divmod(at, 60)
    return orjson.dumps(
        {
            "messageId": f"{user}-{item}-{at}-{name}",
            "userId": user,
            "timestamp": f"2026-01-{1 + hours // 24:02d}T{hours % 24:02d}:{minutes:02d}:00Z",
            "event": name,
            "properties": {"product_id": item, **properties},
        }
    )


def write(path: Path, lines: list[bytes]) -> Path:
    """A file of events."""
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def pairs(n: int) -> list[bytes]:
    """Each user views an even item, then the odd one behind it, one minute later; three pairs of items."""
    return [
        line(f"u{user}", str(2 * (user % 3) + step), 2 * user + step) for user in range(n) for step in (0, 1)
    ]


def run(path: Path, *, positive: frozenset[str] = VIEW, **options: Any) -> dict[str, Any]:
    """Evaluate without warm-up."""
    return evaluate_recommend(SETTINGS, path, Protocol(positive, warm_up=0.0, **options))


def test_what_follows_is_found_and_cold_users_count(tmp_path: Path) -> None:
    """All 80 events are scored; the odd item is first as soon as its pair was seen, and never before."""
    report = run(write(tmp_path / "e.jsonl", pairs(40)))

    assert 80 == report["n"]
    assert 6 == report["protocol"]["unknown_targets"]
    assert 40 == report["slices"]["cold_user"]["n"]
    assert 37 / 40 == report["slices"]["warm_user"]["recall_at_10"]
    assert report["slices"]["warm_user"]["mrr"] > 0.8
    assert set(report) > {"recall_at_20", "ndcg_at_10", "mrr", "baselines", "windows", "gate", "intervals"}
    assert all(74 / 80 == one["recall_at_10"] for one in report["baselines"].values())


def test_time_orders_the_events_and_not_the_file(tmp_path: Path) -> None:
    """The same figures from a shuffled file, which is said to have been out of order."""
    lines = pairs(30)
    straight = run(write(tmp_path / "a.jsonl", lines))
    shuffled = run(write(tmp_path / "b.jsonl", [*lines[40:], *lines[:40]]))

    assert straight["events"].pop("out_of_order") == 0
    assert shuffled["events"].pop("out_of_order") == 1
    assert straight == shuffled


def test_repeats_are_left_out_or_scored(tmp_path: Path) -> None:
    """Excluded they are neither scored nor in anybody's list; allowed they are targets like others."""
    lines = [line("u", item, at) for at, item in enumerate("ababab")]
    path = write(tmp_path / "e.jsonl", lines)
    excluded, allowed = run(path), run(path, repeats=True)

    assert (2, 4) == (excluded["n"], excluded["protocol"]["repeats_not_scored"])
    assert (6, 0) == (allowed["n"], allowed["protocol"]["repeats_not_scored"])
    assert 4 / 6 == allowed["baselines"]["decayed_popularity_7d"]["recall_at_10"]
    assert 0.0 == excluded["baselines"]["decayed_popularity_7d"]["recall_at_10"]


def test_other_events_teach_and_are_no_targets(tmp_path: Path) -> None:
    """Views teach what is added to carts; a viewed item may still be the target of a cart."""
    lines = [*pairs(12), line("u99", "0", 100), line("u99", "1", 101, "Product Added")]
    report = run(write(tmp_path / "e.jsonl", lines), positive=frozenset({"Product Added"}))

    assert (1, 1.0) == (report["n"], report["recall_at_10"])


def test_a_review_is_positive_from_four_stars(tmp_path: Path) -> None:
    """Ratings are text in the spec; lower ones are events that teach nothing."""
    ratings = ["4", "5", "3.5", "1", "4.5"]
    lines = [line("u", f"i{at}", at, "Product Reviewed", rating=stars) for at, stars in enumerate(ratings)]
    report = run(write(tmp_path / "e.jsonl", lines), positive=frozenset({"Product Reviewed"}))

    assert (3, 5) == (report["n"], report["events"]["read"])


def test_the_warm_up_teaches_and_is_not_scored(tmp_path: Path) -> None:
    """A tenth of the positive events by default."""
    path = write(tmp_path / "e.jsonl", pairs(40))
    report = evaluate_recommend(SETTINGS, path, Protocol(VIEW), baselines=())

    assert (72, 8) == (report["n"], report["protocol"]["warm_up_events"])
    assert {} == report["baselines"]


def test_an_order_is_scored_line_by_line(tmp_path: Path) -> None:
    """The second product of an order is predicted knowing the first."""
    products = [{"product_id": "0"}, {"product_id": "1"}]
    lines = [*pairs(12), line("u99", "-", 100, "Order Completed", products=products)]
    report = run(write(tmp_path / "e.jsonl", lines), positive=frozenset({"Order Completed"}))

    assert 2 == report["n"]
    assert 1 == report["slices"]["cold_user"]["n"]
    assert 1.0 == report["slices"]["warm_user"]["mrr"]


def test_session_starts_follow_a_day_of_silence(tmp_path: Path) -> None:
    """First events and those after 24 h; anything later is mid-session."""
    lines = [line("u", item, at) for item, at in [("a", 0), ("b", 1), ("c", 1441), ("d", 1500)]]

    assert 2 == run(write(tmp_path / "e.jsonl", lines))["slices"]["session_start"]["n"]


def test_categories_of_events_lead_to_rare_items(tmp_path: Path) -> None:
    """Items that never met, beside forty more popular ones: only what they are can tell which comes next."""
    lines = [line(f"p{n}", f"popular-{n % 40}", n) for n in range(400)]
    for n in range(40):
        for step, at in enumerate((400 + n, 500 + n)):
            lines.append(line(f"s{n}-{step}", f"rare-{n}-{step}", at, category=f"kind-{n}"))
        lines += [
            line(f"u{n}", f"rare-{n}-{step}", 600 + 2 * n + step, category=f"kind-{n}") for step in (0, 1)
        ]
    report = run(write(tmp_path / "e.jsonl", lines))
    warm = report["slices"]["warm_user"]

    assert 40 == warm["n"]
    assert warm["recall_at_10"] > 0.9
    found = {name: one["slices"]["warm_user"]["recall_at_10"] for name, one in report["baselines"].items()}
    by_chance = {name: found.pop(name) for name in ("isgd", "river_biased_mf")}  # their factors are drawn
    assert {0.0} == {*found.values()}
    assert max(by_chance.values()) < 0.2


def test_a_catalogue_lets_us_propose_what_nobody_met(tmp_path: Path) -> None:
    """A second item of the first one's category, whose record was there before; without one it is a miss."""
    lines = [line(f"u{n}", f"{n}-{step}", 2 * n + step) for n in range(40) for step in (0, 1)]
    path = write(tmp_path / "e.jsonl", lines)
    dated = datetime(2025, 12, 31, tzinfo=UTC)
    catalogue = {
        f"{n}-{step}": Item(item_id=f"{n}-{step}", version=1, category=f"kind-{n}", updated_at=dated)
        for n in range(40)
        for step in (0, 1)
    }
    protocol = Protocol(VIEW, warm_up=0.0)
    without = evaluate_recommend(SETTINGS, path, protocol, baselines=())
    found = evaluate_recommend(SETTINGS, path, protocol, baselines=(), catalogue=catalogue)

    assert 0.0 == without["recall_at_10"]
    assert 1.0 == found["slices"]["warm_user"]["recall_at_10"]
    assert 80 == found["protocol"]["unknown_targets"]

    apart = {name: msgspec.structs.replace(item, category=name) for name, item in catalogue.items()}
    halfway = datetime(2026, 1, 1, 0, 40, tzinfo=UTC).timestamp()
    later = [(halfway, item) for item in catalogue.values()]
    half = evaluate_recommend(SETTINGS, path, protocol, baselines=(), catalogue=apart, versions=later)
    assert 0.5 == half["slices"]["warm_user"]["recall_at_10"]


def test_bad_lines_are_counted_with_their_place(tmp_path: Path) -> None:
    """Duplicates and unreadable lines are codes; the others are evaluated."""
    lines = pairs(5)
    # What must count in production though it is faulty teaches nothing, so it is not evaluated either.
    faulty = event("Order Completed", user="u", at=5, products=[{"product_id": "a"}], total="?")
    path = write(tmp_path / "e.jsonl", [lines[0], b"{", *lines[1:], lines[3], faulty])
    events = run(path)["events"]

    assert {"bad_shape": 1, "duplicate": 1, "not_json": 1} == events["rejected"]
    assert (13, 10) == (events["read"], events["accepted"])
    assert events["examples"][0].startswith(f"{path}:2: not_json")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([b"{"], "1 lines rejected; first: "),
        ([], "the file is empty"),
        ([line("u", "a", 0, "Product Added")], "names in the file: Product Added"),
    ],
)
def test_a_file_without_targets_is_refused(tmp_path: Path, lines: list[bytes], says: str) -> None:
    """With what is there instead."""
    path = write(tmp_path / "e.jsonl", lines)

    with pytest.raises(BadFileError, match=says):
        run(path)


def test_movielens_beats_popularity_and_item_knn(data_dir: Path, tmp_path: Path) -> None:
    """On the first 12,000 ratings: every interval of the lead in recall@10 is above zero."""
    path, imported = tmp_path / "e.jsonl", tmp_path / "all.jsonl"
    with imported.open("wb") as out:
        import_events("movielens", data_dir / "ml-100k" / "ml-100k.inter.gz", out=out)
    path.write_bytes(b"\n".join(imported.read_bytes().splitlines()[:12_000]))
    names = ("decayed_popularity_7d", "item_knn")
    report = evaluate_recommend(Settings(), path, Protocol(frozenset({"Product Reviewed"})), baselines=names)

    assert report["gate"]["passed"]
    assert all(report["baselines"][name]["lead"]["recall_at_10"]["low"] > 0.0 for name in names)


def test_what_would_take_too_long_runs_only_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report says what did not run and why; item-kNN over a large catalogue keeps other tables."""
    path = write(tmp_path / "e.jsonl", pairs(5))
    before = run(path)["baselines"]["item_knn"]
    monkeypatch.setattr("stream.evaluate.recommend.MAX_DENSE_ITEMS", 3)
    assert before == run(path)["baselines"]["item_knn"]

    monkeypatch.setattr("stream.evaluate.recommend.MAX_SCORES", 10)
    report, named = run(path), evaluate_recommend(SETTINGS, path, Protocol(VIEW), baselines=("isgd",))

    assert {"isgd", "river_biased_mf"} == set(report["baselines_skipped"])
    assert report["baselines_skipped"]["isgd"].startswith("10 targets x 6 items; ")
    assert ({"isgd"}, {}) == (set(named["baselines"]), named["baselines_skipped"])
