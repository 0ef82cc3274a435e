"""Learned optimizers on held-out tasks of the family they were trained on."""

import dataclasses
from typing import Any

import jax.random as jr
import numpy as np
import optax

from .._core import AbstractAlgorithm, AbstractTaskFamily, ClipByGlobalNorm, Learner, from_optax
from ..evaluate import Comparison, compare
from ..l2o import Controller
from ..meta import PES, ConstantHorizon, MeanLoss, MetaProblem, meta_train
from ..meta.base import AbstractEstimator
from ..schedules import Cosine
from ..tasks import DigitsMLP, TeacherStudent
from .base import Claim, Report


_SEEDS = 5


@dataclasses.dataclass(frozen=True)
class _Setup:
    """One experiment: what is trained, on what, and what it meets."""

    learner: AbstractAlgorithm[Any, Any, Any]
    problem: MetaProblem
    estimator: AbstractEstimator[Any]
    steps: int
    held_out: AbstractTaskFamily
    horizon: int
    baselines: tuple[str, ...]
    rates: np.ndarray
    outer_rate: float = 3e-3


def _meta_train(setup: _Setup) -> tuple[list[Learner], str]:
    """One learner per meta-training seed; all seeds share one compiled program."""
    inner = Cosine(from_optax(optax.adam, learning_rate=setup.outer_rate), final_fraction=0.03)
    outer = ClipByGlobalNorm(inner, 1.0)
    learners, seconds, compiling, diverged = [], 0.0, 0.0, 0
    for seed in range(_SEEDS):
        result = meta_train(
            Learner(setup.learner),
            setup.problem,
            estimator=setup.estimator,
            outer=outer,
            steps=setup.steps,
            key=jr.key(seed),
            validation=setup.problem.family,
        )
        learners.append(result.learner)
        seconds, diverged = seconds + result.seconds, diverged + result.diverged
        compiling = max(compiling, result.compile_seconds)
    note = (
        f"Meta-training: {_SEEDS} seeds of {setup.steps} meta-steps, {seconds / _SEEDS:.0f} s each (compiling "
        f"{compiling:.0f} s, once), {diverged} tasks diverged."
    )
    return learners, note


def _compare(setup: _Setup, learners: list[Learner], horizons: tuple[int, ...]) -> Comparison:
    return compare(
        {"learned": learners},
        setup.held_out,
        steps=setup.horizon,
        key=jr.key(1000),
        num_tasks=32,
        seeds=_SEEDS,
        tuning_tasks=16,
        record_every=setup.horizon // 40,
        rates=setup.rates,
        baselines=setup.baselines,
        horizons=horizons,
        statistic="geometric_mean",
    )


def _spread(values: np.ndarray) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"over {values.size} meta-training seeds {low:.3g} to {high:.3g}"


def _speed_claim(name: str, comparison: Comparison, baseline: str) -> Claim:
    """Steps to the baseline's final loss: the median over meta-training seeds, each on tasks of its own."""
    found = comparison.speedup("learned", baseline)
    note = f"{_spread(found.seeds)}; per task median {np.median(found.tasks):.3g}, won {100 * found.won:.0f}% of tasks"
    return Claim(name, float(np.median(found.seeds)), note)


def _final_claim(name: str, comparison: Comparison, baseline: str) -> Claim:
    """The baseline's final loss over the learner's: geometric means over tasks, median over meta-training seeds."""
    ours, theirs = comparison.run("learned").final, comparison.run(baseline).final
    ratios = np.exp(np.mean(np.log(theirs) - np.log(ours), axis=1))
    return Claim(name, float(np.median(ratios)), _spread(ratios))


def _rows(comparison: Comparison) -> list[dict[str, Any]]:
    rows = []
    for row in comparison.rows():
        low, high = row["final_quartiles"][0], row["final_quartiles"][-1]
        against = {f"steps vs {k}": v["speedup"] for k, v in row.get("against", {}).items()}
        rows.append(
            {
                "method": row["method"],
                "steps": row["steps"],
                "rate": row["rate"] if row["rate"] is not None else "-",
                "final (geometric mean)": row["final_geometric_mean"],
                "median": row["final_median"],
                "quartiles": f"{low:.3g} to {high:.3g}",
                "us/step": 1e6 * row["seconds_per_step"],
                "compile s": row["compile_seconds"],
                **against,
            }
        )
    return rows


def digits(*, full: bool = False) -> Report:
    """Held-out handwritten digits: images and label permutations that meta-training has not seen."""
    setup = _Setup(
        learner=Controller(0.05),
        problem=MetaProblem(DigitsMLP("train"), MeanLoss(), ConstantHorizon(200)),
        estimator=PES(0.01, 20),
        steps=3000 if full else 1000,
        held_out=DigitsMLP("held_out"),
        horizon=200,
        baselines=("sgd", "momentum", "adam", "adamw", "adam_cosine"),
        rates=np.logspace(-3.5, 0.5, 17),
    )
    learners, note = _meta_train(setup)
    comparison = _compare(setup, learners, (1, 3))
    claims = [
        _speed_claim("steps_vs_adam", comparison, "adam"),
        _speed_claim("steps_vs_adam_cosine", comparison, "adam_cosine"),
        _final_claim("final_loss_vs_adam", comparison, "adam"),
    ]
    return Report(list(range(_SEEDS)), _rows(comparison), claims, [note])


def teacher_student(*, full: bool = False) -> Report:
    """Regression onto random teachers, 8-16-4, with fresh minibatches."""
    setup = _Setup(
        learner=Controller(0.08),
        problem=MetaProblem(TeacherStudent(), MeanLoss(), ConstantHorizon(200)),
        estimator=PES(0.01, 20),
        steps=6000 if full else 2000,
        held_out=TeacherStudent(),
        horizon=200,
        baselines=("sgd", "momentum", "adam", "adamw", "adam_cosine"),
        rates=np.logspace(-3.0, 1.0, 17),
    )
    learners, note = _meta_train(setup)
    comparison = _compare(setup, learners, (1, 3))
    claims = [
        _speed_claim("steps_vs_adam", comparison, "adam"),
        _speed_claim("steps_vs_sgd", comparison, "sgd"),
    ]
    return Report(list(range(_SEEDS)), _rows(comparison), claims, [note])
