"""Families of functions one after the other, against all of them at once."""

from typing import Any, NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Float

from ..._core import ClipByGlobalNorm, Learner
from ...evaluate import BASELINES
from ...evaluate._curves import geometric_mean
from ...fewshot import MAML, ContinualResult, Setup, continual
from ...meta import meta_train, validate
from ...schedules import Cosine
from ...tasks import Functions
from ..base import Budget, Claim, Report, Rival
from ..l2o._rules import spread


_SEEDS = 3
_NAMES = ("sine", "polynomial", "step", "bump", "vee")
_STEPS = 1000
_TASKS = 32
_TESTS = 600
_MEMORY = 1000
_ADAPTATION = 5
_OUTER_RATE = 3e-3
_INNER_RATE = 0.01

# Half of the tasks of a meta-gradient are replayed, so that all methods have as many of them.
_METHODS: dict[str, tuple[int, dict[str, Any]]] = {
    "replay": (_TASKS // 2, {"memory": _MEMORY}),
    "anchor": (_TASKS, {"anchor": 0.3, "importance_samples": 64}),
    "naive": (_TASKS, {}),
}


def _outer() -> ClipByGlobalNorm:
    # Where an inner loop is about to diverge, its meta-gradient is huge.
    return ClipByGlobalNorm(Cosine(BASELINES["adam"](_OUTER_RATE), warmup_fraction=0.02, final_fraction=0.03), 10.0)


def _setup(seed: int, tasks: int) -> Setup:
    method = MAML(BASELINES["sgd"](_INNER_RATE), steps=_ADAPTATION, tasks=tasks)
    return method.setup(Functions(), key=jr.key(seed))


class _Found(NamedTuple):
    """Losses at the end, on tasks that are the same for all methods; and what the stream looked like."""

    losses: Float[np.ndarray, " families"]
    stream: ContinualResult | None
    seconds: float


def _families() -> list[Functions]:
    return [Functions((name,)) for name in _NAMES]


def _tested(learner: Learner, seed: int) -> Float[np.ndarray, " families"]:
    key = jr.key(1000 + seed)
    losses = [validate(learner, each, steps=_ADAPTATION, tasks=_TESTS, key=key) for each in _families()]
    return np.asarray([float(loss) for loss in losses])


def _in_sequence(method: str, seed: int, steps: int) -> _Found:
    tasks, options = _METHODS[method]
    setup = _setup(seed, tasks)
    found = continual(
        setup.learner,
        _families(),
        setup.problem,
        estimator=setup.estimator,
        outer=_outer(),
        steps=steps,
        names=_NAMES,
        test_tasks=_TESTS,
        key=jr.key(seed),
        progress=False,
        **options,
    )
    return _Found(_tested(found.learner, seed), found, sum(stage.seconds for stage in found.stages))


def _jointly(seed: int, steps: int) -> _Found:
    """As many meta-steps on tasks of all families, with as many tasks each."""
    setup = _setup(seed, _TASKS)
    result = meta_train(
        setup.learner,
        setup.problem,
        estimator=setup.estimator,
        outer=_outer(),
        steps=len(_NAMES) * steps,
        key=jr.key(seed),
        progress=False,
    )
    return _Found(_tested(result.learner, seed), None, result.seconds)


def _geometric(values: Float[np.ndarray, "..."]) -> float:
    return float(geometric_mean(values.ravel()))


def _ratios(found: list[_Found], joint: list[_Found]) -> Float[np.ndarray, " seeds"]:
    """The joint losses over those of a method, per seed the geometric mean over families."""
    return np.asarray([_geometric(theirs.losses / ours.losses) for ours, theirs in zip(found, joint, strict=True)])


def run(*, full: bool = False) -> Report:
    """An initialization for five kinds of functions that are met one after the other."""
    steps = 3 * _STEPS if full else _STEPS
    seeds = list(range(_SEEDS))
    found = {method: [_in_sequence(method, seed, steps) for seed in seeds] for method in _METHODS}
    found["joint"] = [_jointly(seed, steps) for seed in seeds]
    ratios = {method: _ratios(results, found["joint"]) for method, results in found.items()}
    rows = []
    for method, results in found.items():
        streams = [result.stream for result in results if result.stream is not None]
        row: dict[str, Any] = {"method": method}
        row |= {name: _geometric(np.asarray([r.losses[i] for r in results])) for i, name in enumerate(_NAMES)}
        row["all"] = _geometric(np.asarray([r.losses for r in results]))
        row["joint / this"] = float(np.median(ratios[method]))
        if streams:
            row["backward transfer"] = float(np.mean([stream.backward_transfer for stream in streams]))
            row["forward transfer"] = float(np.mean([stream.forward_transfer for stream in streams]))
        row["s per seed"] = float(np.mean([result.seconds for result in results]))
        rows.append(row)
    note = (
        f"joint training's losses over those of replay of {_MEMORY} tasks: geometric mean over {len(_NAMES)} families, "
        f"median over seeds; {spread(ratios['replay'])}"
    )
    before = len(_NAMES) * steps * _TASKS * _ADAPTATION
    budget = Budget(gradients=_ADAPTATION, before=before)
    terms: dict[str, Any] = {
        "budget": budget,
        "rival": Rival("joint training on all families", budget),
        "left_out": "other continual methods; the strength of anchors is not tuned; larger shifts than these families",
    }
    claims = [
        Claim("final_vs_joint", float(np.median(ratios["replay"])), note, **terms),
        Claim(
            "naive_vs_joint",
            float(np.median(ratios["naive"])),
            f"the same without replay; {spread(ratios['naive'])}",
            **terms,
        ),
    ]
    notes = [
        f"Query losses after {_ADAPTATION} steps on 10 points, means over {_TESTS} held-out tasks of each family; "
        f"geometric means over seeds. {steps} meta-steps per family, {_TASKS} tasks each; joint training has as many "
        "in all.",
        *(f"Seed 0, {method}: losses after each family.\n\n{_table(found[method][0])}" for method in _METHODS),
    ]
    return Report(seeds, rows, claims, notes)


def _table(found: _Found) -> str:
    return "" if found.stream is None else found.stream.table()
