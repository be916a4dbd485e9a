from __future__ import annotations

from schemas.ids import bucket, id_of, token


def test_ids_are_stable_across_processes() -> None:
    """The values are part of the contract: they may never change."""
    assert "26da935bbea218bf80db48899269daf7" == id_of("cart", "u", "p", "m")
    assert 3862828053442296530 == token("m-1")
    assert token("m-1") != token("m-2")


def test_parts_do_not_run_into_each_other() -> None:
    """Moving a letter from one part to the next gives another id."""
    assert id_of("ab", "c") != id_of("a", "bc")


def test_buckets_are_uniform_and_depend_on_the_salt() -> None:
    """A tenth of 20,000 users falls below .1 (standard deviation 42), by each salt another tenth."""
    users = [f"u{n}" for n in range(20_000)]
    first = {user for user in users if bucket("a", user) < 0.1}
    second = {user for user in users if bucket("b", user) < 0.1}

    assert abs(len(first) - 2000) < 200
    assert abs(len(first & second) - 200) < 70


def test_a_long_salt_counts_to_its_end() -> None:
    """Salts that differ behind their sixty-fourth byte draw other users; of two alike one draws the same."""
    users = [f"u{n}" for n in range(5000)]
    long = "s" * 80
    first, second = ({user for user in users if bucket(long + name, user) < 0.5} for name in "ab")

    assert abs(len(first & second) - 1250) < 150
    assert first == {user for user in users if bucket(long + "a", user) < 0.5}
