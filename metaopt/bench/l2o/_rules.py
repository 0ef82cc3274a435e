"""Learned optimizers on held-out tasks of the family they were trained on."""

import dataclasses
from typing import Any

import jax.random as jr
import numpy as np

from ..._core import AbstractAlgorithm, AbstractTaskFamily, ClipByGlobalNorm, Learner
from ...evaluate import BASELINES, Comparison, compare
from ...l2o import LSTM, MLP, AdamHead, Controller, HorizonClock
from ...meta import (
    PES,
    AbstractEstimator,
    ConstantHorizon,
    LogUniformHorizon,
    MeanLogLoss,
    MeanLoss,
    MetaProblem,
    Unrolled,
    meta_train,
)
from ...schedules import Cosine
from ...tasks import DigitsMLP, Quadratics, TeacherStudent
from ..base import Budget, Claim, Report, Rival, release


_SEEDS = 5
_TUNING_TASKS = 16


@dataclasses.dataclass(frozen=True)
class Setup:
    """One experiment: what is trained, on what, and what it meets."""

    learner: AbstractAlgorithm[Any, Any, Any]
    problem: MetaProblem
    estimator: AbstractEstimator[Any]
    steps: int
    outer_rate: float
    held_out: AbstractTaskFamily
    horizon: int
    baselines: tuple[str, ...]
    rates: np.ndarray

    @property
    def meta_trained(self) -> int:
        """Steps on tasks in one meta-training run; both particles of a pair are counted."""
        problem = self.problem
        particles, length = (2, self.estimator.truncation) if isinstance(self.estimator, PES) else (1, self.horizon)
        return self.steps * problem.tasks * particles * length


def clipped_adam(rate: float) -> AbstractAlgorithm[Any, Any, Any]:
    """The outer algorithm of all setups: Adam with a cosine schedule, its gradients clipped."""
    return ClipByGlobalNorm(Cosine(BASELINES["adam"](rate), final_fraction=0.03), 1.0)


def _meta_train(setup: Setup) -> tuple[list[Learner], str]:
    """One learner per meta-training seed; all seeds share one compiled program."""
    outer, learners = clipped_adam(setup.outer_rate), []
    seconds, compiling, diverged = 0.0, 0.0, 0
    for seed in range(_SEEDS):
        result = meta_train(
            Learner(setup.learner),
            setup.problem,
            estimator=setup.estimator,
            outer=outer,
            steps=setup.steps,
            key=jr.key(seed),
            validation=setup.problem.family,
            validation_tasks=32,
            validation_steps=setup.horizon,
        )
        learners.append(result.learner)
        seconds, diverged = seconds + result.seconds, diverged + result.diverged
        compiling = max(compiling, result.compile_seconds)
    note = (
        f"Meta-training: {_SEEDS} seeds of {setup.steps} meta-steps, {seconds / _SEEDS:.0f} s each (compiling "
        f"{compiling:.0f} s, once), {diverged} tasks diverged."
    )
    return learners, note


def _compare(setup: Setup, learners: list[Learner], horizons: tuple[int, ...]) -> Comparison:
    return compare(
        {"learned": learners},
        setup.held_out,
        steps=setup.horizon,
        key=jr.key(1000),
        num_tasks=32,
        seeds=_SEEDS,
        tuning_tasks=_TUNING_TASKS,
        record_every=setup.horizon // 40,
        rates=setup.rates,
        baselines=setup.baselines,
        horizons=horizons,
        statistic="geometric_mean",
    )


def spread(values: np.ndarray) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"over {values.size} meta-training seeds {low:.3g} to {high:.3g}"


def _terms(setup: Setup, comparison: Comparison, baseline: str, longer: int = 1) -> dict[str, Any]:
    """What both sides may spend on a task, and have spent before."""
    steps = longer * setup.horizon
    tuned = setup.rates.size * _TUNING_TASKS * steps
    rival = Rival(
        f"{baseline} with the best of {setup.rates.size} rates",
        Budget(gradients=steps, before=tuned),
        release("optax"),
    )
    return {
        "budget": Budget(gradients=steps, before=setup.meta_trained),
        "rival": rival,
        "unequal": "before the task, ours is meta-trained on its family, and a rate is chosen for the rival",
        "compile_seconds": float(comparison.run("learned").cost.compile_seconds),
        "left_out": "other families; the time of a step; Muon, Shampoo and second-order methods",
    }


def _speed_claim(name: str, setup: Setup, comparison: Comparison, baseline: str) -> Claim:
    """Steps to the baseline's final loss: the median over meta-training seeds, each on tasks of its own."""
    found = comparison.speedup("learned", baseline)
    note = f"{spread(found.seeds)}; per task median {np.median(found.tasks):.3g}, won {100 * found.won:.0f}% of tasks"
    return Claim(name, float(np.median(found.seeds)), note, **_terms(setup, comparison, baseline))


def _final_claim(name: str, setup: Setup, comparison: Comparison, baseline: str) -> Claim:
    """The baseline's final loss over the learner's: geometric means over tasks, median over meta-training seeds."""
    ours, theirs = comparison.run("learned").final, comparison.run(baseline).final
    ratios = np.exp(np.mean(np.log(theirs) - np.log(ours), axis=1))
    return Claim(name, float(np.median(ratios)), spread(ratios), **_terms(setup, comparison, baseline))


def _longer(setup: Setup, comparison: Comparison, baselines: tuple[str, ...]) -> list[Claim]:
    """The same speedups at three times the horizon; below 1 is a loss, and 0 means never reached."""
    claims = []
    for baseline in baselines:
        found = comparison.speedup("learned", baseline, horizon=3)
        terms, name = _terms(setup, comparison, baseline, 3), f"steps_vs_{baseline}_at_3x"
        claims.append(Claim(name, float(np.median(found.seeds)), spread(found.seeds), **terms))
    return claims


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


def digits_setup(steps: int) -> Setup:
    """Handwritten digits, after so many meta-steps."""
    return Setup(
        learner=Controller(0.05),
        problem=MetaProblem(DigitsMLP("train"), MeanLoss(), LogUniformHorizon(100, 600)),
        estimator=PES(0.01, 20),
        steps=steps,
        outer_rate=3e-3,
        held_out=DigitsMLP("held_out"),
        horizon=200,
        baselines=("sgd", "momentum", "adam", "adamw", "adam_cosine"),
        rates=np.logspace(-3.5, 0.5, 17),
    )


def digits(*, full: bool = False) -> Report:
    """Held-out handwritten digits: images and label permutations that meta-training has not seen."""
    setup = digits_setup(6000 if full else 2000)
    learners, note = _meta_train(setup)
    comparison = _compare(setup, learners, (1, 3))
    claims = [
        _speed_claim("steps_vs_adam", setup, comparison, "adam"),
        _speed_claim("steps_vs_adam_cosine", setup, comparison, "adam_cosine"),
        _final_claim("final_loss_vs_adam", setup, comparison, "adam"),
        *_longer(setup, comparison, ("adam", "adam_cosine")),
    ]
    images = "Losses are means over all 898 images of the task, none of which meta-training has seen."
    return Report(list(range(_SEEDS)), _rows(comparison), claims, [note, images])


def teacher_student(*, full: bool = False) -> Report:
    """Regression onto random teachers, 8-16-4, with fresh minibatches."""
    setup = Setup(
        learner=MLP(8, 2, momentum_decays=(0.9,), head=AdamHead(0.1), clock=HorizonClock()),
        # The logarithm of a minibatch loss, against our own advice: the losses fall by three orders of magnitude, and
        # what is compared in the end is the loss itself, on a batch that training does not see.
        problem=MetaProblem(TeacherStudent(), MeanLogLoss(floor=1e-4), ConstantHorizon(200), tasks=8),
        estimator=Unrolled(max_norm=1.0),
        steps=600 if full else 240,
        outer_rate=7e-3,
        held_out=TeacherStudent(),
        horizon=200,
        baselines=("sgd", "momentum", "adam", "adamw", "adam_cosine"),
        rates=np.logspace(-3.0, 1.0, 17),
    )
    learners, note = _meta_train(setup)
    comparison = _compare(setup, learners, (1, 3))
    claims = [
        _speed_claim("steps_vs_adam", setup, comparison, "adam"),
        _speed_claim("steps_vs_sgd", setup, comparison, "sgd"),
        *_longer(setup, comparison, ("adam", "adam_cosine")),
    ]
    return Report(list(range(_SEEDS)), _rows(comparison), claims, [note])


def quadratics(*, full: bool = False) -> Report:
    """Random quadratics in ten dimensions, with a coordinatewise LSTM."""
    setup = Setup(
        learner=LSTM(20, 1, head=AdamHead(0.5), clock=HorizonClock()),
        problem=MetaProblem(Quadratics(10), MeanLogLoss(floor=1e-6), ConstantHorizon(100), tasks=32),
        estimator=Unrolled(max_norm=1.0),
        steps=1000 if full else 300,
        outer_rate=3e-3,
        held_out=Quadratics(10),
        horizon=100,
        baselines=("sgd", "momentum", "adam", "adamw", "adam_cosine"),
        rates=np.logspace(-2.5, 1.5, 17),
    )
    learners, note = _meta_train(setup)
    comparison = _compare(setup, learners, (1, 3))
    claims = [
        _final_claim("final_loss_vs_adam", setup, comparison, "adam"),
        *_longer(setup, comparison, ("adam", "adam_cosine")),
    ]
    return Report(list(range(_SEEDS)), _rows(comparison), claims, [note])
