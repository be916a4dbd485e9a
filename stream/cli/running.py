"""Commands that run the processor or feed it: worker, produce, demo."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from stream.options import MAX_SEED, AsJson, Bootstrap, Campaigns, Catalogue, Offers, Seed, settings_of
from stream.terminal import ExitCode, fail, print_json, progress_bar, say

__all__ = ["app"]

app = typer.Typer()


@app.command()
def worker(
    bootstrap: Bootstrap = None,
    catalogue: Catalogue = None,
    offers: Offers = None,
    campaigns: Campaigns = None,
    seed: Seed = None,
) -> None:
    """Run one worker until SIGTERM or SIGINT.

    Items, offers and campaigns given as files are where it begins; the reference topics are applied on top.
    Ends with 0 after a clean stop, 65 if records are gone from the log, 69 if no broker answers, 78 if the
    topics do not fit, else 70.
    """
    from stream.replay import load_reference
    from stream.worker import run_worker

    settings = settings_of(seed=seed, bootstrap=bootstrap)
    raise typer.Exit(run_worker(settings, load_reference(catalogue, offers, campaigns)))


@app.command()
def produce(
    file: Annotated[
        str,
        typer.Argument(
            help="Records, one JSON object a line, plain or .gz; campaigns also as YAML; - for stdin."
        ),
    ],
    topic: Annotated[str, typer.Option(help="events, catalogue, offers or campaigns.")] = "events",
    bootstrap: Bootstrap = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Most records per second.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a file of records to a topic, in file order, keyed as the topic wants it.

    Campaigns and segments may be what `nudge validate` takes: a YAML or JSON file, or a folder of them. Ends
    with 65 if something was left out: an item, offer or campaign without its id, or what is over 1 MiB.

    Example: nudge produce events.jsonl.gz --bootstrap 127.0.0.1:9092
    """
    from stream.campaign_files import CAMPAIGN_FILES, campaign_records
    from stream.reading import open_lines
    from stream.runtime.producing import KEY_OF_TOPIC, MAX_NAMED
    from stream.runtime.producing import produce as send

    settings = settings_of(bootstrap=bootstrap)
    if topic not in KEY_OF_TOPIC:
        fail(ExitCode.USAGE, f"--topic {topic!r} is none of {', '.join(KEY_OF_TOPIC)}")
    path = Path(file)
    lines: Iterable[bytes]
    if file == "-":
        lines = (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
    elif topic == "campaigns" and (path.is_dir() or path.suffix in CAMPAIGN_FILES):
        lines = campaign_records(path)
    elif path.is_file():
        lines = open_lines(path)
    else:
        fail(ExitCode.USAGE, f"no file {file}")
    name = f"{settings.kafka.topic_prefix}{topic}.v1"
    with progress_bar(f"producing to {name}") as progress:
        report = asyncio.run(
            send(
                settings.kafka,
                name,
                lines,
                key=KEY_OF_TOPIC[topic],
                rate=rate,
                progress=progress,
            )
        )
    if as_json:
        counts = {"without_key": report.without_key, "too_large": report.n_too_large}
        print_json({"topic": name, "sent": report.sent} | counts)
    said = f"{report.sent} records written to {name} in {report.seconds:.1f} s"
    if topic == "events" and report.without_key:
        said += f", {report.without_key} without a key"
    say(said)
    if report.n_too_large:
        which = ", ".join(map(str, report.too_large)) + (", ..." if report.n_too_large > MAX_NAMED else "")
        fail(ExitCode.BAD_DATA, f"{report.n_too_large} left out that are larger than 1 MiB: line {which}")
    if topic != "events" and report.without_key:
        fail(ExitCode.BAD_DATA, f"{report.without_key} left out that have no {KEY_OF_TOPIC[topic]}")


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="How long events are streamed.")] = 25.0,
    rate: Annotated[float, typer.Option(min=1, help="Events per second.")] = 500.0,
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, help="Of the shop and of the worker's draws.")
    ] = 7,
    bootstrap: Annotated[str | None, typer.Option(help="A Kafka to use; default: its own.")] = None,
    events: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Stream this file in place of the shop.")
    ] = None,
    catalogue: Catalogue = None,
    offers: Offers = None,
    campaigns: Campaigns = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the topics on --bootstrap.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a broker, a worker and a simulated shop, watch them live, and end with a summary.

    Ends with 0 when every event has had its effects; with 69 if no broker answers, 130 after Ctrl-C.
    """
    from stream.demo import DemoOptions, run_demo

    options = DemoOptions(
        seconds, rate, seed, bootstrap, events, catalogue, offers, campaigns, as_json=as_json, keep=keep
    )
    raise typer.Exit(run_demo(options))
