"""Commands that look back: replay recorded events, and explain what was decided."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stream.options import (
    AsJson,
    Bootstrap,
    Campaigns,
    Catalogue,
    EventsFile,
    Offers,
    Seed,
    make_folder,
    settings_of,
    time_of,
)
from stream.printing import show_comparison, show_report
from stream.terminal import ExitCode, fail, json_bytes, print_json, progress_bar, say

if TYPE_CHECKING:
    from stream.recording import Recording
    from stream.settings import Settings

__all__ = ["app"]

app = typer.Typer()


@app.command()
def replay(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the results.")],
    events: EventsFile = None,
    from_topic: Annotated[
        str | None, typer.Option(help="Read this topic in place of a file, e.g. marketing.events.v1.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Begin of the topic's range: time, or 0:1200,1:900.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="End of the range, not in it; default: what there is.")
    ] = None,
    catalogue: Catalogue = None,
    offers: Offers = None,
    campaigns: Campaigns = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(exists=True, help="Two files or folders of campaigns, in place of --campaigns."),
    ] = None,
    seed: Seed = None,
    until: Annotated[str | None, typer.Option(help="Let time go on to here after the last event.")] = None,
    now: Annotated[
        str | None, typer.Option(help="Nothing in a file came in after this; default: now.")
    ] = None,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Run recorded events through the production engine, driven by event time.

    Of several lines about an item the later ones count from their updated_at on: price drops and sold-out
    products are what they were.

    Example: nudge replay --events shop.jsonl.gz --campaigns campaigns.yaml --out results

    Example: nudge replay --from-topic marketing.events.v1 --compare now/ then/ --out results
    """
    from stream.comparing import SIDES
    from stream.comparing import compare as compared
    from stream.reading import read_item_versions
    from stream.recording import file_recording
    from stream.replay import load_reference
    from stream.replay import replay as run

    settings = settings_of(seed=seed, bootstrap=bootstrap)
    _check_sources(events, from_topic, (from_, to), now, (compare, campaigns))
    end = None if until is None else time_of(until, "--until")
    runs = (
        [(out, campaigns)]
        if compare is None
        else [(out / side, p) for side, p in zip(SIDES, compare, strict=True)]
    )
    items, versions = read_item_versions(catalogue) if catalogue else ({}, [])
    references = [load_reference(None, offers, path, items) for _, path in runs]
    if events is not None:
        newest = time.time() if now is None else time_of(now, "--now")
        recording = file_recording(events, newest, settings.engine_config().cleaning)
    else:
        recording = _from_topic(settings, from_topic or "", from_, to)
    for folder, _ in runs:
        make_folder(folder, "--out")
    reports = []
    for (folder, _), reference in zip(runs, references, strict=True):
        with progress_bar(f"replaying {recording.name}") as progress:
            reports.append(
                run(settings, recording, folder, reference, versions=versions, until=end, progress=progress)
            )
    difference = None
    if compare is not None:
        difference = compared(out, references[0].offers, [reference.campaigns for reference in references])
    if difference is not None:
        (out / "compare.json").write_bytes(json_bytes(difference))
    if as_json:
        print_json(reports[0] if difference is None else difference)
        return
    for report in reports:
        show_report(report)
    if difference is not None:
        show_comparison(difference)
    say(f"results in {out}")


@app.command()
def clusters(
    events: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="JSONL, plain or .gz.")],
    n: Annotated[int, typer.Option(min=2, max=32, help="Clusters, at most.")] = 4,
    name: Annotated[
        str, typer.Option(help="Of the clustering; its segments are NAME-1, NAME-2 ...")
    ] = "cluster",
    facts: Annotated[
        str, typer.Option(help="Facts to compare users by.")
    ] = "user.n_views,user.n_adds,user.n_orders",
    seed: Seed = None,
) -> None:
    """Learn clusters of users and print them as segments, to be looked at, renamed and declared.

    Example: nudge clusters --events shop.jsonl.gz --n 4 > segments.yaml
    """
    import yaml

    from stream.clustering import clusters as learned
    from stream.reading import BadFileError
    from stream.recording import file_recording

    settings = settings_of(seed=seed)
    recording = file_recording(events, time.time(), settings.engine_config().cleaning)
    with progress_bar(f"reading {recording.name}") as progress:
        try:
            found = learned(settings, recording, n=n, name=name, facts=facts.split(","), progress=progress)
        except BadFileError:
            raise
        except ValueError as error:
            fail(ExitCode.USAGE, f"--facts: {error}")
    for segment, size in found:
        sys.stdout.write(f"# nearest to {size} users\n")
        said = {key: value for key, value in msgspec.to_builtins(segment).items() if value is not None}
        sys.stdout.write(yaml.safe_dump([said], sort_keys=False))
    say(f"{len(found)} clusters of {sum(size for _, size in found)} users")


@app.command()
def explain(
    user: Annotated[str, typer.Argument(help="userId, or anonymousId of who never logged in.")],
    decisions: Annotated[
        Path | None,
        typer.Option(exists=True, help="A replay's output folder, or a decision log; default: the topic."),
    ] = None,
    why_not: Annotated[str | None, typer.Option(help="A campaign whose message did not come.")] = None,
    campaigns: Campaigns = None,
    last: Annotated[int, typer.Option(min=1, help="Decisions to show; --json has all.")] = 20,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Say in plain words what was decided for a user, when and why, from the decision log.

    Ends with 0, with 1 if the log holds no decision about the user, 65 if it cannot be read, 69 without a
    broker.

    Example: nudge explain u17 --decisions results --campaigns campaigns.yaml --why-not cart-reminder
    """
    from stream.campaign_files import read_campaigns
    from stream.explaining import explain as told_of
    from stream.explaining import read_decisions
    from stream.limits import Limits
    from stream.telling import sentences

    settings = settings_of(bootstrap=bootstrap)
    limits = Limits(settings, read_campaigns(campaigns) if campaigns else {})
    found = list(read_decisions(decisions, user)) if decisions else _decisions_on_topic(settings, user)
    told = told_of(found, user, limits, why_not=why_not)
    if as_json:
        print_json(told)
    else:
        for sentence in sentences(told, last):
            sys.stdout.write(sentence + "\n")
    if not found:
        where = decisions or f"{settings.kafka.topic_prefix}decisions.v1 at {settings.kafka.bootstrap}"
        remedy = "check the id, or take a log that reaches further back"
        fail(ExitCode.FAILED_CHECK, f"no decision about user {user!r} in {where}; {remedy}")


def _check_sources(
    events: object, topic: object, bounds: tuple[object, object], now: object, both: tuple[object, object]
) -> None:
    """End with 2 where options contradict each other; one that is given counts whatever it says."""
    is_file = events is not None
    for is_wrong, message in (
        (is_file == (topic is not None), "give either --events FILE or --from-topic TOPIC"),
        (
            is_file and bounds != (None, None),
            "--from and --to are for --from-topic; a file is replayed whole",
        ),
        (
            topic is not None and now is not None,
            "--now is for --events; records of a topic have the broker's time",
        ),
        (None not in both, "give either --campaigns or --compare, which names two of them"),
    ):
        if is_wrong:
            fail(ExitCode.USAGE, message)


def _from_topic(settings: Settings, topic: str, begin: str | None, end: str | None) -> Recording:
    from stream.runtime.recorded import Bound, parse_offsets, topic_recording

    def bound(text: str | None, option: str) -> Bound | None:
        if text is None:
            return None
        offsets = parse_offsets(text)
        return time_of(text, option) if offsets is None else offsets

    return topic_recording(settings.kafka, topic, begin=bound(begin, "--from"), end=bound(end, "--to"))


def _decisions_on_topic(settings: Settings, user: str) -> list[Any]:
    from stream.explaining import decision_of
    from stream.runtime.consuming import read_topic

    topic = f"{settings.kafka.topic_prefix}decisions.v1"
    records = asyncio.run(read_topic(settings.kafka, topic, key=user.encode()))
    return [decision_of(r.value or b"", f"{topic} {r.partition}:{r.offset}") for r in records]
