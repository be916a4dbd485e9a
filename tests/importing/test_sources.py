"""Each source by hand: a few lines in, the exact bytes out."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from stream.importing import IMPORTERS, DataSetError, ImportReport, Reason, import_events
from stream.importing.canonical import Intake
from stream.importing.online_retail import MAX_PRODUCTS

RETAIL_HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


def run(
    source: str,
    path: Path,
    text: str | bytes,
    *,
    from_s: float | None = None,
    to_s: float | None = None,
) -> tuple[ImportReport, list[str], list[str]]:
    """Write `text` to `path` and import it; return the report, the event lines and the catalogue lines."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    out, catalogue = io.BytesIO(), io.BytesIO()
    report = import_events(source, path, out=out, catalogue=catalogue, from_s=from_s, to_s=to_s)
    return report, out.getvalue().decode().splitlines(), catalogue.getvalue().decode().splitlines()


def test_taobao_behaviours_become_the_events_of_the_spec(tmp_path: Path) -> None:
    """Four behaviours, four event names; a purchase is an order of one; times sort, ties keep their order."""
    report, events, catalogue = run(
        "taobao",
        tmp_path / "b.csv",
        "7,100,9,buy,1511658002\r\n7,100,9,pv,1511658000\r\n8,101,9,cart,1511658001\r\n7,100,9,fav,1511658000",
    )

    assert events == [
        (
            '{"type":"track","messageId":"taobao:2","userId":"7","timestamp":"2017-11-26T01:00:00.000Z",'
            '"event":"Product Viewed","properties":{"product_id":"100","category":"9"}}'
        ),
        (
            '{"type":"track","messageId":"taobao:4","userId":"7","timestamp":"2017-11-26T01:00:00.000Z",'
            '"event":"Product Added to Wishlist","properties":{"product_id":"100","category":"9"}}'
        ),
        (
            '{"type":"track","messageId":"taobao:3","userId":"8","timestamp":"2017-11-26T01:00:01.000Z",'
            '"event":"Product Added","properties":{"product_id":"101","category":"9"}}'
        ),
        (
            '{"type":"track","messageId":"taobao:1","userId":"7","timestamp":"2017-11-26T01:00:02.000Z",'
            '"event":"Order Completed","properties":{"order_id":"taobao:1",'
            '"products":[{"product_id":"100","category":"9","quantity":1}]}}'
        ),
    ]
    assert catalogue == [
        '{"item_id":"100","version":1,"category":"9","updated_at":"2017-11-26T01:00:00.000Z"}',
        '{"item_id":"101","version":1,"category":"9","updated_at":"2017-11-26T01:00:01.000Z"}',
    ]
    assert (
        report.read,
        report.used,
        report.written,
        report.dropped_outside,
        report.malformed,
    ) == (4, 4, 4, 0, {})


def test_bad_lines_are_counted_by_reason_and_cost_only_themselves(tmp_path: Path) -> None:
    """Every reason of a line that becomes no event; the good line among them still comes out."""
    report, events, _ = run(
        "taobao",
        tmp_path / "b.csv",
        "1,2,3,pv\n"  # cut off
        "1,,3,pv,1511658000\n"  # an empty field
        "1,2,3,pv,1511658000,x\n"
        "1,2,3,gaze,1511658000\n"
        "1,2,3,pv,soon\n"
        "1,2,3,pv,nan\n"
        "1,2,3,pv,9e15\n"  # no such year
        '1,2,"3,pv,1511658000\n'
        f"1,2,{'3' * (1 << 20)},pv,1511658000\n"
        "\n"
        "1,2,3,pv,1511658000\n",
    )

    assert report.malformed == {
        "bad_time": 3,
        "missing_field": 2,
        "too_many_fields": 1,
        "unknown_behaviour": 1,
        "bad_quoting": 1,
        "line_too_long": 1,
    }
    assert report.read == 10
    assert [event.split('"')[7] for event in events] == ["taobao:11"]


def test_a_readable_but_odd_time_is_kept(tmp_path: Path) -> None:
    """A cut-off "15" is a time of 1970: importers do not judge, the engine does."""
    report, events, _ = run("taobao", tmp_path / "b.csv", "1,2,3,pv,15")

    assert report.malformed == {}
    assert '"timestamp":"1970-01-01T00:00:15.000Z"' in events[0]


def test_items_are_kept_for_a_catalogue_only() -> None:
    """Without one, memory does not grow with them."""
    kept, not_kept = Intake("taobao"), Intake("taobao", keeps_items=False)
    for intake in (kept, not_kept):
        intake.see("i1", 1_000, category="c")

    assert ({"i1"}, set()) == (set(kept.items), set(not_kept.items))


def test_the_window_is_half_open_and_its_items_alone_are_in_the_catalogue(tmp_path: Path) -> None:
    """The first second is in, the last is out; what was sold outside is not known."""
    report, events, catalogue = run(
        "taobao",
        tmp_path / "b.csv",
        "1,9,3,pv,99\n1,10,3,pv,100\n1,11,3,pv,199\n1,12,3,pv,200\n",
        from_s=100.0,
        to_s=200.0,
    )

    assert (report.read, report.used, report.written, report.dropped_outside) == (4, 2, 2, 2)
    assert [event.split('"')[7] for event in events] == ["taobao:2", "taobao:3"]
    assert [item.split('"')[3] for item in catalogue] == ["10", "11"]
    assert (report.first_ms, report.last_ms) == (100_000, 199_000)


def test_movielens_recbole_ratings_and_films(tmp_path: Path) -> None:
    """Ratings are text without a fraction of zero; films come from the file beside, unrated ones included."""
    (tmp_path / "ml.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "242\tKolya\t1996\tComedy\n51\tLegends of the Fall\tV\tDrama War\n"
    )
    _, events, catalogue = run(
        "movielens",
        tmp_path / "ml.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "196\t242\t3.0\t881250949\n7\t242\t4\t881250948\n7\t8\t3.5\t881250950\n",
    )

    assert events == [
        (
            '{"type":"track","messageId":"movielens:3","userId":"7","timestamp":"1997-12-04T15:55:48.000Z",'
            '"event":"Product Reviewed","properties":{"product_id":"242","rating":"4"}}'
        ),
        (
            '{"type":"track","messageId":"movielens:2","userId":"196","timestamp":"1997-12-04T15:55:49.000Z",'
            '"event":"Product Reviewed","properties":{"product_id":"242","rating":"3"}}'
        ),
        (
            '{"type":"track","messageId":"movielens:4","userId":"7","timestamp":"1997-12-04T15:55:50.000Z",'
            '"event":"Product Reviewed","properties":{"product_id":"8","rating":"3.5"}}'
        ),
    ]
    assert catalogue == [
        (
            '{"item_id":"242","version":1,"name":"Kolya","category":"Comedy","attributes":{"year":1996},'
            '"updated_at":"1997-12-04T15:55:48.000Z"}'
        ),
        (
            '{"item_id":"51","version":1,"name":"Legends of the Fall","category":"Drama War",'
            '"updated_at":"1997-12-04T15:55:48.000Z"}'
        ),
        '{"item_id":"8","version":1,"updated_at":"1997-12-04T15:55:50.000Z"}',
    ]


@pytest.mark.parametrize(
    ("heading", "film", "rest"),
    [
        (
            "\trelease_year:token\tgenre:token_seq",
            "\t1994\tWar",
            ',"category":"War","attributes":{"year":1994}',
        ),
        ("\tgenre:token_seq", "\tDrama War", ',"category":"Drama War"'),
        ("", "", ""),
    ],
)
def test_movielens_films_of_the_larger_sets(tmp_path: Path, heading: str, film: str, rest: str) -> None:
    """RecBole's files of 1M ratings and more say `genre`; what a file does not say is left out."""
    (tmp_path / "ml-1m.item").write_text(
        f"item_id:token\tmovie_title:token_seq{heading}\n51\tLegends of the Fall{film}\n"
    )
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    _, events, catalogue = run("movielens", tmp_path / "ml-1m.inter", f"{header}1\t51\t4\t881250948\n")

    assert len(events) == 1
    item = f'{{"item_id":"51","version":1,"name":"Legends of the Fall"{rest}'
    assert catalogue == [item + ',"updated_at":"1997-12-04T15:55:48.000Z"}']


def test_nothing_is_written_where_the_films_cannot_be_read(tmp_path: Path) -> None:
    """The file beside the ratings is read before the first event is written."""
    (tmp_path / "ml-1m.item").write_text("item_id:token\tcolour:token\n51\tred\n")
    (tmp_path / "ml-1m.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t51\t4\t881250948\n"
    )
    out = io.BytesIO()
    with pytest.raises(DataSetError, match="movie_title"):
        import_events("movielens", tmp_path / "ml-1m.inter", out=out, catalogue=io.BytesIO())

    assert b"" == out.getvalue()


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2010-12-01 08:26:00+02:00", "2010-12-01T06:26:00.000Z"),
        ("2010-12-01T08:26:00Z", "2010-12-01T08:26:00.000Z"),
        ("0001-01-01T00:00:00+05:00", None),
    ],
)
def test_online_retail_heeds_a_zone(tmp_path: Path, written: str, time: str | None) -> None:
    """Somebody exported with one; a moment before the year 1 is none."""
    line = f"1,A,LAMP,2,{written},2.55,17850.0,United Kingdom\n"
    report, events, _ = run("online-retail", tmp_path / "r.csv", RETAIL_HEADER + line)

    assert ([] if time is None else [time]) == [json.loads(event)["timestamp"] for event in events]
    assert ({"bad_time": 1} if time is None else {}) == report.malformed


def test_movielens_original_files(tmp_path: Path) -> None:
    """GroupLens' u.data has no header; u.item is Latin-1 with one flag for each genre."""
    flags = "|".join("1" if n in {1, 5} else "0" for n in range(19))
    (tmp_path / "u.item").write_bytes(
        f"1|Les Misérables (1995)|01-Jan-1995||http://x|{flags}\n".encode("latin-1")
    )
    report, events, catalogue = run(
        "movielens", tmp_path / "u.data", "196\t1\t3\t881250949\n7\t1\tx\t881250949\n"
    )

    assert len(events) == 1
    assert '"messageId":"movielens:1"' in events[0]
    assert report.malformed == {"bad_number": 1}
    assert catalogue == [
        (
            '{"item_id":"1","version":1,"name":"Les Misérables (1995)","category":"Action Comedy",'
            '"attributes":{"year":1995},"updated_at":"1997-12-04T15:55:49.000Z"}'
        )
    ]


def test_yoochoose_sessions_are_anonymous(tmp_path: Path) -> None:
    """Fractions of a second survive to the millisecond; the session is the visitor; columns go by name."""
    _, events, _ = run(
        "yoochoose", tmp_path / "c.txt", "ItemId\tSessionId\tTime\n214716935\t3\t1396437466.94\n"
    )

    assert events == [
        (
            '{"type":"track","messageId":"yoochoose:2","anonymousId":"3","timestamp":"2014-04-02T11:17:46.940Z",'
            '"event":"Product Viewed","properties":{"product_id":"214716935"}}'
        )
    ]


def test_online_retail_invoices_become_orders_and_refunds(tmp_path: Path) -> None:
    """Lines of one invoice are one order, also when others stand between; odd lines stay out of it."""
    report, events, catalogue = run(
        "online-retail",
        tmp_path / "r.csv",
        RETAIL_HEADER + "1,A,LAMP ,2,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
        'C2,A,LAMP,-1,2010-12-01 09:00:00,2.55,17850,"Korea, South"\n'
        '1,B,"SET, ""BLUE""",1,2010-12-01 08:27:00,3.1,17850.0,United Kingdom\n'
        "1,B,,-3,2010-12-01 08:26:00,0,17850.0,United Kingdom\n"
        "1,B,GIFT,1,2010-12-01 08:26:00,0,17850.0,United Kingdom\n"
        "1,B,SET,1.5,2010-12-01 08:26:00,1,17850.0,United Kingdom\n"
        "3,A,LAMP,1,12/1/2010 9:30,2.1,,France\n",
    )

    assert events == [
        (
            '{"type":"track","messageId":"online-retail:2","userId":"17850","timestamp":"2010-12-01T08:26:00.000Z",'
            '"event":"Order Completed","properties":{"order_id":"1","currency":"GBP","total":8.2,"products":['
            '{"product_id":"A","name":"LAMP","quantity":2,"price":2.55},'
            '{"product_id":"B","name":"SET, \\"BLUE\\"","quantity":1,"price":3.1}]}}'
        ),
        (
            '{"type":"track","messageId":"online-retail:3","userId":"17850","timestamp":"2010-12-01T09:00:00.000Z",'
            '"event":"Order Refunded","properties":{"order_id":"C2","currency":"GBP","total":2.55,'
            '"products":['
            '{"product_id":"A","name":"LAMP","quantity":1,"price":2.55}]}}'
        ),
        (
            '{"type":"track","messageId":"online-retail:8","anonymousId":"invoice:3",'
            '"timestamp":"2010-12-01T09:30:00.000Z","event":"Order Completed","properties":{"order_id":"3",'
            '"currency":"GBP","total":2.1,"products":[{"product_id":"A","name":"LAMP","quantity":1,"price":2.1}]}}'
        ),
    ]
    assert catalogue == [
        (
            '{"item_id":"A","version":2,"name":"LAMP","price":2.1,"currency":"GBP",'
            '"updated_at":"2010-12-01T09:30:00.000Z"}'
        ),
        (
            '{"item_id":"B","version":1,"name":"SET, \\"BLUE\\"","price":3.1,"currency":"GBP",'
            '"updated_at":"2010-12-01T08:26:00.000Z"}'
        ),
    ]
    assert report.malformed == {"quantity_not_positive": 1, "price_not_positive": 1, "bad_number": 1}
    assert (report.read, report.used, report.written) == (7, 4, 3)


def test_a_bulk_invoice_is_split_below_the_record_limit(tmp_path: Path) -> None:
    """450 lines of one invoice: three events of one order, each with the total of its own products."""
    lines = "".join(
        f"1,S{n},{'N' * 35},1,2010-12-01 08:26:00,0.1,9,United Kingdom\n"
        for n in range(2 * MAX_PRODUCTS + 50)
    )
    _, events, _ = run("online-retail", tmp_path / "r.csv", RETAIL_HEADER + lines)

    ids = [event.split('"')[7] for event in events]
    assert ids == ["online-retail:2", "online-retail:2#2", "online-retail:2#3"]
    assert [float(e.split('"total":')[1].split(",")[0]) for e in events] == [20.0, 20.0, 5.0]
    assert all('"order_id":"1"' in event and len(event) < 64 * 1024 for event in events)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("online-retail", "1,A,LAMP,2,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"),
        ("yoochoose", "1396437466.94\t3\t4\n"),
        ("movielens", "user_id:token\titem_id:token\n1\t2\n"),
    ],
)
def test_a_file_without_its_header_is_refused(tmp_path: Path, source: str, text: str) -> None:
    """Guessing columns would write wrong events; the error names what is missing."""
    with pytest.raises(DataSetError, match=f"{source}: the first line has no column"):
        run(source, tmp_path / "x.csv", text)


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """The error lists what can be imported."""
    with pytest.raises(
        DataSetError, match=r"unknown source 'netflix'; known: movielens, taobao, online-retail"
    ):
        run("netflix", tmp_path / "x.csv", "")


@pytest.mark.parametrize("source", IMPORTERS)
def test_an_empty_file_is_an_import_of_nothing(tmp_path: Path, source: str) -> None:
    """No events, no items, no error."""
    report, events, catalogue = run(source, tmp_path / "x.csv", "")

    assert (events, catalogue) == ([], [])
    assert (report.read, report.written, report.first_ms, report.last_ms) == (0, 0, None, None)


@pytest.mark.parametrize("source", IMPORTERS)
def test_a_file_of_another_kind_writes_nothing(tmp_path: Path, source: str) -> None:
    """Random bytes are lines that do not fit, or a header that is not there; never a crash."""
    noise = bytes(range(256)) * 50
    try:
        report, events, _ = run(source, tmp_path / "x.csv", noise)
    except DataSetError as error:
        assert source in str(error)  # noqa: PT017 - either outcome is right, by the source
        return

    assert events == []
    assert report.read == sum(report.malformed.values()) > 0


def test_gzip_is_told_by_its_first_bytes_and_progress_ends_at_the_size(tmp_path: Path) -> None:
    """The name does not matter; progress counts the bytes of the file as it lies on disk."""
    path = tmp_path / "b.csv"
    path.write_bytes(gzip.compress(b"1,2,3,pv,1511658000\n" * 20_000, mtime=0))
    seen: list[int] = []
    out = io.BytesIO()

    report = import_events("taobao", path, out=out, progress=seen.append)

    assert report.written == 20_000
    assert path.stat().st_size == seen[-1]
    assert sorted(seen) == seen
    assert len(seen) > 1


def test_a_cut_off_gzip_is_an_error_that_says_where(tmp_path: Path) -> None:
    """Half a download must not pass for a short data set."""
    packed = gzip.compress("".join(f"{n},2,3,pv,1511658000\n" for n in range(5000)).encode(), mtime=0)

    with pytest.raises(DataSetError, match=r"damaged gzip after line \d+"):
        run("taobao", tmp_path / "b.csv.gz", packed[: len(packed) // 2])


def test_standard_input_plain_and_gzip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash reads standard input, gzip or not."""
    line = b"1,2,3,pv,1511658000\n"
    written = []
    for data in (line, gzip.compress(line)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))
        out = io.BytesIO()
        import_events("taobao", "-", out=out)
        written.append(out.getvalue())

    assert written[0] == written[1]
    assert written[0].startswith(b'{"type":"track","messageId":"taobao:1"')


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    """Spreadsheets write one; the first column must still be found."""
    text = RETAIL_HEADER + "1,A,LAMP,2,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
    _, events, _ = run("online-retail", tmp_path / "r.csv", b"\xef\xbb\xbf" + text.encode())

    assert len(events) == 1


def test_every_reason_and_source_is_documented() -> None:
    """The page on importing has a line for each reason in the closed enum, and for each source."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "importing.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip().strip("`") for line in page.splitlines() if line.startswith("|")}

    assert {*Reason, *IMPORTERS} <= rows
