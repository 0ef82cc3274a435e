"""A new kernel against the reference, before it is trusted."""

import concurrent.futures
import itertools as it
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from metaopt.backend import Network, Tensor, Updated


# A kernel may be this much slower than the reference before it is refused; less is noise.
_SLOWEST = 2.0
_SIZE = 2**18
# What smaller tensors take is mostly the call.
_TIMED = 2**12
_ROUNDS, _ATTEMPTS = 3, 4


def is_timed(shape: Sequence[int]) -> bool:
    """Whether the self-test of a kernel for tensors of this shape compares times, too."""
    return math.prod(shape) >= _TIMED


def self_test(
    network: Network,
    features: int,
    tensor: Tensor,
    kernel: Callable[..., Updated],
    reference: Callable[..., Updated],
) -> str:
    """Compare a kernel with the reference, in result and in speed, on random numbers.

    **Arguments:**

    - `network`, `features`: of the rule.
    - `tensor`: one that the kernel was made for; a large one is tested in small.
    - `kernel`, `reference`: functions of a network, a context and arrays.

    **Returns:**

    `ok`, or what is wrong.
    """
    shape = list(tensor.shape)
    while math.prod(shape) > _SIZE and max(shape) > 256:
        shape[shape.index(max(shape))] //= 2
    numbers = it.count()

    def draw(x: Any) -> np.ndarray:
        free = x.shape[: x.ndim - len(shape)] if x.ndim else ()
        own = tuple(n if m > 1 else 1 for n, m in zip(shape, x.shape[len(free) :], strict=True)) if x.ndim else ()
        # Positive, as averages of squares are.
        return np.random.default_rng(next(numbers)).uniform(0.1, 1.0, (*free, *own)).astype(x.dtype)

    def draw_weight(x: Any) -> np.ndarray:
        drawn = np.random.default_rng(next(numbers)).normal(size=x.shape) / max(x.shape[-1], 1) ** 0.5
        return drawn.astype(tensor.param.dtype)

    context = jax.ShapeDtypeStruct((network.layers[0].weight.shape[1] - features,), tensor.param.dtype)
    arguments = (*jtu.tree_map(draw_weight, (network, context)), jtu.tree_map(draw, tensor[:3]))
    # In a thread of its own, where nothing is being traced.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(_compare, kernel, reference, arguments).result()


def _compare(kernel: Callable[..., Updated], reference: Callable[..., Updated], arguments: tuple[Any, ...]) -> str:
    param = arguments[-1][0]
    with jax.enable_x64(param.dtype == np.float64), jax.default_device(jax.local_devices(backend="cpu")[0]):
        given = jtu.tree_map(jnp.asarray, arguments)
        found, time_kernel = _run(kernel, given)
        wanted, time_reference = _run(reference, given)
        ratios = []
        # Another process may have had the processor; it is not likely to have it each time.
        while is_timed(param.shape) and len(ratios) < _ATTEMPTS and min(ratios, default=np.inf) > _SLOWEST:
            ratios.append(time_kernel() / time_reference())
    for ours, theirs, before in zip(
        jtu.tree_leaves(found), jtu.tree_leaves(wanted), jtu.tree_leaves((arguments[-1][1], param)), strict=True
    ):
        size = np.max(np.abs(theirs - before)) + 1e-3 * np.max(np.abs(before))
        error = np.max(np.abs(ours - theirs)) / size
        if not error < 1e-3:
            return f"the self-test of a kernel found an error of {error:.1e} of the update"
    if min(ratios, default=0) > _SLOWEST:
        return f"the self-test found a kernel {min(ratios):.1f} times as slow as the reference"
    return "ok"


def _run(function: Callable[..., Updated], arguments: tuple[Any, ...]) -> tuple[Any, Callable[[], float]]:
    """The result of a function, and a clock for it."""
    compiled = jax.jit(function)
    result = jax.block_until_ready(compiled(*arguments))

    def seconds() -> float:
        taken = []
        for _ in range(_ROUNDS):
            begun = time.perf_counter()
            jax.block_until_ready(compiled(*arguments))
            taken.append(time.perf_counter() - begun)
        return min(taken)

    return jtu.tree_map(np.asarray, result), seconds
