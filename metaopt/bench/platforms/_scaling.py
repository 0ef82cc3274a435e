"""Meta-training spread over devices and processes: what changes, what it costs, and what a model of that cost says."""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PRNGKeyArray

from ..._core import Learner, from_optax
from ...l2o import MLP
from ...meta import PES, ConstantHorizon, MeanLoss, MetaProblem, MetaState, TaskParallel, meta_step
from ...runs import supervise
from ...sharding import initialize, make_mesh
from ...sharding._everywhere import replicate
from ...tasks import TeacherStudent
from .._timing import own_paths, timed
from ..base import Claim, Report


_DEVICES = (1, 2, 4, 8)
_TASKS, _TRUNCATION, _HORIZON = 16, 20, 100
_CHECKED_STEPS, _TIMED_STEPS = 5, 10
_COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))


def _state(mesh: Mesh | None) -> tuple[MetaState, Callable[..., Any]]:
    """A state to start from, and a function of it that does so many meta-steps."""
    learner = Learner(MLP(hidden_size=32, hidden_layers=2))
    problem = MetaProblem(TeacherStudent(), MeanLoss(), ConstantHorizon(_HORIZON), tasks=_TASKS, batch_size=1)
    inner = PES(0.01, _TRUNCATION)
    estimator = inner if mesh is None else TaskParallel(inner, mesh)
    outer = from_optax(optax.adam, learning_rate=1e-3)
    shared = (lambda tree: tree) if mesh is None else (lambda tree: replicate(tree, mesh))
    learner, outer_state, zero, key = shared((learner, outer.init(learner), jnp.zeros((), jnp.int32), jr.key(0)))
    estimator_state = eqx.filter_jit(estimator.init)(learner, problem, key=key)
    state = MetaState(zero, learner, outer_state, estimator_state, zero)
    dynamic, static = eqx.partition(state, eqx.is_array)

    def run(steps: int, dynamic: MetaState, key: PRNGKeyArray) -> MetaState:
        def body(_: int | Array, dynamic: MetaState) -> MetaState:
            new, _ = meta_step(eqx.combine(dynamic, static), estimator, outer, problem, key=key)
            return eqx.filter(new, eqx.is_array)

        return jax.lax.fori_loop(0, steps, body, dynamic)

    return dynamic, run


def _check(mesh: Mesh | None) -> dict[str, Any]:
    """The meta-parameters after some meta-steps in double precision, and how often devices meet in one."""
    with jax.enable_x64(True):
        state, run = _state(mesh)
        key = jr.key(1) if mesh is None else replicate(jr.key(1), mesh)
        program = jax.jit(run, static_argnums=0).lower(_CHECKED_STEPS, state, key).compile()
        learner = program(state, key).learner
        leaves = [np.asarray(x).ravel().tolist() for x in jtu.tree_leaves(learner) if eqx.is_inexact_array(x)]
    text = program.as_text() or ""
    counts = {name: len(re.findall(rf"= [^\n]*\b{name}(?:-start)?\(", text)) for name in _COLLECTIVES}
    return {"leaves": leaves, "all_reduces": counts["all-reduce"], "collectives": sum(counts.values())}


def _time(mesh: Mesh | None, blocks: int) -> dict[str, Any]:
    """Seconds and CPU-seconds of one meta-step in single precision (medians)."""
    state, run = _state(mesh)
    key = jr.key(1) if mesh is None else replicate(jr.key(1), mesh)
    program = jax.jit(run, static_argnums=0).lower(_TIMED_STEPS, state, key).compile()
    cpu, wall = timed(lambda state, _: program(state, key), state, _TIMED_STEPS, blocks)
    return {"seconds": wall, "cpu_seconds": cpu}


def _all_reduce_seconds(mesh: Mesh, numbers: int, blocks: int, repeats: int = 50) -> float:
    """Seconds of one all-reduce of so many numbers in single precision (median)."""

    def local(x: Array) -> Array:
        return jax.lax.fori_loop(0, repeats, lambda _, x: jax.lax.psum(x, "tasks") / mesh.size, x)

    whole = PartitionSpec()
    program = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False))
    x = jax.block_until_ready(program(replicate(jnp.ones(numbers, jnp.float32), mesh)))
    seconds = []
    for _ in range(blocks):
        begun = time.perf_counter()
        x = jax.block_until_ready(program(x))
        seconds.append((time.perf_counter() - begun) / repeats)
    return statistics.median(seconds)


def work(devices: int, pin: bool, blocks: int, file: str) -> None:
    """What one process of a measurement does; the first one writes the results."""
    if pin:
        own = _cores()[int(os.environ.get("METAOPT_PROCESS", 0))]
        os.sched_setaffinity(0, {own})
    jax.config.update("jax_num_cpu_devices", devices)
    initialize()
    mesh = make_mesh(tasks=jax.device_count()) if jax.device_count() > 1 else None
    found = _check(mesh) | _time(mesh, blocks)
    if mesh is not None:
        found["all_reduce_seconds"] = _all_reduce_seconds(mesh, _numbers(found), blocks)
    if jax.process_index() == 0:
        Path(file).write_text(json.dumps(found))


def _measure(devices: int, processes: int, pin: bool, blocks: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "found.json")
        program = f"from metaopt.bench.platforms._scaling import work; work({devices}, {pin}, {blocks}, {str(file)!r})"
        command = [sys.executable, "-c", program]
        environment = own_paths() | {"JAX_PLATFORMS": "cpu"}
        if processes == 1:
            subprocess.run(command, env=os.environ | environment, check=True)
        else:
            status = supervise(command, processes=processes, retries=0, environment=environment)
            if status:
                raise RuntimeError(f"{processes} processes ended with status {status}; see what they printed above.")
        return json.loads(file.read_text())


def _error(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """The largest difference in a leaf, relative to the largest number in it."""
    pairs = [(np.asarray(x), np.asarray(y)) for x, y in zip(found["leaves"], wanted["leaves"], strict=True)]
    return max(float(np.max(np.abs(x - y)) / max(np.max(np.abs(y)), 1e-300)) for x, y in pairs if x.size)


def _numbers(found: dict[str, Any]) -> int:
    """How many numbers are all-reduced: the gradients, the value, and two counts."""
    return sum(map(len, found["leaves"])) + 3


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` takes more blocks."""
    blocks, cores = (21 if full else 7), len(_cores())
    configurations = [(devices, 1, False) for devices in _DEVICES]
    if cores > 1:
        configurations += [(1, 1, True), (1, 2, True)] if sys.platform == "linux" else [(1, 2, False)]
    found = {each: _measure(*each, blocks) for each in configurations}
    one = found[1, 1, False]
    single = found.get((1, 1, True), one)
    numbers = _numbers(one)
    rows = []
    for (devices, processes, pin), each in found.items():
        total = devices * processes
        used = min(total, cores) if pin or total > 1 else cores
        base = single if pin else one
        row = {
            "processes": processes,
            "devices": total,
            "cores": processes if pin else cores,
            "all-reduces": each["all_reduces"],
            "other collectives": each["collectives"] - each["all_reduces"],
            "relative error": _error(each, one),
            "ms per meta-step": 1e3 * each["seconds"],
        }
        if total > 1:
            reduce_seconds = each["all_reduce_seconds"]
            row["predicted ms"] = 1e3 * (single["cpu_seconds"] / used + reduce_seconds)
            row["all-reduce ms"] = 1e3 * reduce_seconds
            row["speedup"] = base["seconds"] / each["seconds"]
        rows.append(row)
    spread = [each for (devices, processes, _), each in found.items() if devices * processes > 1]
    claims = [
        Claim(
            "max_rel_error_devices",
            max(_error(each, one) for each in spread),
            f"meta-parameters after {_CHECKED_STEPS} meta-steps in float64, against one device",
            rival=None,
        ),
        Claim(
            "all_reduces_per_meta_step",
            max(each["all_reduces"] for each in spread),
            "in the compiled program",
            rival=None,
        ),
    ]
    notes = [
        f"PES, {_TASKS} tasks, truncation {_TRUNCATION}, MLP cell 32 x 2 ({numbers - 3} meta-parameters, "
        f"{4 * numbers} bytes per all-reduce), students 8-16-4; medians of {blocks} x {_TIMED_STEPS} meta-steps.",
        "Predicted: CPU time of a meta-step on one core, divided by the cores that the devices run on, and the time of "
        "one all-reduce of as many bytes, measured by itself. Devices are faked on CPU: more of them than the "
        f"{cores} cores here cannot be faster.",
    ]
    two = found.get((1, 2, True))
    if two is not None:
        efficiency = single["seconds"] / (2 * two["seconds"])
        notes.append(f"Two processes with a core each, against one with one core: efficiency {efficiency:.0%}.")
    return Report([0], rows, claims, notes)
