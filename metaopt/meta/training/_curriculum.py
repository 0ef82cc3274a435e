"""Meta-training from easy to hard."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.random as jr
from jaxtyping import PRNGKeyArray

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner, Mixture
from ..base import AbstractEstimator, MetaProblem
from ._history import History
from ._metrics import Sink, told_families
from ._rotation import Rotation
from ._stores import Place, locked_place, place_inside
from ._train import MetaResult, meta_train


class Stage(eqx.Module):
    """One stage of a curriculum: what to train for, and when to go on.

    **Fields:**

    - `problem`: the meta-problem. Stages may differ in conditioning, horizon, size, augmentation, or anything.
    - `steps`: the most meta-steps.
    - `patience`: go on after this many validations in a row without a new best one; by default after all steps.
    - `target`: go on when a validation loss is at most this.
    - `validation`: the tasks to validate on; by default those of the problem.
    - `validate_every`: meta-steps between validations; by default a tenth of `steps`.
    - `estimator`: by default that of the whole curriculum.
    - `rotation`: how the families of a large mixture take turns; see [`metaopt.meta_train`][].
    """

    problem: MetaProblem
    steps: int = eqx.field(static=True)
    patience: int | None = eqx.field(static=True, default=None)
    target: float | None = eqx.field(static=True, default=None)
    validation: AbstractTaskFamily | Mixture | None = None
    validate_every: int | None = eqx.field(static=True, default=None)
    estimator: AbstractEstimator[Any] | None = None
    rotation: Rotation | None = None


class CurriculumResult(eqx.Module):
    """What [`metaopt.meta.train_curriculum`][] returns.

    - `learner`: the best learner of the last stage.
    - `history`: the curves of all stages in a row, counted in meta-steps from the beginning.
    - `stages`: the result of each stage.
    - `promotions`: the meta-step after which each stage ended.
    """

    learner: Learner
    history: History
    stages: list[MetaResult]
    promotions: list[int]


class _OfStage:
    """A sink that is told where in the curriculum its rows belong."""

    def __init__(self, sink: Sink, index: int, done: int, families: Iterable[str]):
        self.sink, self.index, self.done, self.families = sink, index, done, tuple(families)

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        if step or not self.index:
            missing = {name: math.nan for name in self.families if name not in metrics}
            self.sink(self.done + step, {"stage": self.index, **metrics, **missing})

    def flush(self) -> None:
        getattr(self.sink, "flush", lambda: None)()


def train_curriculum(
    learner: Learner,
    stages: Sequence[Stage],
    *,
    estimator: AbstractEstimator[Any],
    outer: AbstractAlgorithm[Any, Any, Any],
    key: PRNGKeyArray,
    validation_tasks: int = 16,
    checkpoint: Place = None,
    checkpoint_seconds: float | None = 600.0,
    resume: bool = False,
    progress: bool = True,
    sinks: Sequence[Sink] = (),
    sink_every: int | None = None,
) -> CurriculumResult:
    """Meta-train through stages, from easy to hard.

    Each stage is a [`metaopt.meta_train`][] that begins with the best learner of the stage before. A stage is left when
    its validation has stopped to improve (`patience`), has reached a `target`, or its steps are spent. The outer
    algorithm and the estimator start afresh in each stage: gradients of another problem have another size, and an
    average of the old ones would misjudge them.

    **Arguments:**

    - `learner`: where to start.
    - `stages`: at least one [`metaopt.meta.Stage`][].
    - `estimator`: how meta-gradients are estimated, in stages that do not say so themselves.
    - `outer`: any algorithm; it is told the steps of each stage.
    - `key`: the key of the run.
    - `validation_tasks`: how many tasks a validation averages over.
    - `checkpoint`: a folder, with one checkpoint of [`metaopt.meta_train`][] per stage, and its curves. No second run
        can write there at the same time. In a run of many processes, a [`metaopt.sharding.CheckpointFolder`][].
    - `checkpoint_seconds`: how many seconds are lost at most if the process is killed; beside that, each stage is saved
        at each tenth of its steps, at its end, and on Ctrl-C and SIGTERM.
    - `resume`: go on from there; the result is that of a run that was not interrupted, bit for bit.
    - `progress`: whether to show progress bars.
    - `sinks`, `sink_every`: what is told of the run, and how often, as in [`metaopt.meta_train`][]. Meta-steps are
        counted from the beginning, `stage` is the number of the stage, from 0, and losses of families of other stages
        are NaN. The validation at the start of a later stage, which has the number of a meta-step before it, is in the
        history only.

    **Returns:**

    A [`metaopt.meta.CurriculumResult`][].

    **Raises:**

    - `ValueError`: if there are no stages, `resume` is given without `checkpoint`, or `checkpoint_seconds` is not above
        0.
    - `BlockingIOError`: if another run writes to the folder.
    - `OSError`, [`metaopt.CheckpointError`][]: as [`metaopt.meta_train`][].
    """
    if not stages:
        raise ValueError("`stages` is empty, but a curriculum needs at least one `metaopt.meta.Stage`.")
    if resume and checkpoint is None:
        raise ValueError("`resume=True` needs the `checkpoint` folder to resume from.")
    families = dict.fromkeys(f"loss:{name}" for s in stages for name in told_families(s.problem, s.rotation))
    results, promotions = [], []
    history = History([], [])
    with locked_place(checkpoint):
        for index, stage in enumerate(stages):
            done = len(history.values)
            result = meta_train(
                learner,
                stage.problem,
                estimator=estimator if stage.estimator is None else stage.estimator,
                outer=outer,
                steps=stage.steps,
                key=jr.fold_in(key, index),
                validation=stage.problem.family if stage.validation is None else stage.validation,
                validate_every=stage.validate_every,
                validation_tasks=validation_tasks,
                patience=stage.patience,
                target=stage.target,
                checkpoint=place_inside(checkpoint, f"stage-{index}"),
                checkpoint_seconds=checkpoint_seconds,
                resume=resume,
                progress=progress,
                rotation=stage.rotation,
                sinks=[_OfStage(sink, index, done, families) for sink in sinks],
                sink_every=sink_every,
            )
            learner = result.learner
            results.append(result)
            validations = [(done + step, loss) for step, loss in result.history.validations]
            history = History(history.values + result.history.values, history.validations + validations)
            promotions.append(len(history.values))
    return CurriculumResult(learner, history, results, promotions)
