"""What is new in the catalogue is recommended before anybody met it, to those who look at such things."""

from __future__ import annotations

from datetime import UTC, datetime

from online_models.vocabulary import Vocabulary
from schemas.catalogue import Item
from stream.core.newcomers import Newcomers
from stream.core.reference import Reference
from stream.settings import Settings
from stream.testing import Driver, event

DAY = 86_400.0


def record(item_id: str, category: str, at: float, **fields: object) -> Item:
    """A catalogue record in force from a time on."""
    when = datetime.fromtimestamp(at, UTC)
    return Item(item_id=item_id, version=1, category=category, updated_at=when, **fields)  # type: ignore[arg-type]


def met(*item_ids: str) -> Vocabulary:
    """Items that somebody met."""
    vocabulary = Vocabulary(100)
    vocabulary.begin()
    for item_id in item_ids:
        vocabulary.touch(item_id, 0.0)
    return vocabulary


def test_the_newest_of_the_kinds_looked_at_come_first() -> None:
    """Met, hidden and future items are left out, and so are other categories."""
    items = [
        record("shoe-0", "shoes", 0.0),
        record("shoe-1", "shoes", 10.0),
        record("shoe-2", "shoes", 20.0),
        record("hidden", "shoes", 20.0, hidden=True),
        record("future", "shoes", 99.0),
        record("hat-1", "hats", 10.0),
        record("hat-0", "hats", 0.0),
    ]
    newcomers = Newcomers(Reference({item.item_id: item for item in items}))

    assert ["shoe-2", "shoe-1"] == [one for one, _ in newcomers.of(["shoe-0"], 50.0, met("shoe-0"))]
    both = newcomers.of(["hat-0", "shoe-0"], 50.0, met("shoe-0", "hat-0"))
    assert ["hat-1", "shoe-2", "shoe-1"] == [one for one, _ in both]
    assert [] == newcomers.of(["unknown"], 50.0, met())
    assert [] == newcomers.of([], 50.0, met())


def test_changes_of_the_catalogue_are_followed() -> None:
    """An item that moves to another category, or goes, is found where it is now."""
    reference = Reference({"a": record("a", "shoes", 0.0), "b": record("b", "shoes", 0.0)})
    newcomers, known = Newcomers(reference), met("a")
    assert ["b"] == [one for one, _ in newcomers.of(["a"], 1.0, known)]

    reference.items["b"] = record("b", "hats", 0.0)
    reference.items["c"] = record("c", "shoes", 0.0)
    assert ["c"] == [one for one, _ in newcomers.of(["a"], 1.0, known)]
    reference.items.drop("c")
    assert [] == newcomers.of(["a"], 1.0, known)


def test_what_was_met_is_no_newcomer_until_that_is_undone() -> None:
    """An item that is met between two looks goes; when the batch is rolled back it is new again."""
    newcomers = Newcomers(Reference({name: record(name, "shoes", 0.0) for name in "abc"}))
    known = met("a")
    known.keep()
    known.begin()
    assert ["b", "c"] == [one for one, _ in newcomers.of(["a"], 1.0, known)]
    known.touch("b", 1.0)
    assert ["c"] == [one for one, _ in newcomers.of(["a"], 1.0, known)]
    known.rollback()
    assert ["b", "c"] == [one for one, _ in newcomers.of(["a"], 1.0, known)]


def test_an_item_is_recommended_before_its_first_interaction() -> None:
    """Its record arrives, and somebody who looks at its category gets it; others do not."""
    kinds = {name: name.split("-")[0] for name in ("shoe-1", "shoe-2", "hat-1", "hat-2")}
    stream = Driver(
        settings=Settings(max_items=256, click_slots=2**10, recommend={"min_interval_s": 1e9}),
        items=[record(name, kind, 0.0) for name, kind in kinds.items()],
    )
    for n, name in enumerate(list(kinds) * 5):
        stream.pipe(event("Product Viewed", user=f"u{n}", at=60.0 * n, product_id=name))
    stream.reference.items["shoe-new"] = record("shoe-new", "shoe", 1_500.0)
    listed = {}
    for user, viewed in (("ann", "shoe-1"), ("bob", "hat-1")):
        stream.pipe(event("Product Viewed", user=user, at=2_000.0, product_id=viewed))
        stream.take("recommendations")
        stream.pipe(event("Recommendations Requested", user=user, at=2_060.0, slot="for_you"))
        (answer,) = stream.take("recommendations")
        listed[user] = {item.item_id: item.reasons for item in answer.items}

    assert "new_of_the_kind" in listed["ann"]["shoe-new"]
    assert "shoe-new" not in listed["bob"]
