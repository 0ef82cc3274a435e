"""What a compiled loop costs."""

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

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
