"""The command line. Each command is thin: parse, call, print.

Data goes to stdout, talk to stderr; ``--json`` wherever a program may read; exit codes in
:class:`stream.terminal.ExitCode`.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import typer

from schemas.codec import Rejected
from schemas.commands import CommandKind, decode_command
from stream.evaluate.commands import app as evaluate_app
from stream.looking_back import app as looking_back_app
from stream.options import AsJson, Bootstrap, Campaigns, Catalogue, Offers, Seed, settings_of, time_of
from stream.printing import show_validation
from stream.reading import BadFileError
from stream.terminal import ExitCode, fail, print_json, progress_bar, say

__all__ = ["main"]

app = typer.Typer(
    name="nudge",
    help="Streaming event processor for smart marketing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
topics_app = typer.Typer(help="Compare the cluster's topics with the declared ones, and create them.")
schemas_app = typer.Typer(help="Write or check the published JSON Schemas and the AsyncAPI document.")
config_app = typer.Typer(help="Show and check the settings.")
app.add_typer(looking_back_app)
app.add_typer(topics_app, name="topics")
app.add_typer(schemas_app, name="schemas")
app.add_typer(config_app, name="config")
app.add_typer(evaluate_app, name="evaluate")

PUBLISHED = Path("schemas/published")


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(exists=True, help="Events, or campaigns: YAML, or a folder of it.")],
    as_json: AsJson = False,
) -> None:
    """Check a file of events (or campaigns: a folder, or a .yaml ending) and say what is wrong where.

    Ends with 0 if all is valid, with 1 if something would be rejected.
    """
    from stream.campaign_files import read_campaigns, read_segments
    from stream.validating import validate_events

    if file.is_dir() or file.suffix in {".yaml", ".yml"}:
        campaigns, segments = read_campaigns(file), read_segments(file)
        if as_json:
            print_json(
                {"campaigns": sorted(campaigns)} | ({"segments": sorted(segments)} if segments else {})
            )
        say(f"{len(campaigns)} campaigns are valid" + (f", and {len(segments)} segments" if segments else ""))
        return
    with progress_bar(f"checking {file.name}") as progress:
        report = validate_events(file, progress)
    if as_json:
        print_json(report)
    else:
        show_validation(report)
    if report["rejected"]:
        raise typer.Exit(ExitCode.FAILED_CHECK)


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
    from dataclasses import asdict

    import orjson

    from stream.importing import DataSetError, import_events

    path: Any = "-" if file == "-" else Path(file)
    if path != "-" and not path.is_file():
        fail(ExitCode.USAGE, f"no file {file}")
    window = (time_of(from_, "--from") if from_ else None, time_of(to, "--to") if to else None)
    sink = catalogue.open("wb") if catalogue else None
    try:
        with progress_bar(f"importing {file} (bytes)") as progress:
            report = import_events(
                source,
                path,
                out=sys.stdout.buffer,
                catalogue=sink,
                from_s=window[0],
                to_s=window[1],
                progress=progress,
            )
        sys.stdout.buffer.flush()
    except DataSetError as error:
        fail(ExitCode.BAD_DATA, str(error))
    finally:
        if sink is not None:
            sink.close()
    if as_json:
        sys.stderr.buffer.write(orjson.dumps(asdict(report)) + b"\n")
        return
    say(
        f"{report.read} lines read, {report.written} events written, "
        f"{report.dropped_outside} outside the window, "
        f"{sum(report.malformed.values())} malformed {report.malformed or ''}"
    )


@app.command()
def simulate(
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    users: Annotated[int, typer.Option(min=1, help="Shoppers.")] = 500,
    items: Annotated[int, typer.Option(min=10, help="Items of the shop.")] = 300,
    start: Annotated[str, typer.Option(help="Time of the first event.")] = "2026-01-05",
    duration: Annotated[float, typer.Option(min=1, help="Seconds of event time.")] = 86_400.0,
    rate: Annotated[float, typer.Option(min=0.001, help="Events per second of event time.")] = 1.0,
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
        rows = simulating.catalogue(seed, n_items=items, start=begins)
        catalogue.write_bytes(b"".join(row + b"\n" for row in rows))
    if offers is not None:
        offers.write_bytes(b"".join(row + b"\n" for row in simulating.offers(seed, start=begins)))
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
def stop(
    switch: Annotated[str, typer.Argument(help="messages, learning or models.")],
    campaign: Annotated[str | None, typer.Option(help="With messages: those of this campaign only.")] = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Stop all messages or one campaign's, learning, or the use of models (slates are best sellers then).

    Every partition obeys with its next batch, and stays stopped until `nudge resume`.

    Example: nudge stop messages --campaign cart
    """
    _command(CommandKind.STOP, bootstrap, switch=switch, campaign_id=campaign)


@app.command()
def resume(
    switch: Annotated[str, typer.Argument(help="messages, learning or models.")],
    campaign: Annotated[str | None, typer.Option(help="With messages: those of this campaign only.")] = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Let go on what `nudge stop` stopped under the same words.

    Example: nudge resume messages --campaign cart
    """
    _command(CommandKind.RESUME, bootstrap, switch=switch, campaign_id=campaign)


@app.command()
def erase(
    user: Annotated[str, typer.Argument(help="The user's id, as events name it.")],
    bootstrap: Bootstrap = None,
) -> None:
    """Forget a user: profile, timers, open decisions and the models' memory of the user.

    Outputs that were already written stay for as long as their topics keep them; sums in the models name
    nobody. Consents and refusals are forgotten, too.

    Example: nudge erase customer-17
    """
    _command(CommandKind.ERASE, bootstrap, user_id=user)


def _command(kind: CommandKind, bootstrap: str | None, **fields: str | None) -> None:
    """Send a command to all partitions."""
    from stream.runtime.commanding import send_command
    from stream.runtime.errors import WorkerError

    issued_at = datetime.now(UTC).isoformat()
    body = {"command_id": uuid4().hex, "kind": kind.value, "issued_at": issued_at} | fields
    command = decode_command(msgspec.json.encode({key: text for key, text in body.items() if text}))
    if isinstance(command, Rejected):
        fail(ExitCode.USAGE, f"{command.path}: {command.message}")
    settings = settings_of(bootstrap=bootstrap)
    try:
        n_partitions = asyncio.run(send_command(settings.kafka, command))
    except WorkerError as error:
        fail(ExitCode(error.exit_code), str(error))
    say(f"{kind.value} {command.user_id or command.stops}: sent to {n_partitions} partitions")


@app.command()
def produce(
    file: Annotated[str, typer.Argument(help="Records, one JSON object a line, plain or .gz; - for stdin.")],
    topic: Annotated[str, typer.Option(help="events, catalogue, offers or campaigns.")] = "events",
    bootstrap: Bootstrap = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Most records per second.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a file of records to a topic, in file order, keyed as the topic wants it.

    Example: nudge produce events.jsonl.gz --bootstrap 127.0.0.1:9092
    """
    from stream.reading import open_lines
    from stream.runtime.errors import WorkerError
    from stream.runtime.producing import KEY_OF_TOPIC
    from stream.runtime.producing import produce as send

    settings = settings_of(bootstrap=bootstrap)
    if topic not in KEY_OF_TOPIC:
        fail(ExitCode.USAGE, f"--topic {topic!r} is none of {', '.join(KEY_OF_TOPIC)}")
    if file != "-" and not Path(file).is_file():
        fail(ExitCode.USAGE, f"no file {file}")
    lines = (line.rstrip(b"\r\n") for line in sys.stdin.buffer) if file == "-" else open_lines(Path(file))
    name = f"{settings.kafka.topic_prefix}{topic}.v1"
    try:
        with progress_bar(f"producing to {name}") as progress:
            report = asyncio.run(
                send(
                    settings.kafka.bootstrap,
                    name,
                    lines,
                    key=KEY_OF_TOPIC[topic],
                    rate=rate,
                    progress=progress,
                )
            )
    except WorkerError as error:
        fail(ExitCode(error.exit_code), str(error))
    if as_json:
        print_json({"topic": name, "sent": report.sent, "without_key": report.without_key})
        return
    say(
        f"{report.sent} records written to {name}, {report.without_key} of them without a key, "
        f"in {report.seconds:.1f} s"
    )


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="How long events are streamed.")] = 25.0,
    rate: Annotated[float, typer.Option(min=1, help="Events per second.")] = 500.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the shop and of the worker's draws.")] = 7,
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


@topics_app.command("plan")
def topics_plan(bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Show what apply would create, and what differs; changes nothing. Ends with 1 if something differs."""
    _topics(bootstrap, make=False, as_json=as_json)


@topics_app.command("apply")
def topics_apply(bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Create missing topics. Deletes nothing, and never changes a partition count.

    Ends with 1 if a partition count differs.
    """
    _topics(bootstrap, make=True, as_json=as_json)


@topics_app.command("grow")
def topics_grow(
    to_prefix: Annotated[str, typer.Option(help="Prefix of the new topics; nobody may have used it.")],
    partitions: Annotated[int, typer.Option(min=1, max=1024, help="Partitions of the new topics.")],
    partitioner: Annotated[
        str, typer.Option(help="How producers choose a partition: murmur2 (Java, aiokafka) or crc32.")
    ] = "murmur2",
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Move users, models and reference records to topics with another number of partitions.

    Stop the producers, let the workers read everything, stop them, then run this. It ends with 78 if
    something still runs or waits. The old topics stay as they were.
    """
    from stream.assembly import build_models
    from stream.runtime.errors import WorkerError
    from stream.runtime.growing import PARTITIONERS, grow

    if partitioner not in PARTITIONERS:
        fail(ExitCode.USAGE, f"--partitioner {partitioner!r}; there are {', '.join(PARTITIONERS)}")
    settings = settings_of(bootstrap=bootstrap)
    models = build_models(settings).fold
    with progress_bar("moving users") as progress:
        try:
            growth = asyncio.run(
                grow(
                    settings.kafka,
                    models,
                    prefix=to_prefix,
                    partitions=partitions,
                    partitioner=partitioner,
                    progress=progress,
                )
            )
        except WorkerError as error:
            fail(ExitCode(error.exit_code), str(error))
    if as_json:
        print_json({name: getattr(growth, name) for name in ("users", "reference_records", "model_bytes")})
    say(
        f"moved {growth.users} users, {growth.reference_records} reference records and {growth.model_bytes} "
        f"bytes of models; start workers and producers with NUDGE_KAFKA__TOPIC_PREFIX={to_prefix}"
    )


@schemas_app.command("write")
def schemas_write(folder: Annotated[Path, typer.Argument()] = PUBLISHED) -> None:
    """Generate the published schemas from the code."""
    from stream.runtime.asyncapi import published

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in published().items():
        (folder / name).write_text(text)
        say(str(folder / name))


@schemas_app.command("check")
def schemas_check(folder: Annotated[Path, typer.Argument()] = PUBLISHED) -> None:
    """End with 1 if a published schema differs from the code."""
    from stream.runtime.asyncapi import published

    stale = [
        name
        for name, text in published().items()
        if not (folder / name).is_file() or (folder / name).read_text() != text
    ]
    for name in stale:
        say(f"stale: {folder / name} (nudge schemas write)", style="red")
    if stale:
        raise typer.Exit(ExitCode.FAILED_CHECK)


@config_app.command("show")
def config_show() -> None:
    """Print all settings as they are in force."""
    print_json(settings_of().model_dump(mode="json"))


@config_app.command("check")
def config_check() -> None:
    """End with 78 if the settings cannot be used."""
    settings_of()
    say("the settings are valid")


def _topics(bootstrap: str | None, *, make: bool, as_json: bool) -> None:
    from stream.runtime import topics
    from stream.runtime.errors import WorkerError

    settings = settings_of(bootstrap=bootstrap)

    async def run() -> list[topics.Change]:
        async with topics.open_admin(settings.kafka.bootstrap) as admin:
            return await (topics.apply if make else topics.plan)(admin, settings.kafka)

    try:
        changes = asyncio.run(run())
    except WorkerError as error:
        fail(ExitCode(error.exit_code), str(error))
    if as_json:
        print_json([{"action": c.action, "topic": c.topic, "detail": c.detail} for c in changes])
    for change in changes:
        done = "created" if make and change.action == "create" else change.action
        say(f"{done:10} {change.topic}: {change.detail}")
    if not changes:
        say("the topics are as declared")
    # A setting that differs may be the operator's will; a partition count that differs cannot work.
    if any(change.action in {"partitions", "replicas"} if make else True for change in changes):
        raise typer.Exit(ExitCode.FAILED_CHECK)


def main() -> None:
    """Run the command line; what a user can cause ends with a sentence and a code, not with a traceback."""
    try:
        app()
    except BadFileError as error:
        fail(ExitCode.BAD_DATA, str(error))
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(int(ExitCode.OK)) from None
