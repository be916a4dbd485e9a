"""Lines that producers send by mistake or malice, each with the code it must end with.

``"accepted"`` and ``"unknown"`` are fates too. One list serves the decoder, ``validate``, ``replay`` and the
worker.
"""

from __future__ import annotations

__all__ = ["GOOD", "HOSTILE"]


def _line(**changes: str) -> bytes:
    """One valid event as JSON text, with fields replaced by raw JSON; an empty text drops the field."""
    fields = {
        "type": '"track"',
        "messageId": '"h-0"',
        "userId": '"u-hostile"',
        "timestamp": '"2017-11-25T01:00:00.000Z"',
        "event": '"Product Viewed"',
        "properties": '{"product_id":"p1","price":3.5}',
    } | changes
    return ("{" + ",".join(f'"{name}":{text}' for name, text in fields.items() if text) + "}").encode()


GOOD = _line()
_RATED = '{"product_id":"p1","rating":"5"}'

HOSTILE: list[tuple[str, bytes, str]] = [
    ("empty", b"", "not_json"),
    ("blank", b"   ", "not_json"),
    ("truncated", GOOD[:40], "not_json"),
    ("two documents", GOOD + GOOD, "not_json"),
    ("byte order mark", b"\xef\xbb\xbf" + GOOD, "not_json"),
    ("not an object", b"[]", "bad_shape"),
    ("null", b"null", "bad_shape"),
    ("bare NaN", b"NaN", "not_json"),
    ("NaN price", _line(properties='{"product_id":"p1","price":NaN}'), "not_json"),
    ("infinite price", _line(properties='{"product_id":"p1","price":-Infinity}'), "not_json"),
    ("1e308", _line(properties='{"product_id":"p1","price":1e308}'), "out_of_range"),
    ("1e400", _line(properties='{"product_id":"p1","price":1e400}'), "out_of_range"),
    ("2^64", _line(properties='{"product_id":"p1","price":18446744073709551616}'), "out_of_range"),
    ("2^64, unread", _line(properties='{"product_id":"p1","x":18446744073709551616}'), "out_of_range"),
    ("an id of 13 digits", _line(messageId='"h-13"', properties='{"product_id":4006381333931}'), "accepted"),
    (
        "milliseconds, unread",
        _line(messageId='"h-ms"', properties='{"product_id":"p1"},"integrations":{"a":{"id":1690204727202}}'),
        "accepted",
    ),
    ("13 digits of price", _line(properties='{"product_id":"p1","price":4006381333931}'), "out_of_range"),
    ("1e308, unread", _line(properties='{"product_id":"p1","x":1e308}'), "out_of_range"),
    ("400 digits, unread", _line(properties='{"product_id":"p1","x":' + "9" * 400 + "}"), "out_of_range"),
    ("no messageId", _line(messageId=""), "missing_message_id"),
    ("null messageId", _line(messageId="null"), "missing_message_id"),
    ("numeric messageId", _line(messageId="17"), "bad_shape"),
    ("no user", _line(userId=""), "missing_user"),
    ("empty user", _line(userId='""'), "missing_user"),
    ("true as user", _line(userId="true"), "bad_shape"),
    ("no time", _line(timestamp=""), "missing_time"),
    ("no event", _line(event=""), "missing_event"),
    ("no product", _line(properties="{}"), "missing_product"),
    ("no properties", _line(properties=""), "missing_product"),
    ("long messageId", _line(messageId='"' + "m" * 129 + '"'), "bad_id"),
    ("long user", _line(userId='"' + "u" * 129 + '"'), "bad_id"),
    ("long product", _line(properties='{"product_id":"' + "p" * 129 + '"}'), "bad_id"),
    ("long event name", _line(event='"' + "e" * 129 + '"'), "bad_id"),
    ("NUL in user", _line(userId=r'"u\u0000"'), "bad_id"),
    ("line break in user", _line(userId=r'"u\r\nX: y"'), "bad_id"),
    ("year 2099", _line(timestamp='"2099-01-01T00:00:00Z"'), "future"),
    ("year 12017", _line(timestamp='"12017-11-25T01:00:00Z"'), "bad_time"),
    ("seconds as number", _line(timestamp="1511571600"), "bad_time"),
    ("milliseconds as number", _line(timestamp="1511571600000"), "bad_time"),
    ("milliseconds as text", _line(timestamp='"1511571600000"'), "bad_time"),
    ("noon", _line(timestamp='"noon"'), "bad_time"),
    ("1970", _line(timestamp='"1970-01-01T00:00:15Z"'), "late"),
    ("1 MB", _line(properties='{"product_id":"p1","name":"' + "x" * 1_000_000 + '"}'), "too_large"),
    ("1 MB of nothing", b" " * 1_000_000, "too_large"),
    ("deep, unread", _line(properties='{"product_id":"p1","x":' + "[" * 9 + "]" * 9 + "}"), "too_deep"),
    ("very deep", b"[" * 20_000, "too_deep"),
    ("deep objects", b'{"a":' * 5000 + b"1" + b"}" * 5000, "too_deep"),
    (
        "100 keys",
        _line(properties='{"product_id":"p1",' + ",".join(f'"k{n}":1' for n in range(100)) + "}"),
        "too_many_keys",
    ),
    ("lone surrogate", _line(properties=r'{"product_id":"p1","name":"\ud800"}'), "not_json"),
    ("lone surrogate, unread", _line(properties=r'{"product_id":"p1","x":"\ud800"}'), "not_json"),
    ("bad UTF-8", _line().replace(b'"p1"', b'"\xff\xfe"'), "bad_utf8"),
    ("bad UTF-8, unread", _line(properties='{"product_id":"p1","x":"?"}').replace(b"?", b"\xc3"), "bad_utf8"),
    ("text price", _line(properties='{"product_id":"p1","price":"3.50"}'), "bad_shape"),
    ("list as product", _line(properties='{"product_id":["p1"]}'), "bad_shape"),
    ("products is text", _line(event='"Product List Viewed"', properties='{"products":"p1"}'), "bad_shape"),
    (
        "an order whose products are text",
        _line(messageId='"h-o"', event='"Order Completed"', properties='{"products":"p1"}'),
        "accepted",
    ),
    (
        "unsubscribed at noon",
        _line(messageId='"h-n"', event='"Unsubscribed"', timestamp='"noon"'),
        "accepted",
    ),
    ("properties is text", _line(properties='"p1"'), "bad_shape"),
    ("negative price", _line(properties='{"product_id":"p1","price":-1}'), "outlier"),
    ("huge quantity", _line(properties='{"product_id":"p1","quantity":80995000}'), "outlier"),
    ("unknown event", _line(event='"Product Viewd"'), "unknown"),
    ("identify", _line(type='"identify"', event=""), "unknown"),
    ("duplicate keys", _line(messageId='"first","messageId":"h-last"'), "accepted"),
    ("rating as text", _line(messageId='"h-r"', event='"Product Reviewed"', properties=_RATED), "accepted"),
    ("minus zero", _line(messageId='"h-z"', properties='{"product_id":"p1","price":-0.0}'), "accepted"),
    ("underflow", _line(messageId='"h-u"', properties='{"product_id":"p1","price":1e-400}'), "accepted"),
    ("schema registry prefix", b"\x00\x00\x00\x00\x07" + _line(messageId='"h-p"'), "accepted"),
    ("emoji", _line(messageId='"h-e"', properties='{"product_id":"🛒"}'), "accepted"),
]
