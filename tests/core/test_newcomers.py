"""What is new in the catalogue is recommended before anybody met it, to those who look at such things."""

from __future__ import annotations

import random
import sys
from datetime import UTC, datetime

import pytest

from online_models.vocabulary import Vocabulary
from schemas.catalogue import Item
from stream.core.newcomers import Newcomers
from stream.core.newest import N_KEPT, Newest
from stream.core.reference import Rows
from stream.settings import Settings
from stream.testing import Driver, event

DAY = 86_400.0


def record(item_id: str, category: str, at: float, **fields: object) -> Item:
    """A catalogue record in force from a time on."""
    when = datetime.fromtimestamp(at, UTC)
    return Item(item_id=item_id, version=1, category=category, updated_at=when, **fields)  # type: ignore[arg-type]


def met(*item_ids: str, max_rows: int = 100) -> Vocabulary:
    """Items that somebody met."""
    vocabulary = Vocabulary(max_rows)
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
    catalogue = Rows({item.item_id: item for item in items})

    def offered(history: list[str], known: Vocabulary) -> list[str]:
        return [*Newcomers(known).of(history, 50.0, catalogue).item_ids]

    assert ["shoe-2", "shoe-1"] == offered(["shoe-0"], met("shoe-0"))
    assert ["hat-1", "shoe-2", "shoe-1"] == offered(["hat-0", "shoe-0"], met("shoe-0", "hat-0"))
    assert [] == offered(["unknown"], met())
    assert [] == offered([], met())


def test_who_has_more_of_the_values_suits_better() -> None:
    """Of a kind and a brand looked at, what has both comes first; how well it suits is its share of them."""
    items = [
        Item(item_id="seen", version=1, category="shoes", brand="acme"),
        Item(item_id="both", version=1, category="shoes", brand="acme"),
        Item(item_id="shoe", version=1, category="shoes", brand="other"),
    ]
    found = Newcomers(met("seen")).of(["seen"], 0.0, Rows({item.item_id: item for item in items}))

    assert (["both", "shoe"], [1.0, 0.5]) == found


def test_changes_of_the_catalogue_are_followed() -> None:
    """An item that moves to another category, or goes, or may not be shown, is found where it is now."""
    items = Rows({"a": record("a", "shoes", 0.0), "b": record("b", "shoes", 0.0)})
    newcomers = Newcomers(met("a"))
    assert ["b"] == newcomers.of(["a"], 1.0, items).item_ids

    items["b"] = record("b", "hats", 0.0)
    items["c"] = record("c", "shoes", 0.0)
    assert ["c"] == newcomers.of(["a"], 1.0, items).item_ids
    items["c"] = record("c", "shoes", 0.0, stock=0)
    assert not newcomers.of(["a"], 1.0, items).item_ids
    items["c"] = record("c", "shoes", 0.0, stock=1)
    assert ["c"] == newcomers.of(["a"], 1.0, items).item_ids
    items.drop("c")
    assert not newcomers.of(["a"], 1.0, items).item_ids
    other = Rows(items | {"d": record("d", "shoes", 0.0)})
    assert ["d"] == newcomers.of(["a"], 1.0, other).item_ids


def test_what_was_met_is_no_newcomer_until_that_is_undone() -> None:
    """An item that is met between two looks goes; when the batch is rolled back it is new again."""
    items = Rows({name: record(name, "shoes", 0.0) for name in "abc"})
    known = met("a")
    newcomers = Newcomers(known)
    known.keep()
    known.begin()
    assert ["b", "c"] == newcomers.of(["a"], 1.0, items).item_ids
    known.touch("b", 1.0)
    assert ["c"] == newcomers.of(["a"], 1.0, items).item_ids
    known.rollback()
    assert ["b", "c"] == newcomers.of(["a"], 1.0, items).item_ids


@pytest.mark.parametrize("seed", range(8))
def test_an_index_that_follows_is_one_that_is_built_now(seed: int) -> None:
    """Whatever is met, undone, forgotten, listed, hidden or taken away, in whatever order."""
    draw = random.Random(seed)
    names = [f"item-{n}" for n in range(90)]
    items = Rows({name: record(name, "shoes", float(n % 4)) for n, name in enumerate(names)})
    known = met(*names[:5], max_rows=40)
    known.keep()
    known.begin()
    following = Newcomers(known)
    for step in range(400):
        name, at = draw.choice(names), float(step)
        match draw.randrange(8):
            case 0:
                known.rollback()
                known.begin()
            case 1:
                known.keep()
                known.begin()
            case 2:
                items[name] = record(name, draw.choice(["shoes", "hats"]), at, hidden=draw.random() < 0.3)
            case 3:
                items.drop(name)
            case _:
                known.touch(name, at)
        asked = [name, *names[:5]]
        assert Newcomers(known).of(asked, at, items) == following.of(asked, at, items)


@pytest.mark.parametrize("seed", range(4))
def test_older_records_move_up_when_newer_ones_go(seed: int) -> None:
    """Of three hundred records all are taken away, and some come back: what is left is what is built now."""
    draw = random.Random(seed)
    names = [f"item-{n:03}" for n in range(300)]
    items = Rows({name: record(name, "shoes", float(n)) for n, name in enumerate(names)})
    items["seen"] = record("seen", "shoes", 0.0)
    known = met("seen", *names[100:200:3])
    following = Newcomers(known)
    there = list(names)
    while there:
        goes = there.pop() if draw.random() < 0.7 else there.pop(draw.randrange(len(there)))
        items.drop(goes)
        if draw.random() < 0.2:
            back = draw.choice(names)
            there = sorted({*there, back})
            items[back] = record(back, "shoes", float(int(back[-3:]) + draw.choice([0, 0, 7])))
        found = following.of(["seen"], 999.0, items)
        assert Newcomers(known).of(["seen"], 999.0, items) == found
    assert not following.of(["seen"], 999.0, items).item_ids


def test_records_that_come_and_go_leave_nothing_behind() -> None:
    """A catalogue whose old records are replaced ten thousand times keeps as many as it has."""
    newest = Newest(lambda record: record[0] == current.get(record[1]))
    current: dict[str, float] = {}
    for n in range(200):
        current[f"i{n}"] = -1e6 - n
        newest.take((-1e6 - n, f"i{n}"))
    for n in range(10_000):
        name = f"i{n % 100}"
        old, current[name] = current.pop(name), float(n)
        newest.drop((old, name))
        newest.take((float(n), name))

    kept = sorted((time, name) for name, time in current.items())[:N_KEPT]
    assert kept == newest.records
    assert sys.getsizeof(newest._others) < 8 * 600


def test_what_is_not_among_the_newest_does_not_come_back() -> None:
    """A record that newer ones have pushed out is not kept because somebody met it for a moment."""
    names = [f"item-{n:02}" for n in range(70)]  # of which 64 are kept
    items = Rows({name: record(name, "shoes", float(n)) for n, name in enumerate(names)})
    known = met("item-69")
    known.keep()
    newcomers = Newcomers(known)
    assert newcomers.of(["item-69"], 99.0, items).item_ids
    known.begin()
    known.touch("item-00", 1.0)
    assert newcomers.of(["item-69"], 99.0, items).item_ids
    known.rollback()
    known.begin()
    for name in names[6:]:
        known.touch(name, 2.0)
    assert not newcomers.of(["item-69"], 99.0, items).item_ids


def test_who_lost_its_row_is_a_newcomer_again() -> None:
    """The models have forgotten it; what it displaced it with is met."""
    items = Rows({name: record(name, "shoes", 0.0) for name in "abc"})
    known = met("a", "b", max_rows=2)
    newcomers = Newcomers(known)
    assert ["c"] == newcomers.of(["a"], 1.0, items).item_ids
    known.touch("a", 2.0)
    known.touch("c", 3.0)
    assert ["b"] == newcomers.of(["a"], 4.0, items).item_ids


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


def test_values_that_are_gone_leave_nothing() -> None:
    """Categories that are renamed every day do not pile up in the index."""
    known = met("old")
    newcomers = Newcomers(known)
    items = Rows({"old": record("old", "shoes", 0.0)})
    for n in range(200):
        items[f"new-{n % 3}"] = record(f"new-{n % 3}", f"sale-{n}", 0.0)
        items["old"] = record("old", f"sale-{n}", 0.0)
        assert [f"new-{n % 3}"] == newcomers.of(["old"], 1.0, items).item_ids
        assert len(newcomers._newest) <= 3
        assert len(newcomers._unmet) <= 3
