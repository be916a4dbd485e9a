"""Progressive log loss, calibration and ranking of the click model on public data; JSON on stdout.

    python benchmarks/click_prequential.py [--stream ...] [--model ...] [--workers N] [--merge-every N]
        [--quick]
    python benchmarks/click_prequential.py --examples > examples.jsonl

The second form prints the stream as ``nudge evaluate click`` reads it.

Each event is scored before it is learned. The ML-100K stream is that of docs/models/click-rate.md: all
ratings by time (ties keep the file's order), positive from 4 stars, with user, item, profile and crossed
features.
With more than one worker the users are divided among N models, which exchange their deltas every so
many events.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from online_models.click_rate import ClickRate
from online_models.delta import DeltaWriter, read_delta
from online_models.hashed import HashedLogistic
from online_models.metrics import ClickMetrics
from online_models.proximal import FollowTheRegularizedLeader

DATA = Path(os.environ.get("NUDGE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
BATCH = 500
MODELS: dict[str, Callable[[], HashedLogistic]] = {
    "gaussian": ClickRate,
    "gaussian_flat_curve": lambda: ClickRate(curve_precision=2.0**20),
    "gaussian_full_evidence": lambda: ClickRate(evidence=1.0),
    "gaussian_plain": lambda: ClickRate(evidence=1.0, curve_precision=2.0**20),
    "ftrl": FollowTheRegularizedLeader,
    "ftrl_alpha_.1": lambda: FollowTheRegularizedLeader(alpha=0.1),
}


def ml100k_examples(folder: Path = DATA / "ml-100k") -> Iterator[tuple[str, list[str], int]]:
    """User, feature texts and label of every rating, by time."""
    users = dict(_rows(folder / "ml-100k.user"))
    items = dict(_rows(folder / "ml-100k.item"))
    with gzip.open(folder / "ml-100k.inter.gz", "rt", encoding="utf-8") as lines:
        next(lines)
        ratings = [line.rstrip("\n").split("\t") for line in lines]
    ratings.sort(key=lambda rating: float(rating[3]))
    for user, item, stars, _ in ratings:
        age, gender, occupation, _ = users[user]
        _, year, genres = items[item]
        texts = [f"u{user}", f"i{item}", f"a{int(age) // 10}", f"g{gender}", f"o{occupation}", f"y{year[:3]}"]
        for genre in genres.split():
            texts += [f"G{genre}", f"uG{user}_{genre}"]
        yield user, [*texts, f"gi{gender}_{item}", f"oi{occupation}_{item}"], int(float(stars) >= 4)


def kdd12_examples(folder: Path = DATA / "kdd12-click-small") -> Iterator[tuple[str, list[str], int]]:
    """User, feature texts and label of the small KDD Cup 2012 click sample, in the file's order."""
    with gzip.open(folder / "Click_prediction_small.csv.gz", "rt", encoding="utf-8") as lines:
        names = next(lines).rstrip("\n").replace('"', "").split(",")
        for line in lines:
            row = dict(zip(names, line.rstrip("\n").replace('"', "").split(","), strict=True))
            texts = [f"{name}={value}" for name, value in row.items() if name not in {"click", "impression"}]
            yield row["user_id"], texts, int(row["click"] != "0")


def shoppers_examples(folder: Path = DATA / "online-shoppers") -> Iterator[tuple[str, list[str], int]]:
    """Sessions of a shop, whether they end with an order; numbers in classes of a factor of two."""
    with gzip.open(folder / "online_shoppers_intention.csv.gz", "rt") as file:
        for n, row in enumerate(csv.DictReader(file)):
            label = row.pop("Revenue") == "TRUE"
            texts = [f"{name}={bucket(v) if _is_amount(name) else v}" for name, v in row.items()]
            yield str(n), texts, int(label)


def hillstrom_examples(folder: Path = DATA / "hillstrom-a") -> Iterator[tuple[str, list[str], int]]:
    """Customers of a mail trial with the mail they got, whether they visited, in the file's order."""
    with gzip.open(folder / "hillstrom_rows_00001-32000.csv.gz", "rt") as file:
        for n, row in enumerate(csv.DictReader(file)):
            label = row["visit"] == "1"
            for outcome in ("visit", "conversion", "spend", "history"):
                del row[outcome]
            yield str(n), [f"{name}={value}" for name, value in row.items()], int(label)


def taobao_examples(folder: Path = DATA / "taobao") -> Iterator[tuple[str, list[str], int]]:
    """Events of a shop by time, whether they are more than a view: of user, item, category and hour."""
    with gzip.open(folder / "UserBehavior_first100k.csv.gz", "rt") as file:
        rows = sorted((line.split(",") for line in file), key=lambda row: int(row[4]))
    for user, item, category, kind, at in rows:
        texts = [f"user={user}", f"item={item}", f"category={category}", f"hour={int(at) // 3600 % 24}"]
        yield user, texts, int(kind != "pv")


def _is_amount(name: str) -> bool:
    """Whether a column of the shop's sessions is a number, and no code of a browser or region."""
    return name.startswith(("Administrative", "Informational", "ProductRelated", "PageValues")) or (
        name in {"BounceRates", "ExitRates", "SpecialDay"}
    )


def bucket(value: str | float) -> str:
    """Class of an amount on a scale of logarithms; rates, which are below 1, are finer.

    >>> [bucket(value) for value in (0.0, 0.02, 1.0, 3.0)]
    ['0', '2', '100', '200']
    """
    number = float(value)
    return str(int(100 * math.log2(1.0 + number)) if number < 1.0 else 100 * int(math.log2(1.0 + number)))


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    with path.open(encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            first, *rest = line.rstrip("\n").split("\t")
            yield first, rest


EXAMPLES = {
    "ml-100k": ml100k_examples,
    "kdd12": kdd12_examples,
    "online-shoppers": shoppers_examples,
    "hillstrom": hillstrom_examples,
    "taobao": taobao_examples,
}


def run(
    stream: str, workers: int, merge_every: int, model_name: str = "gaussian", limit: int | None = None
) -> dict[str, object]:
    """Run one stream, or its first events, and return its numbers."""
    models = [MODELS[model_name]() for _ in range(workers)]
    for model in models:
        model.begin()
    encoder = models[0]
    owner: dict[str, int] = {}
    whole, second_half = ClickMetrics(), ClickMetrics()
    examples = itertools.islice(EXAMPLES[stream](), limit)
    data = [(user, encoder.hasher.encode_texts(texts), y) for user, texts, y in examples]
    started = time.perf_counter()
    for n, (user, features, y) in enumerate(data):
        model = models[owner.setdefault(user, len(owner) % workers)]
        p = model.learn_one(features, y)
        whole.update(y, p)
        if 2 * n >= len(data):
            second_half.update(y, p)
        if (n + 1) % (merge_every if workers > 1 else BATCH) == 0:
            _merge(models)
    elapsed = time.perf_counter() - started
    return {
        "stream": stream,
        "model": model_name,
        "workers": workers,
        "merge_every": merge_every if workers > 1 else None,
        **{name: round(number, 5) for name, number in whole.snapshot().items()},
        "log_loss_second_half": round(second_half.get(), 5),
        "features_per_event": round(sum(len(features.slots) for _, features, _ in data) / len(data), 2),
        "us_per_event_with_metrics": round(elapsed / len(data) * 1e6, 2),
        "machine": platform.platform(),
        "python": platform.python_version(),
    }


def _merge(models: list[HashedLogistic]) -> None:
    deltas: list[bytes] = []
    for model in models:
        writer = DeltaWriter(model.spec)
        model.write_delta(writer)
        model.keep()
        deltas.append(writer.to_bytes())
    for at, model in enumerate(models):
        model.begin()
        for source, delta in enumerate(deltas):
            if source != at:
                model.fold(read_delta(delta, model.spec))
        model.keep()
        model.begin()


def main() -> None:
    """Run the stream that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stream", choices=list(EXAMPLES), default="ml-100k")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--merge-every", type=int, default=1000)
    parser.add_argument("--model", choices=list(MODELS), action="append", help="may be repeated; all")
    parser.add_argument("--examples", action="store_true", help="print the stream, measure nothing")
    parser.add_argument("--quick", action="store_true", help="the first 10,000 events")
    arguments = parser.parse_args()
    if arguments.examples:
        for _, texts, y in EXAMPLES[arguments.stream]():
            print(json.dumps({"features": dict.fromkeys(texts, True), "label": y}))
        return
    limit = 10_000 if arguments.quick else None
    found = [
        run(arguments.stream, arguments.workers, arguments.merge_every, model, limit)
        for model in arguments.model or MODELS
    ]
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
