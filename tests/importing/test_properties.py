"""What holds for any input: order, identity, accounts."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from stream.importing import ImportReport, import_events

FIELD = st.sampled_from(["", "1", "2", "A", "é", '"', "-3", "1e400"])
TAOBAO_LINE = st.tuples(
    FIELD,
    FIELD,
    FIELD,
    st.sampled_from(["pv", "cart", "fav", "buy", "x"]),
    st.integers(0, 50).map(str) | FIELD,
).map(",".join)
RETAIL_LINE = st.tuples(
    st.sampled_from(["1", "2", "3", "C4", ""]),
    FIELD,
    FIELD,
    st.integers(-2, 9).map(str) | FIELD,
    st.integers(0, 59).map(lambda minute: f"2010-12-01 08:{minute:02d}:00"),
    st.sampled_from(["1", "0", "2.5", "-1", "1e308", "z"]),
    st.sampled_from(["", "7.0", "8"]),
    st.just("France"),
).map(",".join)
RETAIL_HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"


def run(
    source: str, lines: list[str], from_s: float | None = None, to_s: float | None = None
) -> tuple[ImportReport, list[dict[str, Any]], bytes]:
    """Import lines; return the report, the events and the bytes that were written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        path.write_text("\n".join(lines))
        out = io.BytesIO()
        report = import_events(source, path, out=out, from_s=from_s, to_s=to_s)
    return report, [orjson.loads(line) for line in out.getvalue().splitlines()], out.getvalue()


def check_accounts(report: ImportReport, events: list[dict[str, Any]]) -> None:
    """Every line is accounted for once; events are in order and have an id of their own."""
    assert report.read == report.used + report.dropped_outside + sum(report.malformed.values())
    assert report.written == len(events)
    times = [event["timestamp"] for event in events]
    assert sorted(times) == times
    assert len(events) == len({event["messageId"] for event in events})
    for event in events:
        assert event["type"] == "track"
        assert bool(event.get("userId")) != bool(event.get("anonymousId"))


@given(lines=st.lists(TAOBAO_LINE, max_size=30), bounds=st.tuples(st.integers(0, 50), st.integers(0, 50)))
def test_any_lines_of_behaviour(lines: list[str], bounds: tuple[int, int]) -> None:
    """Sorted, unique, decodable, all lines accounted for; ties keep the file's order; the window holds."""
    from_s, to_s = map(float, sorted(bounds))
    report, events, written = run("taobao", lines, from_s=from_s, to_s=to_s)

    check_accounts(report, events)
    keys = [(event["timestamp"], int(event["messageId"].split(":")[1])) for event in events]
    assert sorted(keys) == keys
    if events:
        assert from_s * 1000 <= report.first_ms <= report.last_ms < to_s * 1000  # type: ignore[operator]
    assert written == run("taobao", lines, from_s=from_s, to_s=to_s)[2]


@given(lines=st.lists(RETAIL_LINE, max_size=30))
def test_any_order_lines(lines: list[str]) -> None:
    """Each used line is one product of one event; quantities are positive; totals add up."""
    report, events, written = run("online-retail", [RETAIL_HEADER, *lines])

    check_accounts(report, events)
    products = [product for event in events for product in event["properties"]["products"]]
    assert report.used == len(products)
    assert all(product["quantity"] > 0 and product["price"] > 0 for product in products)
    for event in events:
        bought = event["properties"]
        total = sum(product["quantity"] * product["price"] for product in bought["products"])
        assert abs(total - bought["total"]) < 0.01
        assert (event["event"] == "Order Refunded") == bought["order_id"].startswith("C")
    assert written == run("online-retail", [RETAIL_HEADER, *lines])[2]
