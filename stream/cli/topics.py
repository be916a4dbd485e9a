"""Commands about topics: plan, apply, grow."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from stream.options import AsJson, Bootstrap, settings_of
from stream.terminal import ExitCode, fail, print_json, progress_bar, say

__all__ = ["app"]

app = typer.Typer(help="Compare the cluster's topics with the declared ones, and create them.")


@app.command("plan")
def topics_plan(bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Show what apply would create, and what differs; changes nothing. Ends with 1 if something differs."""
    _topics(bootstrap, make=False, as_json=as_json)


@app.command("apply")
def topics_apply(bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Create missing topics. Deletes nothing, and never changes a partition count.

    Ends with 1 if a partition count differs.
    """
    _topics(bootstrap, make=True, as_json=as_json)


@app.command("grow")
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
    from stream.runtime.growing import PARTITIONERS, grow

    if partitioner not in PARTITIONERS:
        fail(ExitCode.USAGE, f"--partitioner {partitioner!r}; there are {', '.join(PARTITIONERS)}")
    settings = settings_of(bootstrap=bootstrap)
    models = build_models(settings).fold
    with progress_bar("moving users") as progress:
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
    if as_json:
        print_json({name: getattr(growth, name) for name in ("users", "reference_records", "model_bytes")})
    say(
        f"moved {growth.users} users, {growth.reference_records} reference records and {growth.model_bytes} "
        f"bytes of models; start workers and producers with NUDGE_KAFKA__TOPIC_PREFIX={to_prefix}"
    )


def _topics(bootstrap: str | None, *, make: bool, as_json: bool) -> None:
    from stream.runtime import topics

    settings = settings_of(bootstrap=bootstrap)

    async def run() -> list[topics.Change]:
        async with topics.open_admin(settings.kafka) as admin:
            return await (topics.apply if make else topics.plan)(admin, settings.kafka)

    changes = asyncio.run(run())
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
