"""How fast meta-training runs: inner steps per second of PES, against a peer in the same run."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractLossTask, AbstractTaskFamily, Learner, SkipNonFinite, from_optax
from ...evaluate import CSVFile
from ...l2o import MLP, LearnableSGD
from ...meta import PES, ConstantHorizon, MeanLoss, MetaProblem, MetaState, TaskParallel, meta_step, meta_train
from ...meta.training._train import memory_of_meta_steps
from ...sharding import make_mesh
from ...tasks import DigitsMLP
from .. import _peers
from ..base import Budget, Claim, Report, Rival


_TASKS, _TRUNCATION, _HORIZON = 16, 20, 100
_INNER_STEPS = 2 * _TASKS * _TRUNCATION
_WATCHED = 50


def ask_for_devices(count: int) -> None:
    """Have so many CPU devices, if nothing has run in this process yet."""
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:
        pass


def available_devices() -> int:
    """How many devices the tasks can be spread over: on CPU one per core, if nothing has run in this process yet."""
    ask_for_devices(os.cpu_count() or 1)
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


class _Bowl(AbstractLossTask[Array]):
    """A sum of squares: a task of nothing but parameters."""

    scale: Float[Array, ""]
    size: int = eqx.field(static=True)

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " size"]:
        return jr.normal(key, (self.size,))

    def loss(self, params: Float[Array, " size"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return self.scale * jnp.mean(jnp.square(params))

    def measure(self, params: Float[Array, " size"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)


class _Wide(AbstractTaskFamily):
    size: int = eqx.field(static=True)

    def sample(self, *, key: PRNGKeyArray) -> _Bowl:
        return _Bowl(jr.uniform(key, ()), self.size)


def _memory_units(batch_size: int | None) -> float:
    """The memory of a meta-step in units of the inner parameters of all tasks."""
    size = 100_000
    problem = MetaProblem(_Wide(size), MeanLoss(), ConstantHorizon(_HORIZON), tasks=_TASKS, batch_size=batch_size)
    learner = Learner(LearnableSGD(1e-4, momentum=0.9))
    estimator, outer = PES(0.01, _TRUNCATION), SkipNonFinite(from_optax(optax.adam, learning_rate=1e-3))
    return memory_of_meta_steps(learner, problem, estimator, outer) / (4 * size * _TASKS)


def _sink_overhead(rounds: int) -> tuple[float, str]:
    """How much more CPU time meta-training takes that writes a table; in alternation, compiled before."""
    spent: dict[bool, list[float]] = {True: [], False: []}
    problem = MetaProblem(DigitsMLP("train"), MeanLoss(), ConstantHorizon(_HORIZON), tasks=_TASKS, batch_size=1)
    learner, outer = Learner(MLP(hidden_size=32, hidden_layers=2)), from_optax(optax.adam, learning_rate=1e-3)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(2 * (rounds + 1)):
            told = i % 2 == 1
            sinks: list[Any] = [CSVFile(f"{folder}/{i}.csv")] if told else []
            begun = time.process_time()
            meta_train(
                learner,
                problem,
                estimator=PES(0.01, _TRUNCATION),
                outer=outer,
                steps=_WATCHED,
                key=jr.key(0),
                progress=False,
                sinks=sinks,
                sink_every=1,
            )
            spent[told].append(time.process_time() - begun)
    told, silent = (statistics.median(spent[each][1:]) for each in (True, False))
    return told / silent - 1, f"{told:.2f} against {silent:.2f} CPU-s for {_WATCHED} meta-steps, each with a row"


_Measured: TypeAlias = dict[int, list[tuple[float, float, float]]]


_PEERS = {
    "opifex": ("opifex", "opifex_throughput.py", ()),
    "evosax": ("evosax", "evosax_throughput.py", ()),
    "evosax, one by one": ("evosax", "evosax_throughput.py", ("--sequential",)),
}


def _alternate(blocks: int, rounds: int) -> tuple[_Measured, dict[str, list[dict[str, Any]]], list[str]]:
    """Measure ourselves, on one device and on all, and the peers in turns."""
    ours: _Measured = {devices: [_measure(blocks, devices)] for devices in sorted({1, available_devices()})}
    peers: dict[str, list[dict[str, Any]]] = {}
    missing: dict[str, str] = {}
    for _ in range(rounds):
        for label, (name, script, arguments) in _PEERS.items():
            if name in missing:
                continue
            try:
                found = _peers.run(_peers.interpreter(name), script, *arguments, timeout=600)
            except (_peers.PeerUnavailable, _peers.PeerFailed) as error:
                missing[name] = f"{name} was not measured: {error}"
                continue
            peers.setdefault(label, []).append(found)
        for devices, measured in ours.items():
            measured.append(_measure(blocks, devices))
    return ours, peers, list(missing.values())


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` takes more blocks."""
    blocks, rounds = (15, 5) if full else (7, 3)
    # Compiling is part of the figure, so nothing that was compiled before may be reused.
    cached = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        ours, peers, missing = _alternate(blocks, rounds)
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
    speeds = {}
    for label, runs in peers.items():
        speed, cpu_speed, compile_peer = (
            statistics.median(run[name] for run in runs)
            for name in ("inner_steps_per_second", "inner_steps_per_cpu_second", "compile_seconds")
        )
        speeds[label] = (speed, cpu_speed)
        rows.append(
            {
                "library": f"{label} {runs[0]['version']}",
                "inner steps/s": speed,
                "inner steps/CPU-s": cpu_speed,
                "compile s": compile_peer,
                "rounds": len(runs),
            }
        )
    work = Budget(work=f"a window of PES: {_TASKS} tasks, {_TRUNCATION} steps of both particles")
    if "opifex" in speeds:
        claims.append(_against("opifex", speeds["opifex"], medians, peers["opifex"][0]["version"], work, work))
    found = {label: speed for label, speed in speeds.items() if label.startswith("evosax")}
    if found:
        best = max(found, key=lambda label: found[label][0])
        theirs = Budget(work=f"a generation of OpenES: {_TASKS} pairs, {_HORIZON} steps of both members")
        claims.append(_against("evosax", found[best], medians, peers[best][0]["version"], work, theirs))
    units, one_by_one = _memory_units(None), _memory_units(1)
    claims.append(
        Claim(
            "pes_memory_units",
            units,
            f"all tasks side by side; {one_by_one:.2f} with one after the other. A rule with one average: the episodes "
            "themselves are 4 units",
            rival=None,
        )
    )
    overhead, note = _sink_overhead(5)
    claims.append(Claim("sight_overhead", overhead, note, rival=None))
    configuration = (
        f"PES, {_TASKS} tasks, antithetic pairs (both halves counted), truncation {_TRUNCATION}, horizon {_HORIZON}, "
        "MLP cell 32 x 2, inner MLP 64-32-10, batch 32; one pair at a time, which stays in cache (`batch_size=1`)."
    )
    return Report([0], rows, claims, [configuration, *missing])


def _against(
    name: str,
    peer: tuple[float, float],
    ours: dict[int, tuple[float, float]],
    version: str,
    budget: Budget,
    theirs: Budget,
) -> Claim:
    """The claim against a peer: inner steps per second of wall-clock time, with all devices."""
    most = max(ours)
    per_cpu = f"per CPU-second {ours[most][1] / peer[1]:.2f}x and {ours[1][1] / peer[1]:.2f}x"
    return Claim(
        f"inner_steps_vs_{name}",
        ours[most][0] / peer[0],
        f"on {most} devices, {ours[1][0] / peer[0]:.2f}x on one; {per_cpu}; peer: {name} {version}, alternating",
        budget=budget,
        rival=Rival(name, theirs, version),
        unequal="" if theirs == budget else "it has no truncations; both are counted by inner steps",
        left_out="learned_optimization; the peer with one device per core; GPUs",
    )
