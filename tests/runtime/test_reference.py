"""The view of the catalogue, and what follows from it, are up to date after each lot of records."""

from __future__ import annotations

import msgspec
from aiokafka import ConsumerRecord
from msgspec import Struct

from online_models.changes import Changes
from stream.assembly import build_models
from stream.core.reference import Reference
from stream.runtime.kafka import KafkaTransport
from stream.runtime.reference import LOT_RECORDS, ReferenceReader
from stream.runtime.shared import follow
from stream.runtime.topics import TopicNames
from stream.sections import KafkaSettings
from stream.settings import Settings


def test_a_lot_of_records_is_followed_before_the_next_event() -> None:
    """Bad records are named and skipped; an empty one deletes; newcomers and what is withheld are known."""
    names = TopicNames("t.")
    reference, models = Reference(), build_models(Settings(max_items=256))
    bad: list[str] = []
    assert models.newcomers is not None
    lots: list[int] = []

    def applied() -> None:
        follow(reference, models)
        lots.append(len(reference.items))

    reader = ReferenceReader(
        KafkaTransport(KafkaSettings()),
        names,
        dict.fromkeys(names.reference, 1),
        reference,
        on_bad=bad.append,
        on_applied=applied,
    )
    values = {
        "seen": b'{"item_id":"seen","version":1,"category":"shoes"}',
        "new": b'{"item_id":"new","version":1,"category":"shoes"}',
        "gone": b'{"item_id":"gone","version":1,"category":"shoes","stock":0}',
        "odd": b'{"version":1}',
    }
    reader.apply(
        ConsumerRecord(names.catalogue, 0, n, 0, 1, key.encode(), value, None, -1, len(value), ())
        for n, (key, value) in enumerate(values.items())
    )

    assert [names.catalogue] == bad
    assert [3] == lots
    looked = models.newcomers._looked[0], reference._looked  # before anybody asked
    assert (reference.items.changes.revision,) * 2 == looked
    assert {"gone"} == set(reference.withheld())
    models.fold.begin()
    models.blend.vocabulary.touch("seen", 0.0)
    assert ["new"] == models.newcomers.of(["seen"], 1.0, reference.items).item_ids
    reader.apply([ConsumerRecord(names.catalogue, 0, 9, 0, 1, b"new", None, None, -1, 0, ())])
    assert not models.newcomers.of(["seen"], 1.0, reference.items).item_ids


def test_a_lot_is_no_longer_than_what_is_remembered_of_changes() -> None:
    """Else each lot of a large catalogue would have everything looked through again."""
    changes = Changes()
    for n in range(LOT_RECORDS):
        changes.note(str(n))

    assert changes.since(0) == [str(n) for n in range(LOT_RECORDS)]


class _Odd(Struct):
    def __post_init__(self) -> None:
        raise IndexError


def test_whatever_a_decoder_raises_is_a_bad_record() -> None:
    """A fault of our own definitions must not end every worker, at each start, for one record."""
    names, bad, reference = TopicNames("t."), list[str](), Reference()
    reader = ReferenceReader(
        KafkaTransport(KafkaSettings()),
        names,
        dict.fromkeys(names.reference, 1),
        reference,
        on_bad=bad.append,
        on_applied=lambda: None,
    )
    reader._targets[names.catalogue] = (reference.items, msgspec.json.Decoder(_Odd), "item_id")
    reader.apply([ConsumerRecord(names.catalogue, 0, 0, 0, 1, b"k", b"{}", None, -1, 2, ())])

    assert [names.catalogue] == bad
