"""``nudge evaluate``: the models on recorded data, beside standing baselines in the same run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from stream.evaluate.baselines import CLICK, RANKING
from stream.terminal import ExitCode, fail, print_json, progress_bar, read_settings, say

__all__ = ["app"]

app = typer.Typer(
    help="Score the models on recorded data, beside standing baselines in the same run.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Baselines = Annotated[str, typer.Option(help="all, none, or names, separated by commas.")]
Plot = Annotated[str | None, typer.Option(help="Draw the series of windows into this .svg file.")]
FILE_HELP = "JSONL, plain or .gz; - for stdin."


@app.command()
def recommend(
    events: Annotated[str, typer.Option(help=FILE_HELP)],
    positive: Annotated[str, typer.Option(help="Event names whose items are the targets, by commas.")],
    k: Annotated[
        str, typer.Option(help="Depths of recall and NDCG, by commas; 10 and 20 always are.")
    ] = "10,20",
    repeats: Annotated[
        str, typer.Option(help="Whether items a user already took: exclude or allow.")
    ] = "exclude",
    warm_up: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the positives, the first, that are not scored.")
    ] = 0.1,
    catalogue: Annotated[
        Path | None, typer.Option(help="Reference records: what is new in them can be proposed.")
    ] = None,
    baselines: Baselines = "all",
    gate: Annotated[
        bool, typer.Option("--gate", help="End with 1 unless popularity and item-kNN are beaten.")
    ] = False,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Rank every positive event's item before it is learned, over the full catalogue.

    Example: nudge evaluate recommend --events events.jsonl --positive "Product Viewed" --json
    """
    if repeats not in {"exclude", "allow"}:
        fail(ExitCode.USAGE, f"--repeats {repeats!r}; write exclude or allow")
    names = frozenset(name.strip() for name in positive.split(",") if name.strip())
    if not names:
        fail(ExitCode.USAGE, f"--positive {positive!r} names no event; write e.g. 'Order Completed'")
    path = _existing(events)
    _check_plot(plot)
    depths = _depths(k)
    chosen = None if baselines == "all" else _chosen(baselines, RANKING)

    from stream.evaluate.plot import plot_recommend
    from stream.evaluate.recommend import Protocol, evaluate_recommend
    from stream.evaluate.show import show_recommend
    from stream.reading import read_item_versions

    protocol = Protocol(names, depths, repeats == "allow", warm_up)
    records, versions = (None, []) if catalogue is None else read_item_versions(_existing(str(catalogue)))
    with progress_bar(f"evaluating {path.name}") as progress:
        report = evaluate_recommend(
            read_settings(),
            path,
            protocol,
            baselines=chosen,
            catalogue=records,
            versions=versions,
            progress=progress,
        )
    show_recommend(report)
    _draw(plot, plot_recommend, report)
    if as_json:
        print_json(report)
    if gate and report["gate"]["passed"] is None:
        fail(ExitCode.USAGE, f"--gate needs baselines to beat; --baselines {baselines!r} has none of them")
    if gate and not report["gate"]["passed"]:
        say(f"recall@10 is not above that of {', '.join(report['gate']['against'])}", style="red")
        raise typer.Exit(ExitCode.FAILED_CHECK)


@app.command()
def click(
    examples: Annotated[str, typer.Option(help=FILE_HELP)],
    baselines: Baselines = "all",
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Predict every example before its label is learned, in the file's order.

    A line is {"time", "features": {...}, "label": 0 or 1, "label_time"?}.
    Example: nudge evaluate click --examples impressions.jsonl.gz --json
    """
    path = _existing(examples)
    _check_plot(plot)
    chosen = _chosen(baselines, CLICK)

    from stream.evaluate.click import evaluate_click
    from stream.evaluate.plot import plot_click
    from stream.evaluate.show import show_click

    with progress_bar(f"evaluating {path.name}") as progress:
        report = evaluate_click(read_settings(), path, baselines=chosen, progress=progress)
    show_click(report)
    _draw(plot, plot_click, report)
    if as_json:
        print_json(report)


@app.command()
def offers(
    logged: Annotated[str, typer.Option(help=FILE_HELP)],
    min_ess: Annotated[float, typer.Option(min=1, help="Least effective sample size of an estimate.")] = 30.0,
    runs: Annotated[int, typer.Option(min=1, max=100, help="Replays with different draws.")] = 3,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Replay logged decisions, and estimate off-policy what the production policy would have earned.

    A line is {"time"?, "context": {...}, "eligible": [...], "action", "reward", "propensity"}.
    Example: nudge evaluate offers --logged decisions.jsonl.gz --json
    """
    path = _existing(logged)
    _check_plot(plot)

    from stream.evaluate.offers import evaluate_offers
    from stream.evaluate.plot import plot_offers
    from stream.evaluate.show import show_offers

    with progress_bar(f"evaluating {path.name}") as progress:
        report = evaluate_offers(read_settings(), path, min_ess=min_ess, runs=runs, progress=progress)
    show_offers(report)
    _draw(plot, plot_offers, report)
    if as_json:
        print_json(report)


def _existing(file: str) -> Path:
    if file != "-" and not Path(file).is_file():
        fail(ExitCode.USAGE, f"no file {file}; give JSONL, plain or .gz, or - for standard input")
    return Path(file)


def _check_plot(file: str | None) -> None:
    if file is not None and not file.endswith(".svg"):
        fail(ExitCode.USAGE, f"--plot {file!r}; only .svg can be drawn, which browsers show and print")
    if file is not None and not Path(file).absolute().parent.is_dir():
        fail(ExitCode.USAGE, f"--plot {file!r}: no folder {Path(file).absolute().parent}")


def _draw(file: str | None, draw: Callable[[dict[str, Any]], str], report: dict[str, Any]) -> None:
    if file is not None:
        Path(file).write_text(draw(report), encoding="utf-8")
        say(f"plot in {file}")


def _depths(text: str) -> tuple[int, ...]:
    try:
        asked = {int(part) for part in text.split(",")}
    except ValueError:
        fail(ExitCode.USAGE, f"--k {text!r}; write whole numbers, e.g. 10,20")
    if not all(1 <= depth <= 100 for depth in asked):
        fail(ExitCode.USAGE, f"--k {text!r}; each from 1 to 100")
    return tuple(sorted(asked | {10, 20}))


def _chosen(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if text in {"all", "none"}:
        return known if text == "all" else ()
    asked = [part.strip() for part in text.split(",")]
    for name in asked:
        if name not in known:
            fail(ExitCode.USAGE, f"--baselines {name!r} is none of all, none, {', '.join(known)}")
    return tuple(name for name in known if name in asked)
