"""Stock Faust: an agent that sends one record for each event it gets, with Faust's default settings.

With the serializer ``json``, Faust's default, values are decoded and encoded; with ``raw`` bytes go in and
out untouched, which is the least an agent can do. Started by
``benchmarks/end_to_end.py`` as ``faust -A benchmarks.jobs.faust_echo worker`` with the environment below.
"""

from __future__ import annotations

import os

import faust

app = faust.App(os.environ["ECHO_GROUP"], broker=f"kafka://{os.environ['ECHO_BOOTSTRAP']}")
source = app.topic(os.environ["ECHO_SOURCE"], value_serializer=os.environ["ECHO_SERIALIZER"])
target = app.topic(os.environ["ECHO_TARGET"], value_serializer=os.environ["ECHO_SERIALIZER"])


@app.agent(source)
async def echo(stream: faust.StreamT[object]) -> None:
    """Send on what comes, one by one."""
    async for event in stream.events():
        # It gives the delivery to wait for, which a stock agent leaves to Faust.
        await target.send(key=event.key, value=event.value)  # type: ignore[unused-awaitable]
