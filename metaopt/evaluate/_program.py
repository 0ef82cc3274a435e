"""Running a learner on a batch of tasks: the compiled program, and what it costs."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from .._core import AbstractTaskFamily, Inner, Learner, inner_step, with_horizon


class Cost(eqx.Module):
    """What a method costs.

    - `seconds_per_step`: wall-clock time of one inner step of one task, when all tasks of a seed are run as one batch
        and nothing is measured in between (median of a few runs).
    - `compile_seconds`: time to trace and compile; a persistent compilation cache shortens it.
    - `temporary_bytes`: the memory for temporaries that the compiler planned for such a batch, measurements included;
        -1 where the platform does not tell.
    """

    seconds_per_step: float
    compile_seconds: float
    temporary_bytes: int


def record_steps(steps: int, every: int) -> Int[np.ndarray, " records"]:
    """The steps at which a curve is recorded: every so often, the start and the end included."""
    return np.append(np.arange(0, steps, every), steps).astype(np.int32)


def run_batch(
    learner: Learner,
    family: AbstractTaskFamily,
    keys: Key[Array, " tasks"],
    positions: Int[Array, " records"],
    recorded: Bool[Array, " records"],
) -> Float[Array, "tasks records"]:
    """Run a learner on one task per key and measure it on the way.

    All that is random about a task and its run comes from its key: every learner meets the same task, start,
    minibatches and measurements. The minibatches are those of [`metaopt.unroll`][].

    **Arguments:**

    - `learner`, `family`: who runs on what.
    - `keys`: a key for each task.
    - `positions`: after how many steps to measure; ascending. The last one is the horizon. Not static, so runs of
        different horizons share a program.
    - `recorded`: which of these measurements to make; NaN stands for the others.
    """
    algorithm = with_horizon(learner.algorithm, positions[-1])
    counts = jnp.concatenate([jnp.diff(positions), jnp.zeros((1,), positions.dtype)])

    def one(key: Key[Array, ""]) -> Float[Array, " records"]:
        task_key, run_key, measure_key = jr.split(key, 3)
        task = family.sample(key=task_key)
        start_key, state_key, data_key = jr.split(run_key, 3)
        params = learner.start(task, key=start_key)
        dynamic, static = eqx.partition(Inner(algorithm.init(params, key=state_key), params), eqx.is_array)

        def measure(dynamic: PyTree) -> Float[Array, ""]:
            return task.measure(eqx.combine(dynamic, static).params, key=measure_key)

        def skip(dynamic: PyTree) -> Float[Array, ""]:
            return jnp.full((), jnp.nan, jax.eval_shape(measure, dynamic).dtype)

        def step(t: Int[Array, ""], dynamic: PyTree) -> PyTree:
            carry = eqx.combine(dynamic, static)
            carry, _ = inner_step(algorithm, task, carry, key=jr.fold_in(data_key, t))
            return eqx.filter(carry, eqx.is_array)

        def chunk(dynamic: PyTree, at: tuple[Array, Array, Array]) -> tuple[PyTree, Float[Array, ""]]:
            position, count, wanted = at
            value = jax.lax.cond(wanted, measure, skip, dynamic)
            return jax.lax.fori_loop(position, position + count, step, dynamic), value

        return jax.lax.scan(chunk, dynamic, (positions, counts, recorded))[1]

    return jax.vmap(one)(keys)


class Programs:
    """The compiled programs of a comparison, each compiled once."""

    def __init__(self) -> None:
        self._compiled: dict[Any, tuple[Any, float, int]] = {}

    def __len__(self) -> int:
        return len(self._compiled)

    def run(
        self,
        learner: Learner,
        family: AbstractTaskFamily,
        keys: Key[Array, " tasks"],
        positions: Int[np.ndarray, " records"],
        recorded: Bool[np.ndarray, " records"],
    ) -> Float[np.ndarray, "tasks recorded"]:
        """Run a batch and return what was recorded. NaN becomes infinity: what is not a number has diverged."""
        (program, _, _), dynamic = self._program(learner, family, keys, positions, recorded)
        values = np.asarray(program(dynamic), float)[:, recorded]
        return np.where(np.isnan(values), np.inf, values)

    def cost(
        self,
        learner: Learner,
        family: AbstractTaskFamily,
        keys: Key[Array, " tasks"],
        positions: Int[np.ndarray, " records"],
        repeats: int,
    ) -> Cost:
        """Time the steps alone, without measurements."""
        unrecorded = np.zeros(positions.size, bool)
        (program, compile_seconds, temporary), dynamic = self._program(learner, family, keys, positions, unrecorded)
        seconds = []
        for _ in range(repeats):
            begun = time.perf_counter()
            jax.block_until_ready(program(dynamic))
            seconds.append(time.perf_counter() - begun)
        median = float(np.median(seconds)) if seconds else float("nan")
        return Cost(median / (int(positions[-1]) * keys.size), compile_seconds, temporary)

    def _program(self, *args: Any) -> tuple[tuple[Any, float, int], PyTree]:
        args = jtu.tree_map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray | np.generic) else x, args)
        dynamic, static = eqx.partition(args, eqx.is_array)
        shapes = tuple((x.shape, x.dtype) for x in jtu.tree_leaves(dynamic))
        key = (jtu.tree_structure(args), tuple(jtu.tree_leaves(static)), shapes)
        if key not in self._compiled:
            begun = time.perf_counter()
            program = jax.jit(lambda dynamic: run_batch(*eqx.combine(dynamic, static))).lower(dynamic).compile()
            seconds = time.perf_counter() - begun
            analysis = program.memory_analysis()
            temporary = -1 if analysis is None else int(analysis.temp_size_in_bytes)
            self._compiled[key] = (program, seconds, temporary)
        return self._compiled[key], dynamic
