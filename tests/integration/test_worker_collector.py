"""What lives as long as the worker is out of the garbage collector's sight."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from schemas.catalogue import Item
from stream.core.rows import ModelMemory, Profile, Timer
from stream.core.state import Due

pytestmark = pytest.mark.integration

# The port of nobody: the worker is warm by then, finds no broker, and ends.
SCRIPT = """
import gc
from stream.settings import Settings
from stream.worker import run_worker
code = run_worker(Settings(metrics_port=0, kafka={"bootstrap": "127.0.0.1:1"}))
print(code, gc.get_freeze_count(), len(gc.get_objects()))
"""


def test_modules_and_kernels_are_frozen() -> None:
    """A full collection looks at what came after the warm-up only: less than a tenth of all objects."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True, timeout=120)
    code, frozen, tracked = map(int, done.stdout.split()[-3:])

    assert code == 69
    assert frozen > 10 * tracked


@pytest.mark.parametrize(
    "record",
    [
        Item(item_id="a", version=1, attributes={"colour": "red"}),
        Profile(),
        ModelMemory(),
        Timer(0.0, "m1", "Product Added", 0.0, {}),
        Due(0.0, "u", "campaign", "cart"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_records_and_rows_are_out_of_its_sight(record: object) -> None:
    """A million of them hold no cycle, and to look at them would hold the loop for half a second."""
    assert not gc.is_tracked(record)
