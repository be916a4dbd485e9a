"""The public data sets as they are: the counts that their descriptions state."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import orjson
import pytest

from stream.importing import ImportReport, import_events

RECORD_LIMIT = 64 * 1024

pytestmark = pytest.mark.data


def run(source: str, path: Path) -> tuple[ImportReport, Counter[str], list[bytes]]:
    """Import a data set; check what holds for all, and count the events by name."""
    out, catalogue = io.BytesIO(), io.BytesIO()
    report = import_events(source, path, out=out, catalogue=catalogue)
    lines = out.getvalue().splitlines()
    ids: set[str] = set()
    last = ""
    names: Counter[str] = Counter()
    for line in lines:
        event = orjson.loads(line)
        assert event["timestamp"] >= last
        last = event["timestamp"]
        ids.add(event["messageId"])
        names[event["event"]] += 1
    assert len(lines) == len(ids) == report.written
    assert max(map(len, lines)) < RECORD_LIMIT
    assert report.read == report.used + report.dropped_outside + sum(report.malformed.values())
    item_ids = [orjson.loads(line)["item_id"] for line in catalogue.getvalue().splitlines()]
    assert sorted(set(item_ids)) == item_ids
    assert report.items == len(item_ids)
    return report, names, lines


def test_movielens(data_dir: Path) -> None:
    """100,000 ratings, 1,682 films."""
    report, names, _ = run("movielens", data_dir / "ml-100k" / "ml-100k.inter.gz")

    assert names == {"Product Reviewed": 100_000}
    assert (report.items, report.malformed) == (1682, {})


def test_taobao_head(data_dir: Path) -> None:
    """100,001 events by behaviour, 64,467 items; the file is ordered by user, the import by time."""
    report, names, _ = run("taobao", data_dir / "taobao" / "UserBehavior_first100k.csv.gz")

    assert names == {
        "Product Viewed": 89_710,
        "Product Added": 5446,
        "Product Added to Wishlist": 2744,
        "Order Completed": 2101,
    }
    assert (report.items, report.malformed) == (64_467, {})


def test_taobao_slice(data_dir: Path) -> None:
    """96,169 events; the cut-off last line has a readable time, so it is an event of 1970."""
    report, names, lines = run("taobao", data_dir / "taobao" / "UserBehavior_slice.csv.gz")

    assert names == {
        "Product Viewed": 85_774,
        "Product Added": 5292,
        "Product Added to Wishlist": 2959,
        "Order Completed": 2144,
    }
    assert report.malformed == {}
    assert b'"messageId":"taobao:96169"' in lines[0]
    assert b'"timestamp":"1970-01-01T00:00:15.000Z"' in lines[0]


def test_online_retail(data_dir: Path) -> None:
    """541,909 lines; 22,064 invoices that are none or one order each, 3,836 cancellations."""
    report, names, lines = run("online-retail", data_dir / "online-retail" / "online_retail_by_day.csv.gz")

    orders: Counter[str] = Counter()
    users = set()
    for line in lines:
        event = orjson.loads(line)
        orders[event["event"]] += "#" not in event["messageId"]
        users.add(event.get("userId"))
    # 25,900 invoices; 2,104 of them consist of stock corrections and gifts alone.
    assert orders == {"Order Completed": 19_960, "Order Refunded": 3836}
    assert names == {"Order Completed": 20_300, "Order Refunded": 3836}
    assert report.read == 541_909
    assert report.malformed == {"quantity_not_positive": 1336, "price_not_positive": 1181}
    assert len(users - {None}) == 4371  # 4,372 customers, one of whom bought nothing but gifts


def test_yoochoose(data_dir: Path) -> None:
    """70,278 clicks of 17,794 sessions on 2,933 items."""
    path = data_dir / "yoochoose-100k" / "yoochoose-clicks-100k_train_full.txt.gz"
    report, names, lines = run("yoochoose", path)

    assert names == {"Product Viewed": 70_278}
    assert (report.items, report.malformed) == (2933, {})
    assert len({orjson.loads(line)["anonymousId"] for line in lines}) == 17_794
