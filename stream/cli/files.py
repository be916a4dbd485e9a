"""Commands that read or write files: validate, import, simulate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.options import MAX_SEED, AsJson, open_sink, time_of
from stream.printing import show_validation
from stream.terminal import ExitCode, fail, print_json, progress_bar, say

if TYPE_CHECKING:
    from stream.importing import ImportReport

__all__ = ["app"]

app = typer.Typer()


@app.command()
def validate(
    file: Annotated[
        Path,
        typer.Argument(exists=True, help="Events, items or offers as lines; campaigns, or a folder of them."),
    ],
    as_json: AsJson = False,
) -> None:
    """Check a file of events, items, offers or campaigns, and say what is wrong where.

    The first record says what it holds. Ends with 0 if all is valid, with 1 if an event is faulty,
    with 65 if anything else is not valid.
    """
    from stream.reading import read_items, read_offers
    from stream.validating import kind_of, validate_events

    kind = kind_of(file)
    if kind == "campaigns":
        _validate_campaigns(file, as_json=as_json)
        return
    if kind != "events":
        count = len((read_items if kind == "catalogue" else read_offers)(file))
        if as_json:
            print_json({kind: count})
        say(f"{count} {'items' if kind == 'catalogue' else kind} are valid")
        return
    with progress_bar(f"checking {file.name}") as progress:
        report = validate_events(file, progress)
    if as_json:
        print_json(report)
    else:
        show_validation(report)
    if report["rejected"] or report["faulty"]:
        raise typer.Exit(ExitCode.FAILED_CHECK)


def _validate_campaigns(file: Path, *, as_json: bool) -> None:
    from stream.campaign_files import read_campaigns, read_segments

    campaigns, segments = read_campaigns(file), read_segments(file)
    if not campaigns and not segments:
        fail(ExitCode.BAD_DATA, f"{file}: no campaign and no segment in it")
    if as_json:
        print_json({"campaigns": sorted(campaigns)} | ({"segments": sorted(segments)} if segments else {}))
    say(f"{len(campaigns)} campaigns are valid" + (f", and {len(segments)} segments" if segments else ""))


@app.command(name="import")
def import_(
    source: Annotated[str, typer.Argument(help="movielens, taobao, online-retail or yoochoose.")],
    file: Annotated[str, typer.Argument(help="The data set's file, plain or .gz, or - for stdin.")],
    catalogue: Annotated[Path | None, typer.Option(help="Write the catalogue here.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Drop events before this time.")] = None,
    to: Annotated[str | None, typer.Option(help="Drop events at or after this time.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON to stderr.")] = False,
) -> None:
    """Turn a public data set into canonical events on stdout, sorted by time.

    Example: nudge import taobao UserBehavior.csv.gz --from 2017-11-24 --to 2017-12-04 > events.jsonl
    """
    from stream.importing import IMPORTERS, DataSetError, files_read, import_events

    if source not in IMPORTERS:
        fail(ExitCode.USAGE, f"unknown source {source!r}; known: {', '.join(IMPORTERS)}")
    path: Any = "-" if file == "-" else Path(file)
    if path != "-" and not path.is_file():
        fail(ExitCode.USAGE, f"no file {file}")
    bounds = {"--from": from_, "--to": to}
    from_s, to_s = (None if text is None else time_of(text, name) for name, text in bounds.items())
    if catalogue and catalogue.exists() and any(map(catalogue.samefile, files_read(source, path))):
        fail(ExitCode.USAGE, f"--catalogue {catalogue} is a file of the data set; name another")
    sink = None if catalogue is None else open_sink(catalogue, "--catalogue")
    try:
        with progress_bar(f"importing {file} (bytes)") as progress:
            report = import_events(
                source,
                path,
                out=sys.stdout.buffer,
                catalogue=sink,
                from_s=from_s,
                to_s=to_s,
                progress=progress,
            )
        sys.stdout.buffer.flush()
    except DataSetError as error:
        fail(ExitCode.BAD_DATA, str(error))
    finally:
        if sink is not None:
            sink.close()
    _show_import(report, file, as_json=as_json)


def _show_import(report: ImportReport, file: str, *, as_json: bool) -> None:
    """Say what became of the lines; end with 65 if none is what the source has."""
    from dataclasses import asdict

    import orjson

    if as_json:
        sys.stderr.buffer.write(orjson.dumps(asdict(report)) + b"\n")
    if report.malformed and not report.written + report.dropped_outside:
        reasons = ", ".join(f"{reason} {n}" for reason, n in report.malformed.items())
        fail(ExitCode.BAD_DATA, f"{file}: no line of {report.read} is of {report.source} ({reasons})")
    if as_json:
        return
    say(
        f"{report.read} lines read, {report.written} events written, "
        f"{report.dropped_outside} outside the window, "
        f"{sum(report.malformed.values())} malformed {report.malformed or ''}"
    )


@app.command()
def simulate(
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="The same seed gives the same bytes.")] = 0,
    users: Annotated[int, typer.Option(min=1, help="Shoppers.")] = 500,
    items: Annotated[int, typer.Option(min=10, help="Items of the shop.")] = 300,
    start: Annotated[str, typer.Option(help="Time of the first event.")] = "2026-01-05",
    duration: Annotated[float, typer.Option(min=1, max=1e9, help="Seconds of event time.")] = 86_400.0,
    rate: Annotated[float, typer.Option(min=0.001, max=1e6, help="Events per second of event time.")] = 1.0,
    hostile_share: Annotated[float, typer.Option(min=0, max=0.5, help="Share of bad records.")] = 0.0,
    catalogue: Annotated[Path | None, typer.Option(help="Write the shop's items here.")] = None,
    offers: Annotated[Path | None, typer.Option(help="Write the shop's offers here.")] = None,
) -> None:
    """Write the events of a simulated shop to stdout.

    Example: nudge simulate --seed 7 --duration 3600 --catalogue items.jsonl > events.jsonl
    """
    from stream import simulating

    begins = time_of(start, "--start")
    if catalogue is not None:
        with open_sink(catalogue, "--catalogue") as sink:
            sink.writelines(row + b"\n" for row in simulating.catalogue(seed, n_items=items, start=begins))
    if offers is not None:
        with open_sink(offers, "--offers") as sink:
            sink.writelines(row + b"\n" for row in simulating.offers(seed, start=begins))
    records = simulating.simulate(
        seed=seed,
        n_users=users,
        n_items=items,
        start=begins,
        duration_s=duration,
        events_per_s=rate,
        hostile_share=hostile_share,
    )
    for record in records:
        sys.stdout.buffer.write(record + b"\n")
    sys.stdout.buffer.flush()
