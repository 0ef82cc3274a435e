"""The driver of meta-training."""

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..._core import (
    AbstractAlgorithm,
    AbstractTaskFamily,
    CheckError,
    CheckpointError,
    Learner,
    Mixture,
    SkipNonFinite,
    unroll,
    with_horizon,
)
from ..._core._interrupts import deferred_interrupts
from ..._core._progress import progress_bar
from ..._core._task import check_family
from ..._core.arrays._numbers import check_counts, check_seconds
from ..._core.files._curves import Curves
from ...sharding import CheckpointFolder
from ...sharding._everywhere import agree, fetch, replicate
from ..base import AbstractEstimator, MetaGradient, MetaProblem
from ..estimators._devices import task_keys
from ..estimators._partition import partition
from ..estimators._task_parallel import shared_mesh
from ._apart import Apart, Common, apart
from ._cache import fit_cache
from ._history import KIND, History, to_history
from ._metrics import Metrics, Sink, seen, told_families
from ._rotation import Rotation, run_keys
from ._stores import open_store


T = TypeVar("T")
_LONGEST_CHUNK = 512
# Families in one program, each about ten seconds of compiling.
_MANY = 16
_SECONDS_PER_CHUNK = 1.0


class MetaState(eqx.Module):
    """Everything that meta-training carries from one meta-step to the next, and all that a checkpoint holds."""

    step: Int[Array, ""]
    learner: Learner
    outer: PyTree
    estimator: PyTree
    diverged: Int[Array, ""]


class MetaResult(eqx.Module):
    """What [`metaopt.meta_train`][] returns.

    - `learner`: the learner with the best validation loss, or the last one if there was no validation.
    - `last`: the learner after the last meta-step.
    - `history`: the curves.
    - `skipped`: how many meta-steps were left out because the meta-gradient was not finite, or absurdly large beside
        those before ([`metaopt.SkipNonFinite`][]).
    - `diverged`: how many tasks diverged in all.
    - `best_step`: the meta-step of `learner`.
    - `seconds`, `compile_seconds`: wall-clock time of this call, in all and for compiling; with a `rotation`, for
        waiting until something was compiled.
    - `programs`: how many programs this call compiled to estimate meta-gradients: one, or with a `rotation` one for
        each shape of families that had a turn.
    """

    learner: Learner
    last: Learner
    history: History
    skipped: int
    diverged: int
    best_step: int
    seconds: float
    compile_seconds: float
    programs: int = 1


def meta_step(
    state: MetaState,
    estimator: AbstractEstimator[Any],
    outer: AbstractAlgorithm[Any, Any, Any],
    problem: MetaProblem,
    *,
    key: PRNGKeyArray,
) -> tuple[MetaState, Float[Array, ""]]:
    """One meta-step: estimate the meta-gradient, then let the outer algorithm step. Pure."""
    new, estimate = _step(state, estimator, outer, problem, key=key)
    return new, estimate.value


def _step(
    state: MetaState,
    estimator: AbstractEstimator[Any],
    outer: AbstractAlgorithm[Any, Any, Any],
    problem: MetaProblem,
    *,
    key: PRNGKeyArray,
) -> tuple[MetaState, MetaGradient]:
    key = jr.fold_in(key, state.step)
    estimator_state, estimate = estimator.estimate(state.estimator, state.learner, problem, key=key)
    outer_state, learner = outer.step(state.outer, state.learner, estimate.grads, value=estimate.value)
    new = MetaState(state.step + 1, learner, outer_state, estimator_state, state.diverged + estimate.nonfinite)
    return new, estimate


def validate(
    learner: Learner, family: AbstractTaskFamily | Mixture, *, steps: int, tasks: int, key: PRNGKeyArray
) -> Float[Array, ""]:
    """The mean of the tasks' `measure` after `steps` inner steps, on `tasks` tasks; infinite if one diverged.

    With a mixture it is the weighted geometric mean over its families, each with `tasks` tasks: they may differ in
    scale.

    **Raises:**

    - `ValueError`: if the mean of a family in a mixture is negative, so that there is no geometric mean. Where this is
        traced, the error comes when it runs.
    """
    if isinstance(family, Mixture):
        losses = [validate(learner, each, steps=steps, tasks=tasks, key=key) for each in family.families]
        stacked = jnp.stack(losses)
        if isinstance(stacked, Tracer):
            stacked = eqx.error_if(stacked, stacked < 0, f"The measure of a family is negative. {_NO_MEAN}")
        else:
            for each, loss in zip(family.families, losses, strict=True):
                if loss < 0:
                    raise ValueError(f"The measure of `{type(each).__name__}` is {float(loss):.4g}. {_NO_MEAN}")
        # One family that is solved exactly does not hide the others.
        logarithms = jnp.log(jnp.maximum(stacked, jnp.finfo(stacked.dtype).tiny))
        return jnp.exp(jnp.sum(jnp.asarray(family.shares, stacked.dtype) * logarithms))
    return _validate(learner, family, steps, tasks, key)


_NO_MEAN = (
    "The validation of a mixture is the geometric mean over its families, since their scales differ, and needs "
    "measures of at least 0. Validate on one family, or add a constant to this measure."
)


@eqx.filter_jit
def _validate(
    learner: Learner, family: AbstractTaskFamily, steps: int, tasks: int, key: PRNGKeyArray
) -> Float[Array, ""]:
    def one(key: PRNGKeyArray) -> Float[Array, ""]:
        task_key, run_key, measure_key = jr.split(key, 3)
        task = family.sample(key=task_key)
        trajectory = unroll(learner, task, steps=steps, key=run_key)
        value = task.measure(trajectory.params, key=measure_key)
        if jnp.shape(value):
            raise CheckError(f"`{type(task).__name__}.measure` must be one number, but it has shape {value.shape}.")
        return value

    values = jax.vmap(one)(task_keys(key, jnp.arange(tasks)))
    mean = jnp.mean(values)
    return jnp.where(jnp.isfinite(mean), mean, jnp.inf)


class _Kept(NamedTuple):
    """What meta-steps read, and do not give up."""

    state: MetaState
    steps: Int[Array, ""]
    estimator: AbstractEstimator[Any]
    outer: AbstractAlgorithm[Any, Any, Any]
    problem: MetaProblem
    key: PRNGKeyArray
    columns: int


@eqx.filter_jit(donate="all-except-first")
def _chunk(kept: _Kept, episodes: PyTree) -> tuple[MetaState, Float[Array, "chunk columns"]]:
    """Several meta-steps, and the numbers of each: the loss alone, or as many `columns` as [`seen`][] has.

    The state of the estimator comes apart from the rest, and is given up: it is what takes memory, and is not there
    twice.
    """
    state, steps, estimator, outer, problem, key, columns = kept
    state = dataclasses.replace(state, estimator=episodes)
    dynamic, static = eqx.partition(state, eqx.is_array)

    def body(i: Int[Array, ""], carry: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        dynamic, rows = carry
        state = eqx.combine(dynamic, static)
        new, estimate = _step(state, estimator, outer, problem, key=key)
        if columns == 1:
            row = estimate.value[None].astype(rows.dtype)
        else:
            row = seen(estimate, state.learner, new.learner, new.outer.skipped, new.diverged)
        return eqx.filter(new, eqx.is_array), rows.at[i].set(row)

    dynamic, rows = jax.lax.fori_loop(0, steps, body, (dynamic, jnp.zeros((_LONGEST_CHUNK, columns))))
    return eqx.combine(dynamic, static), rows


def memory_of_meta_steps(
    learner: Learner,
    problem: MetaProblem,
    estimator: AbstractEstimator[Any],
    outer: AbstractAlgorithm[Any, Any, Any],
) -> int:
    """The bytes that the compiled program of meta-steps needs, as XLA says: arguments, results and what is between."""
    episodes = estimator.init(learner, problem, key=jr.key(0))
    zero = jnp.zeros((), jnp.int32)
    state = MetaState(zero, learner, outer.init(learner), None, zero)
    chunk: Any = _chunk
    lowered = chunk.lower(_Kept(state, zero, estimator, outer, problem, jr.key(0), 1), episodes)
    memory = lowered.compile().compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return int(memory.argument_size_in_bytes + results + memory.temp_size_in_bytes)


def meta_train(
    learner: Learner,
    problem: MetaProblem,
    *,
    estimator: AbstractEstimator[Any],
    outer: AbstractAlgorithm[Any, Any, Any],
    steps: int,
    key: PRNGKeyArray,
    rotation: Rotation | None = None,
    validation: AbstractTaskFamily | Mixture | None = None,
    validate_every: int | None = None,
    validation_tasks: int = 16,
    validation_steps: int | None = None,
    patience: int | None = None,
    target: float | None = None,
    checkpoint: str | os.PathLike[str] | CheckpointFolder | None = None,
    checkpoint_every: int | None = None,
    checkpoint_seconds: float | None = 600.0,
    resume: bool = False,
    progress: bool = True,
    sinks: Sequence[Sink] = (),
    sink_every: int | None = None,
) -> MetaResult:
    r"""Meta-train a learner.

    Repeats $\hat g \leftarrow \mathrm{estimate}(\phi)$, $\phi \leftarrow \mathrm{outer.step}(\phi, \hat g)$ in compiled
    chunks of about a second, with a progress bar. Random keys depend on the meta-step only, so a run that was
    interrupted and resumed gives the same bits as one that was not.

    In a run of many processes ([`metaopt.sharding.initialize`][]) all of them call this with the same arguments, and
    get the same result. Ctrl-C or SIGTERM in one of them ends all.

    In the main thread, Ctrl-C and SIGTERM wait for the end of the chunk that runs and of what belongs to it; a second
    one waits for the chunk only. What was reached is saved, then Ctrl-C raises `KeyboardInterrupt`. SIGTERM calls the
    handler that the program has for it; if that raises `KeyboardInterrupt` or `SystemExit`, what was reached is saved,
    too. Where the program has none it is saved, and the process then dies of the signal, as it does without metaopt.
    Other threads get no signals: in them, and without `checkpoint`, a SIGTERM without a handler ends the process at
    once.

    **Arguments:**

    - `learner`: where to start.
    - `problem`: what to train for. Where it leaves `batch_size` open, a processor runs one task after the other if the
        arrays of a step of all of them are larger than its cache, taken as 4 MiB.
    - `estimator`: how meta-gradients are estimated.
    - `outer`: any algorithm; it is told the number of meta-steps.
    - `steps`: the number of meta-steps, at least 1.
    - `key`: the key of the run.
    - `rotation`: how the families of a large mixture take turns, each with a program of its own. Without, all families
        are in one program, which takes long to compile if they are many. The estimator is [`metaopt.meta.Mixed`][].
    - `validation`: held-out tasks. The learner with the lowest validation loss is kept.
    - `validate_every`: meta-steps between validations; by default a tenth of `steps`.
    - `validation_tasks`: how many tasks a validation averages over.
    - `validation_steps`: how many inner steps each of them has; by default the longest horizon.
    - `patience`: stop after this many validations in a row without a new best one. The decision depends on what
        checkpoints hold alone, so a resumed run stops where one that was not interrupted does.
    - `target`: stop when a validation loss is at most this.
    - `checkpoint`: a file to which the whole state is saved every `checkpoint_every` meta-steps (by default a tenth of
        `steps`) and every `checkpoint_seconds`, at the end, and on Ctrl-C and SIGTERM. The curves are in a second file
        beside it, `checkpoint` + `.curves`, which is appended to; keep both together. While this call runs it holds a
        lock, `checkpoint` + `.lock`, so that no second run writes there.
    - `checkpoint_every`, `checkpoint_seconds`: how many meta-steps, and how many seconds, are lost at most if the
        process is killed. When something is saved makes no difference to what is computed. `checkpoint_seconds=None`
        does not look at the clock; in a run of many processes, that of the first one counts.
    - `resume`: go on from `checkpoint` if that file exists.
    - `progress`: whether to show a progress bar.
    - `sinks`: what is told of the run while it goes on: functions of the meta-step and of metrics by name, such as
        [`metaopt.evaluate.LiveTable`][], [`metaopt.evaluate.CSVFile`][], [`metaopt.evaluate.JSONLines`][],
        [`metaopt.evaluate.TensorBoard`][], [`metaopt.evaluate.HistoryPlot`][], or one of your own. In a run of many
        processes the first one calls them. A sink that raises an `OSError` is left out from there on, with a warning;
        what else it raises ends the run after a checkpoint.
    - `sink_every`: meta-steps between two calls, by default a thousandth of `steps`; at each validation and at the end
        there is one, too.

    Metrics are of the meta-steps since the call before, and the same in a run that was interrupted and resumed:

    - `loss`: the mean inner value; `loss:NAME` that of each family of a mixture, or, with a `rotation` of more than 32
        families, of each kind of family.
    - `validation`: the validation loss, NaN where there is none.
    - `signal_to_noise`: $\lVert g \rVert^2 / \mathbb{E} \lVert \hat g - g \rVert^2$ for the meta-gradient $g$ and its
        estimate $\hat g$, an unbiased estimate of both from how much the tasks differ; it may come out negative where
        noise is all there is. NaN if the estimator does not tell, or has one task.
    - `gradient_norm`, `update_norm`: the means of $\lVert \hat g \rVert$ and of the norm of the outer update.
    - `outer_rate`: the second divided by the first, which is the learning rate if the outer algorithm is gradient
        descent.
    - `skipped`, `diverged`: how many meta-steps were left out, and how many tasks diverged, up to here.

    **Returns:**

    A [`metaopt.meta.MetaResult`][]. A meta-step whose gradient is not finite is left out; a warning says how many
    were.

    **Raises:**

    - `ValueError`: for a `steps`, `validate_every`, `checkpoint_every`, `sink_every` or `patience` below 1, a
        `checkpoint_seconds` that is not above 0, `patience` or `target` without `validation`, or `resume` without
        `checkpoint`; in a run of many processes, if the estimator is not
        spread over the devices of all, or the checkpoint is a file; for a `rotation` of anything but a mixture.
    - `TypeError`: if the tasks of a family differ in shape.
    - `OSError`: if the checkpoint cannot be written; tried before training starts. A `FileExistsError` if it is
        that of another run and `resume` is not given, a `BlockingIOError` if another run writes it now.
    - [`metaopt.CheckpointError`][]: if the checkpoint to resume from is damaged or does not fit, or its curves are
        missing, damaged, or of another run.
    """
    validate_every = max(1, steps // 10) if validate_every is None else validate_every
    checkpoint_every = max(1, steps // 10) if checkpoint_every is None else checkpoint_every
    sink_every = max(1, steps // 1000) if sink_every is None else sink_every
    counts = dict(validate_every=validate_every, checkpoint_every=checkpoint_every, sink_every=sink_every)
    check_counts(steps=steps, patience=patience, **counts)
    check_seconds(checkpoint_seconds=checkpoint_seconds)
    if validation is None and (patience is not None or target is not None):
        raise ValueError("`patience` and `target` judge validations. Give `validation`, the tasks to validate on.")
    if resume and checkpoint is None:
        raise ValueError("`resume=True` needs the `checkpoint` file to resume from.")
    for family in [problem.family] if validation is None else [problem.family, validation]:
        check_family(family)
    if rotation is None and isinstance(problem.family, Mixture) and len(problem.family.families) > _MANY:
        warnings.warn(
            f"All {len(problem.family.families)} families of the mixture go into one program, which takes very long to "
            "compile. Give `rotation=metaopt.meta.Rotation()`, with which each has one of its own.",
            stacklevel=2,
        )
    if rotation is not None:
        apart(estimator)
    metrics = Metrics(sinks if jax.process_index() == 0 else (), sink_every, told_families(problem, rotation))
    run = _Run(learner, problem, estimator, outer, steps, key, rotation, checkpoint, resume, metrics, told=bool(sinks))
    periods = [checkpoint_every] if checkpoint is not None else []
    periods += [validate_every] if validation is not None else []
    validation = run.shared(validation)
    many = jax.process_count() > 1
    bar = progress_bar(steps, done=run.step, unit="meta-step", enabled=progress and jax.process_index() == 0)
    path = checkpoint.path if isinstance(checkpoint, CheckpointFolder) else checkpoint
    place = None if path is None else os.fspath(path)
    waiting = deferred_interrupts(agree if many else None, place=place)
    with waiting as let_interrupts_through, bar:
        try:
            # The second case is a run that was interrupted before a validation.
            due = run.step % validate_every == 0 or run.step == steps
            if validation is not None and (not run.validations or (due and run.validations[-1][0] != run.step)):
                run.validate(validation, validation_tasks, validation_steps)
                run.tell(over=run.step == steps)
            while run.step < steps and not run.is_over(validate_every, patience, target):
                before = run.step
                stop = min([steps, *[p * (before // p + 1) for p in periods]])
                with let_interrupts_through.hold():
                    run.advance(stop)
                last = run.step == steps
                if validation is not None and (run.step % validate_every == 0 or last):
                    run.validate(validation, validation_tasks, validation_steps)
                last = last or run.is_over(validate_every, patience, target)
                run.tell(over=last)
                bar.set_postfix(run.postfix(), refresh=False)
                bar.update(run.step - before)
                let_interrupts_through()
                if checkpoint is not None and (
                    run.step % checkpoint_every == 0 or last or run.is_late(checkpoint_seconds)
                ):
                    run.save()
            run.store.close()
        except BaseException as stopped:
            if isinstance(stopped, KeyboardInterrupt | SystemExit) or metrics.failed:
                if run.is_there():
                    run.save()
                else:
                    stopped.add_note("It came from inside of the meta-steps: those since the last checkpoint are lost.")
                run.store.close()
            raise
        finally:
            metrics.flush()
            run.store.release()
            if run.apart is not None:
                run.apart.close()
    return run.result()


class _Run:
    """The host side of one `meta_train` call: clocks, curves, files."""

    def __init__(
        self,
        learner: Learner,
        problem: MetaProblem,
        estimator: AbstractEstimator[Any],
        outer: AbstractAlgorithm[Any, Any, Any],
        steps: int,
        key: PRNGKeyArray,
        rotation: Rotation | None,
        checkpoint: str | os.PathLike[str] | CheckpointFolder | None,
        resume: bool,
        metrics: Metrics,
        told: bool,
    ):
        self.metrics, self.columns = metrics, len(metrics.columns) if told else 1
        self.begun = time.perf_counter()
        self.mesh = shared_mesh(estimator)
        outer = with_horizon(SkipNonFinite(outer), steps)
        start_key, run_key, validation_key = run_keys(key)
        learner = jtu.tree_map(lambda x: jnp.asarray(x, x.dtype) if eqx.is_array(x) else x, learner)
        estimator_key, outer_key = jr.split(start_key)
        partition(learner, problem)
        zero = jnp.zeros((), jnp.int32)
        problem = problem if rotation is not None else fit_cache(problem, learner)
        given = (zero, learner, outer.init(learner, key=outer_key), estimator, problem)
        zero, learner, outer_state, self.estimator, self.problem = self.shared(given)
        self.outer = self.shared(outer)
        self.key, self.validation_key, estimator_key = self.shared((run_key, validation_key, estimator_key))
        if rotation is None:
            self.apart = None
            estimator_state = eqx.filter_jit(self.estimator.init)(learner, self.problem, key=estimator_key)
        else:
            self.apart = Apart(
                rotation, self.estimator, self.outer, self.problem, learner, run_key, steps=steps, told=told
            )
            estimator_state = self.apart.seats(0)
        self.state = MetaState(zero, learner, outer_state, estimator_state, zero)
        self.best, self.best_step = learner, 0
        self.values: list[float] = []
        self.validations: list[tuple[int, float]] = []
        self.chunk, self.compile_seconds = 1, 0.0
        self.store = open_store(checkpoint)
        try:
            found = resume and self.load()
            self.settle()
            if not found:
                self.save()
                self.store.wait()
        except BaseException:
            self.store.release()
            raise
        self.saved = time.monotonic()

    def shared(self, tree: T) -> T:
        """The same in a run of many processes: arrays on the devices of all."""
        return tree if self.mesh is None else replicate(tree, self.mesh)

    @property
    def step(self) -> int:
        return len(self.values)

    def advance(self, stop: int) -> None:
        """Run one chunk, of about a second, but not past `stop`.

        No signal may come in here, since nothing that could be saved is left of the state before.
        """
        count = min(stop - self.step, agree(self.chunk))
        begun = time.perf_counter()
        if self.apart is None:
            rest, number = dataclasses.replace(self.state, estimator=None), self.shared(jnp.asarray(count))
            kept = _Kept(rest, number, self.estimator, self.outer, self.problem, self.key, self.columns)
            state, rows = jax.block_until_ready(_chunk(kept, self.state.estimator))
            rows = np.asarray(rows)[:count]
            waited = 0.0
        else:
            waited = self.apart.seconds
            state, rows = self._advance_apart(self.apart, count)
            waited = self.apart.seconds - waited
        seconds = time.perf_counter() - begun
        self.state = state
        self.values += [float(v) for v in rows[:, 0]]
        if self.columns > 1:
            self.metrics.add(rows)
        self.settle()
        if self.apart is None and not self.compile_seconds:
            self.compile_seconds = seconds
        else:
            self.compile_seconds += waited
            seconds = max(seconds - waited, 1e-6)
            self.chunk = int(min(max(1, count * _SECONDS_PER_CHUNK / seconds), 4 * count, _LONGEST_CHUNK))

    def _advance_apart(self, apart: Apart, count: int) -> tuple[MetaState, Float[np.ndarray, "steps columns"]]:
        s = self.state
        common, seats, rows = apart.advance(Common(s.step, s.learner, s.outer, s.diverged), s.estimator, count)
        return MetaState(common.step, common.learner, common.outer, seats, common.diverged), rows

    def validate(self, family: AbstractTaskFamily | Mixture, tasks: int, steps: int | None) -> None:
        steps = self.problem.horizon.longest if steps is None else steps
        loss = float(validate(self.state.learner, family, steps=steps, tasks=tasks, key=self.validation_key))
        if not self.validations or loss < min(v for _, v in self.validations):
            self.best, self.best_step = self.state.learner, self.step
        self.validations.append((self.step, loss))
        if len(self.validations) == 2 and self.is_blind():
            warnings.warn(
                f"The validation is not finite, neither at the start nor after meta-step {self.step}: within {steps} "
                "steps the learner diverges on the held-out tasks, or their measure is not finite. While this is so, "
                "`learner` stays the start, and `last` is what was trained. Look at `metaopt.unroll` of one such task, "
                "or begin with a smaller rate.",
                stacklevel=4,
            )

    def tell(self, *, over: bool) -> None:
        """Give what was seen to the sinks, and remember this moment."""
        step, loss = self.validations[-1] if self.validations else (-1, math.nan)
        try:
            self.metrics.emit(self.step, loss if step == self.step else None, over=over)
        finally:
            self.settle()

    def is_blind(self) -> bool:
        """Whether there are validations and none of them is finite, so that none is the best."""
        return bool(self.validations) and not any(math.isfinite(loss) for _, loss in self.validations)

    def is_over(self, every: int, patience: int | None, target: float | None) -> bool:
        """Whether the validations so far are reason to stop."""
        # Not the one at the end of a shorter run that is gone on with.
        losses = [loss for step, loss in self.validations if step % every == 0]
        reached = target is not None and bool(losses) and losses[-1] <= target
        return reached or (patience is not None and bool(losses) and len(losses) - 1 - _first_best(losses) >= patience)

    def postfix(self) -> dict[str, str]:
        recent = self.values[-50:]
        shown = {"loss": f"{sum(recent) / len(recent):.4g}"}
        if self.validations:
            shown["validation"] = f"{self.validations[-1][1]:.4g}"
        if int(self.state.outer.skipped):
            shown["skipped"] = str(int(self.state.outer.skipped))
        return shown

    def settle(self) -> None:
        """Remember this moment, at which nothing is half done: what is saved, whenever an interrupt comes."""
        row = self.metrics.unfinished()
        self.settled = (self.state, self.best, self.best_step, len(self.values), len(self.validations), row)

    def is_there(self) -> bool:
        """Whether what was settled last still exists: meta-steps that were broken off have given it up."""
        arrays = [x for x in jtu.tree_leaves(self.settled[0]) if isinstance(x, jax.Array)]
        return not any(x.is_deleted() for x in arrays)

    def save(self) -> None:
        state, best, best_step, step, validations, row = self.settled
        curves = Curves(self.values[:step], self.validations[:validations])
        about = {"kind": KIND, "meta_steps": step, "best_step": best_step, **({"row": row} if row else {})}
        self.store.save(step, (state, best), about, curves)
        self.saved = time.monotonic()

    def is_late(self, seconds: float | None) -> bool:
        """Whether the last checkpoint was so long ago, by the clock of the first process."""
        if seconds is None:
            return False
        return bool(agree(int(jax.process_index() == 0 and time.monotonic() - self.saved >= seconds)))

    def load(self) -> bool:
        """Go on from what is stored; returns whether there is something."""
        found = self.store.load(self._like)
        if found is None:
            return False
        (self.state, self.best), metadata, curves = found
        history = to_history(metadata, curves)
        self.values, self.validations = history.values, history.validations
        best_step = metadata.get("best_step")
        if type(best_step) is not int:
            raise CheckpointError(f"The checkpoint says that its best learner is of meta-step {best_step!r}.")
        self.best_step = best_step
        self.metrics.resume(metadata.get("row"))
        if int(self.state.step) != self.step:
            raise CheckpointError(
                f"The checkpoint was saved after meta-step {int(self.state.step)}, but its curves have {self.step} of "
                "them. Go on from an earlier one."
            )
        return True

    def _like(self, metadata: dict[str, Any]) -> tuple[MetaState, Learner]:
        """What a checkpoint with this metadata holds: with families that take turns, it depends on when."""
        state, step = self.state, metadata.get("meta_steps")
        if self.apart is not None and type(step) is int:
            state = dataclasses.replace(state, estimator=self.apart.seats(step))
        return state, self.best

    def result(self) -> MetaResult:
        skipped, diverged = int(self.state.outer.skipped), int(self.state.diverged)
        if skipped:
            warnings.warn(
                f"{skipped} of {self.step} meta-steps were skipped because their meta-gradient was not finite, or a "
                "thousand times larger than those before. Lower the outer learning rate, clip with "
                "`metaopt.ClipByGlobalNorm`, or shorten the horizon. If no task has a gradient from the start, the "
                "inner loop has an infinite slope, as a square root at zero has: a ready `optax.adam` needs "
                "`eps_root=1e-30`.",
                stacklevel=3,
            )
        if self.is_blind():
            warnings.warn(
                f"None of the {len(self.validations)} validations was finite, so that none is the best: `learner` is "
                "where training began, and `last` is what was trained.",
                stacklevel=3,
            )
        learner, best_step = (self.best, self.best_step) if self.validations else (self.state.learner, self.step)
        last = self.state.learner
        if self.mesh is not None:
            learner, last = fetch((learner, last))
        return MetaResult(
            learner=learner,
            last=last,
            history=History(self.values, self.validations),
            skipped=skipped,
            diverged=diverged,
            best_step=best_step,
            seconds=time.perf_counter() - self.begun,
            compile_seconds=self.compile_seconds,
            programs=1 if self.apart is None else self.apart.programs,
        )


def _first_best(losses: list[float]) -> int:
    return losses.index(min(losses))
