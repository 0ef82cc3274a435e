"""What a compiled loop costs."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax


T = TypeVar("T")


def timed(advance: Callable[[T, int], T], carry: T, iterations: int, blocks: int = 5) -> tuple[float, float]:
    """Medians over blocks: the processor's and the clock's seconds per iteration, after a block that does not count.

    **Arguments:**

    - `advance`: goes on by a block, given the carry and the number of the block.
    - `carry`: where to start; may be donated.
    - `iterations`: how many a block has.
    - `blocks`: how many are timed.
    """
    carry = jax.block_until_ready(advance(carry, 0))
    cpu, wall = [], []
    for block in range(blocks):
        w, c = time.perf_counter(), time.process_time()
        carry = jax.block_until_ready(advance(carry, block))
        wall.append((time.perf_counter() - w) / iterations)
        cpu.append((time.process_time() - c) / iterations)
    return statistics.median(cpu), statistics.median(wall)


def own_paths() -> dict[str, str]:
    """The environment in which a process that this one starts imports what this one does."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def on_one_core(module: str, function: str, *args: Any) -> Any:
    """What a function returns in a process that has one core, as peers have one thread.

    XLA's threads wait for each other in loops, which counts as processor time: with two of them, small programs take up
    to twice as much of it. Where a process cannot be held to a core, it has all.

    **Arguments:**

    - `module`, `function`: where it is; it returns what JSON can tell.
    - `args`: numbers and strings.
    """
    pin = "os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})" if sys.platform == "linux" else "pass"
    program = (
        f"import importlib, json, os\n{pin}\n"
        f"found = importlib.import_module({module!r}).{function}(*{args!r})\nprint(json.dumps(found))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | own_paths(), check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])
