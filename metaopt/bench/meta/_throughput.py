"""How fast meta-training runs: inner steps per second of PES, against a peer in the same run."""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, PRNGKeyArray

from ..._core import Learner, from_optax
from ...l2o import MLP
from ...meta import PES, ConstantHorizon, MeanLoss, MetaProblem, MetaState, TaskParallel, meta_step
from ...sharding import make_mesh
from ...tasks import DigitsMLP
from .. import _peers
from ..base import Budget, Claim, Report, Rival


_TASKS, _TRUNCATION, _HORIZON = 16, 20, 100
_INNER_STEPS = 2 * _TASKS * _TRUNCATION


def available_devices() -> int:
    """How many devices the tasks can be spread over: on CPU one per core, if nothing has run in this process yet."""
    try:
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    except RuntimeError:
        pass
    return max(n for n in range(1, _TASKS + 1) if _TASKS % n == 0 and n <= len(jax.devices()))


def compile_meta_steps(
    chunk: int, devices: int, *, tasks: int = _TASKS, batch_size: int | None = 1
) -> tuple[Callable[[MetaState, PRNGKeyArray], MetaState], MetaState, float]:
    """A program of `chunk` meta-steps, a state to start it from, and the seconds that compiling took."""
    learner = Learner(MLP(hidden_size=32, hidden_layers=2))
    problem = MetaProblem(DigitsMLP("train"), MeanLoss(), ConstantHorizon(_HORIZON), tasks=tasks, batch_size=batch_size)
    estimator = PES(0.01, _TRUNCATION)
    if devices > 1:
        estimator = TaskParallel(estimator, make_mesh(tasks=devices))
    outer = from_optax(optax.adam, learning_rate=1e-3)
    zero = jnp.zeros((), jnp.int32)
    estimator_state = eqx.filter_jit(estimator.init)(learner, problem, key=jr.key(0))
    state = MetaState(zero, learner, outer.init(learner), estimator_state, zero)
    _, static = eqx.partition(state, eqx.is_array)

    @jax.jit
    def run(dynamic: MetaState, key: PRNGKeyArray) -> MetaState:
        def body(_: int | Array, dynamic: MetaState) -> MetaState:
            new, _ = meta_step(eqx.combine(dynamic, static), estimator, outer, problem, key=key)
            return eqx.filter(new, eqx.is_array)

        return jax.lax.fori_loop(0, chunk, body, dynamic)

    dynamic = eqx.filter(state, eqx.is_array)
    begun = time.perf_counter()
    program = run.lower(dynamic, jr.key(0)).compile()
    return program, dynamic, time.perf_counter() - begun


def _measure(blocks: int, devices: int) -> tuple[float, float, float]:
    """Compile seconds, inner steps per second, inner steps per CPU-second (medians)."""
    chunk = 10
    program, state, compile_seconds = compile_meta_steps(chunk, devices)
    state = jax.block_until_ready(program(state, jr.key(0)))
    wall, cpu = [], []
    for i in range(blocks):
        w, c = time.perf_counter(), time.process_time()
        state = jax.block_until_ready(program(state, jr.key(i)))
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
    steps = chunk * _INNER_STEPS
    return compile_seconds, steps / statistics.median(wall), steps / statistics.median(cpu)


_Measured: TypeAlias = dict[int, list[tuple[float, float, float]]]


def _alternate(blocks: int, rounds: int) -> tuple[_Measured, list[dict[str, Any]], str]:
    """Measure ourselves, on one device and on all, and the peer in turns."""
    ours: _Measured = {devices: [_measure(blocks, devices)] for devices in sorted({1, available_devices()})}
    peers = []
    for _ in range(rounds):
        try:
            peers.append(_peers.run(_peers.interpreter("opifex"), "opifex_throughput.py", timeout=600))
        except (_peers.PeerUnavailable, _peers.PeerFailed) as error:
            return ours, peers, f"opifex was not measured: {error}"
        for devices, measured in ours.items():
            measured.append(_measure(blocks, devices))
    return ours, peers, ""


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` takes more blocks."""
    blocks, rounds = (15, 5) if full else (7, 3)
    # Compiling is part of the figure, so nothing that was compiled before may be reused.
    cached = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        ours, peers, note = _alternate(blocks, rounds)
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)
    rows, medians = [], {}
    for devices, measured in ours.items():
        compile_seconds, speed, cpu_speed = (statistics.median(m[i] for m in measured) for i in range(3))
        medians[devices] = (speed, cpu_speed)
        rows.append(
            {
                "library": f"metaopt, {devices} device{'s' if devices > 1 else ''}",
                "inner steps/s": speed,
                "inner steps/CPU-s": cpu_speed,
                "compile s": compile_seconds,
                "rounds": len(measured),
            }
        )
    most = max(medians)
    compiling, note_compiling = rows[-1]["compile s"], f"on {most} devices; median over rounds, no cache"
    claims = [Claim("compile_seconds", compiling, note_compiling, rival=None)]
    if peers:
        peer_speed = statistics.median(p["inner_steps_per_second"] for p in peers)
        peer_cpu = statistics.median(p["inner_steps_per_cpu_second"] for p in peers)
        rows.append(
            {
                "library": f"opifex {peers[0]['version']}",
                "inner steps/s": peer_speed,
                "inner steps/CPU-s": peer_cpu,
                "compile s": statistics.median(p["compile_seconds"] for p in peers),
                "rounds": len(peers),
            }
        )
        note = (
            f"on {most} devices, {medians[1][0] / peer_speed:.2f}x on one; per CPU-second "
            f"{medians[most][1] / peer_cpu:.2f}x and {medians[1][1] / peer_cpu:.2f}x; peer: "
            f"opifex {peers[0]['version']}, alternating"
        )
        work = Budget(work=f"a window of PES: {_TASKS} tasks, {_TRUNCATION} steps of both particles")
        claims.append(
            Claim(
                "inner_steps_vs_opifex",
                medians[most][0] / peer_speed,
                note,
                budget=work,
                rival=Rival("opifex", work, peers[0]["version"]),
                compile_seconds=compiling,
                left_out="learned_optimization; the peer with one device per core; GPUs",
            )
        )
    configuration = (
        f"PES, {_TASKS} tasks, antithetic pairs (both halves counted), truncation {_TRUNCATION}, horizon {_HORIZON}, "
        "MLP cell 32 x 2, inner MLP 64-32-10, batch 32; one pair at a time, which stays in cache (`batch_size=1`)."
    )
    return Report([0], rows, claims, [configuration] + ([note] if not peers else []))
