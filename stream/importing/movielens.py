"""MovieLens ratings: RecBole's ``.inter`` (typed header) and GroupLens' own ``u.data`` (no header).

A rating is a review; the Segment spec writes its rating as text.
The films stand in a file beside the ratings: ``.item``, or ``u.item`` beside ``u.data``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from stream.importing.canonical import Intake, Reason, Timed, encode_event, encode_item, epoch_ms, number
from stream.importing.columns import Fields, split_lines, tab_fields, table
from stream.importing.lines import Line, open_lines

__all__ = ["find_films", "movielens_catalogue", "movielens_events"]

_RATINGS = {
    "user": ("user_id:token",),
    "item": ("item_id:token",),
    "rating": ("rating:float",),
    "time": ("timestamp:float",),
}
_FILMS = {
    "item": ("item_id:token",),
    "title": ("movie_title:token_seq",),
    "year": ("release_year:token",),
    "classes": ("class:token_seq", "genre:token_seq"),  # of ml-100k, and of the larger sets
}
# The 19 flags that end a line of u.item, in the order of u.genre.
_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_N_ITEM_FIELDS = 5 + len(_GENRES)  # id, title, release date, video date, address, flags


def movielens_events(lines: Iterator[Line], intake: Intake) -> Iterator[Timed]:
    """Translate the lines of a ratings file, in file order."""
    for line_number, (user_id, item_id, rating_text, time_text) in _rating_fields(lines, intake):
        if not (user_id and item_id and rating_text and time_text):
            intake.reject(Reason.MISSING_FIELD)
            continue
        rating = number(rating_text)
        if rating is None:
            intake.reject(Reason.BAD_NUMBER)
            continue
        time_ms = epoch_ms(time_text)
        if time_ms is None:
            intake.reject(Reason.BAD_TIME)
            continue
        if not intake.admit(time_ms):
            continue
        intake.see(item_id, time_ms)
        yield Timed(
            time_ms,
            encode_event(
                intake.message_id(line_number),
                {"userId": user_id},
                time_ms,
                "Product Reviewed",
                {"product_id": item_id, "rating": f"{rating:.10g}"},
            ),
        )


def find_films(ratings: Path) -> Path | None:
    """Find the file of films beside a file of ratings, plain or gzip, or nothing."""
    stem = ratings.name.removesuffix(".gz").removesuffix(".inter").removesuffix(".data")
    candidates = (ratings.with_name(f"{stem}.item"), ratings.with_name(f"{stem}.item.gz"))
    return next((path for path in candidates if path.is_file()), None)


def movielens_catalogue(films: Path, intake: Intake, default_ms: int) -> Iterator[tuple[str, bytes]]:
    """Yield the films as ``(item_id, record)``, in file order.

    A film is in the catalogue since its first rating of the import; one without since `default_ms`.
    The films' own lines are not part of the counts; one that lacks its id is left out.
    """
    side = Intake(intake.source)
    with open_lines(films) as lines:
        for item_id, title, year, classes in _films(lines, side):
            if not item_id:
                continue
            seen = intake.items.get(item_id)
            yield (
                item_id,
                encode_item(
                    item_id,
                    1,
                    default_ms if seen is None else seen.updated_ms,
                    name=title or None,
                    category=classes or None,
                    attributes={"year": int(year)} if year.isdecimal() and len(year) == 4 else None,
                ),
            )


def _rating_fields(lines: Iterator[Line], intake: Intake) -> Iterator[Fields]:
    first = next(lines, None)
    if first is None:
        return iter(())
    whole = chain((first,), lines)
    if ":token" in (first.text or ""):
        return table(whole, intake, tab_fields, _RATINGS)
    return split_lines(whole, intake, tab_fields, 4)


def _films(lines: Iterator[Line], side: Intake) -> Iterator[list[str]]:
    """Yield id, title, year and classes of each film, from either form of the file."""
    first = next(lines, None)
    if first is None:
        return
    whole = chain((first,), lines)
    if ":token" in (first.text or ""):
        for _, fields in table(whole, side, tab_fields, _FILMS, optional=("year", "classes")):
            yield fields
        return
    for _, fields in split_lines(whole, side, lambda text: text.split("|"), _N_ITEM_FIELDS):
        item_id, title, released = fields[:3]
        classes = [genre for genre, flag in zip(_GENRES, fields[5:], strict=True) if flag == "1"]
        yield [item_id, title, released[-4:], " ".join(classes)]
