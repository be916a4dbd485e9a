"""``nudge demo``: broker, topics, worker and a simulated shop on one machine, watched live."""

from __future__ import annotations

from stream.demo.options import DemoOptions
from stream.demo.run import run_demo

__all__ = ["DemoOptions", "run_demo"]
