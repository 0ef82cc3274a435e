"""Meta-training on a thousand families: what compiling costs, and what sharing programs costs."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from ..._core import Learner, from_optax
from ..._core._compiling import quick_options
from ..._core._task import AbstractTaskFamily
from ...l2o import RecurrentController
from ...meta import (
    PES,
    AbstractEstimator,
    ConstantHorizon,
    MeanLogLoss,
    MetaProblem,
    Mixed,
    Rotation,
    TaskParallel,
    meta_train,
)
from ...meta.training._rotation import Timetable, run_keys
from ...sharding import make_mesh
from ...tasks import Bucket, Generated, Mixture, generate
from ..base import Budget, Claim, Report, Rival
from ._throughput import available_devices


_FAMILIES, _TASKS, _TRUNCATION = 1000, 16, 20
_INNER_STEPS = 2 * _TASKS * _TRUNCATION
_EVERY = 500
_ROTATION = Rotation(resident=6, per_step=3, every=_EVERY)


class _Over(Exception):
    """The time is over."""


def _estimator() -> AbstractEstimator[Any]:
    devices = available_devices()
    inner = PES(0.02, _TRUNCATION)
    return TaskParallel(inner, make_mesh(tasks=devices)) if devices > 1 else inner


def _problem(family: AbstractTaskFamily | Mixture) -> MetaProblem:
    return MetaProblem(family, MeanLogLoss(), ConstantHorizon(200), tasks=_TASKS)


def _learner() -> Learner:
    return Learner(RecurrentController(hidden_size=16, key=jr.key(0)))


def _train(families: Mixture, seconds: float) -> tuple[int, float, list[float]]:
    """Train for so long: the meta-steps, the CPU seconds, and the seconds of each program that was compiled."""
    compiled: list[float] = []
    begun, processor, reached = time.perf_counter(), time.process_time(), 0

    def watch(step: int, row: Mapping[str, float]) -> None:
        nonlocal reached
        reached = step
        if time.perf_counter() - begun > seconds:
            raise _Over

    def hear(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del kwargs
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(hear)
    try:
        meta_train(
            _learner(),
            _problem(families),
            estimator=Mixed(_estimator()),
            outer=from_optax(optax.adam, learning_rate=1e-3),
            steps=1_000_000,
            key=jr.key(0),
            rotation=_ROTATION,
            sinks=[watch],
            sink_every=1,
            progress=False,
        )
    except _Over:
        pass
    finally:
        jax.monitoring.unregister_event_duration_listener(hear)
    # The programs of single operations are compiled in a moment.
    return reached, time.process_time() - processor, [duration for duration in compiled if duration > 0.5]


def _compile(
    family: AbstractTaskFamily, options: Mapping[str, Any]
) -> tuple[Callable[[Any, PRNGKeyArray], Any], Any, float]:
    """A program of estimates on one family, a state to begin with, and the CPU seconds that compiling took."""
    learner, problem = _learner(), _problem(family)
    estimator = _estimator()
    state = eqx.filter_jit(estimator.init)(learner, problem, key=jr.key(0))
    jit: Any = eqx.filter_jit

    def estimate(state: Any, learner: Learner, problem: MetaProblem, key: PRNGKeyArray) -> Any:
        return estimator.estimate(state, learner, problem, key=key)

    begun = time.process_time()
    program = jit(estimate, compiler_options=dict(options)).lower(state, learner, problem, jr.key(0)).compile()
    return lambda state, key: program(state, learner, problem, key), state, time.process_time() - begun


def _seconds_per_step(family: AbstractTaskFamily, options: Mapping[str, Any], rounds: int) -> tuple[float, float]:
    """CPU seconds of an inner step, the median, and of compiling."""
    program, state, compiling = _compile(family, options)
    state, _ = jax.block_until_ready(program(state, jr.key(0)))
    spent = []
    for i in range(rounds):
        begun = time.process_time()
        state, _ = jax.block_until_ready(program(state, jr.key(i)))
        spent.append((time.process_time() - begun) / _INNER_STEPS)
    return statistics.median(spent), compiling


def _members(bucket: Bucket, count: int, rng: np.random.Generator) -> list[Generated]:
    """Some of the families of a bucket, drawn by weight, each as a family of its own."""
    shares = np.diff(np.asarray(bucket.cumulated, np.float64), prepend=0.0)
    chosen = rng.choice(len(shares), size=count, p=shares / shares.sum())
    return [bucket.member(int(i)) for i in chosen]


def _is_resumed_exactly(families: Mixture, folder: str) -> bool:
    """Whether training that is interrupted in the middle of a turn ends with the same bits, on some of the families."""
    few = Mixture(families.families[:4])

    def train(steps: int, name: str, resume: bool) -> Any:
        return meta_train(
            _learner(),
            _problem(few),
            estimator=Mixed(_estimator()),
            outer=from_optax(optax.adam, learning_rate=1e-3),
            steps=steps,
            key=jr.key(0),
            rotation=Rotation(resident=2, per_step=1, every=4),
            checkpoint=f"{folder}/{name}.metaopt",
            resume=resume,
            progress=False,
        )

    whole = train(10, "whole", False)
    train(5, "parts", False)
    parts = train(10, "parts", True)
    return bool(eqx.tree_equal(whole.last, parts.last)) and whole.history.values == parts.history.values


def run(*, full: bool = False) -> Report:
    """Run the benchmark: ten minutes of training; `full` looks at more families by themselves."""
    import tempfile

    cached = jax.config.values["jax_enable_compilation_cache"]
    available_devices()  # before anything runs
    # Compiling is part of the figure, so nothing that was compiled before may be reused.
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        return _run(600.0, 3 if full else 1, tempfile.mkdtemp())
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)


def _run(seconds: float, members: int, folder: str) -> Report:
    families = generate(_FAMILIES, seed=0, buckets=True)
    steps, processor, compiled = _train(families, seconds)
    table = Timetable(_ROTATION, families, run_keys(jr.key(0))[1])
    visits = Counter(turn.family for step in range(steps) for turn, _ in table.drawn(step))
    rng, rows, ours, alone, compiling = np.random.default_rng(0), [], 0.0, 0.0, 0.0
    quick = quick_options(2)
    ahead = [table.turn(i).family for i in range(table.begun(steps + _EVERY))]
    for family in dict.fromkeys(ahead):
        bucket = families.families[family]
        shared, spent = _seconds_per_step(bucket, quick, 5)
        compiling += spent
        if not visits[family]:
            continue
        some = _members(bucket, members, rng) if isinstance(bucket, Bucket) else [bucket]
        singles = [_seconds_per_step(each, {}, 5) for each in some]
        single = statistics.mean(step for step, _ in singles)
        ours, alone = ours + visits[family] * shared, alone + visits[family] * single
        rows.append(
            {
                "shapes": getattr(bucket, "label", type(bucket).__name__),
                "families": bucket.batch_size.size if isinstance(bucket, Bucket) else 1,
                "estimates": visits[family],
                "us per inner step": 1e6 * shared,
                "alone": 1e6 * single,
                "CPU-s to compile": spent,
                "alone, all optimizations": statistics.mean(c for _, c in singles),
            }
        )
    training = processor - compiling
    whole = _INNER_STEPS * sum(visits.values())
    exact = _is_resumed_exactly(families, folder)
    work = Budget(work=f"estimates of PES: {_TASKS} tasks, {_TRUNCATION} steps of both particles")
    rival = Rival("each family by itself, in a program compiled with all optimizations", work)
    met = sum(row["families"] for row in rows)
    claims = [
        Claim(
            "programs",
            len(compiled),
            f"compiled in {seconds:.0f} s, each for more than half a second; {met} of the families were met, in "
            f"{len(rows)} buckets of {len(families.families)}",
            rival=None,
        ),
        Claim(
            "compile_share",
            compiling / processor,
            f"{compiling:.0f} of {processor:.0f} CPU-s; compiled once more by itself to be measured",
            rival=None,
        ),
        Claim(
            "throughput_vs_single",
            alone * _INNER_STEPS / training,
            f"inner steps per CPU-s of the whole of training, without compiling: {whole / training:.0f}; of its "
            f"estimates alone {ours and alone / ours:.2f}x",
            budget=work,
            rival=rival,
            left_out="what compiling each family by itself costs",
        ),
        Claim("resumed_exactly", float(exact), "four buckets, interrupted in the middle of a turn", rival=None),
    ]
    turns = f"{_ROTATION.resident} families resident, {_ROTATION.per_step} per meta-step, a change every {_EVERY}"
    configuration = (
        f"{_FAMILIES} families drawn with `metaopt.tasks.generate(buckets=True)`; `RecurrentController` of 16 units; "
        f"tasks spread over {available_devices()} devices; {turns}; {steps} meta-steps in {seconds:.0f} s. Medians of "
        f"5; {members} families of each bucket by themselves, drawn by weight."
    )
    return Report([0], rows, claims, [configuration])
