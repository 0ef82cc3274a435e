"""Execute a run: train, compare, report, save."""

import dataclasses
import importlib.util
import os
import pathlib
import shlex
import time
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from .._core import Learner, load, save
from .._core.files._checkpoint_file import Watched
from .._core.files._lock import Lock, locked_folder
from .._core.files._printable import printable
from .._core.files._save import write_at_once
from ..evaluate import (
    Comparison,
    CSVFile,
    HistoryPlot,
    JSONLines,
    LiveTable,
    Sink,
    TensorBoard,
    compare,
    plot,
    write_json,
)
from ..meta import (
    AbstractEstimator,
    CurriculumResult,
    MetaProblem,
    MetaResult,
    Rotation,
    meta_train,
    rotation_turns,
    train_curriculum,
)
from ..meta.estimators._mixed import mixture
from ..meta.estimators._task_parallel import shared_mesh
from ..meta.training._apart import apart
from ..meta.training._metrics import family_names
from ..registry import DEFAULT
from ..sharding import CheckpointFolder
from ..spec import Registry, SpecError, build, dumps, normalize, read
from ._spec import Evaluation, Run


# These may change when a run is resumed: they say how far it goes and what comes after.
_CHANGEABLE = {"description", "evaluation", "steps", "patience", "target", "checkpoint_every", "sinks", "sink_every"}


def execute(
    spec: dict[str, Any],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    progress: bool = True,
    registry: Registry = DEFAULT,
) -> Comparison | None:
    """Execute a run and leave its results in a folder.

    Writes `spec.toml`, `checkpoint.metaopt` and `checkpoint.metaopt.curves` (while training; those of a curriculum are
    in the folder `stages`), `learner.metaopt` (which [`metaopt.load`][] opens), `history.json`, `metrics.csv` and,
    where matplotlib is installed, `history.png` (both grow while training), with a rotation `families.csv` (who was
    resident from which meta-step on), and with an evaluation `comparison.json`, `report.txt` and `curves.png`. While
    it runs it holds the lock `.lock`, which ends with the process, so that no second run writes to the folder. If the
    folder is emptied, removed or moved meanwhile, all that is needed to resume is written to its place with the next
    checkpoint, with a warning.

    In a run of many processes ([`metaopt.sharding.initialize`][]) all of them call this. They train together, with
    checkpoints in the folder `checkpoints`; everything else, printing included, the first one does alone.

    **Arguments:**

    - `spec`: a run specification; see [`metaopt.runs.Run`][].
    - `out`: the folder; it must be empty or missing, unless `resume` is given.
    - `resume`: go on from the checkpoint in `out`, if there is one.
    - `progress`: whether to show progress bars.
    - `registry`: the table of names.

    **Returns:**

    The comparison, if the run has an evaluation, and in the first process.

    **Raises:**

    - [`metaopt.spec.SpecError`][]: if the spec is wrong, or differs from that of the run to resume in more than how far
        it goes, when it is saved, and what comes after; if one process should go on where many had begun, or the
        reverse.
    - `FileExistsError`: if the folder holds something already.
    - `BlockingIOError`: if another run writes to the folder now.
    - `OSError`: if the folder cannot be written, or the learner to start from cannot be read.
    - [`metaopt.CheckpointError`][]: if the checkpoint to resume from is damaged, or the learner to start from is of
        another kind.
    """
    run = build(spec, Run, registry=registry)
    explicit = normalize(spec, Run, registry=registry)
    if run.start is not None:
        run = dataclasses.replace(run, learner=load(run.start, run.learner))
    _check_estimator(run)
    folder = pathlib.Path(out)
    alone = "Choose another with `--out`, or wait until that run has ended; its lock ends with it."
    # The first process speaks for all.
    with locked_folder(folder if jax.process_index() == 0 else None, alone) as lock:
        if lock is not None:
            _prepare(folder, explicit, resume)
            if run.description and progress:
                print(printable(run.description, lines=True), flush=True)
        try:
            place = Watched(folder / _checkpoint(run), lambda: _keep(folder, explicit, lock))
            result = _train(run, place, resume, progress, _sinks(run, folder, lock, resume, progress))
            if lock is None:
                return None
            _keep(folder, explicit, lock)
            return _finish(run, result, explicit, folder, progress)
        except KeyboardInterrupt as interrupt:
            if (folder / _checkpoint(run)).exists():
                again = f"run {shlex.quote(str(folder / 'spec.toml'))} --out {shlex.quote(str(folder))} --resume"
                start = "" if jax.process_count() == 1 else f"launch -n {jax.process_count()} -- "
                interrupt.add_note(f"What was reached is saved; go on with `python -m metaopt {start}{again}`.")
            raise


def _keep(folder: pathlib.Path, explicit: dict[str, Any], lock: Lock | None) -> None:
    """See to it, before a checkpoint is saved, that the folder is ours and has what a run needs to be resumed."""
    if lock is not None and lock.lost():
        lock.take()
    if not (folder / "spec.toml").exists():
        _write_spec(folder, explicit)


def _checkpoint(run: Run) -> str:
    if jax.process_count() > 1:
        return "checkpoints"
    return "stages" if run.stages else "checkpoint.metaopt"


def _finish(
    run: Run, result: MetaResult, explicit: dict[str, Any], folder: pathlib.Path, progress: bool
) -> Comparison | None:
    # No times: a run that is repeated writes the same bytes.
    if (turns := _turns(run, len(result.history.values))) is not None:
        write_at_once(folder / "families.csv", turns.encode())
    facts = {"kind": "learner", "meta_steps": len(result.history.values)}
    curve = {"validations": result.history.validations, "best_step": result.best_step}
    save(folder / "learner.metaopt", result.learner, spec=explicit["learner"], metadata={**facts, **curve})
    write_json(folder / "history.json", {"values": result.history.values, "validations": result.history.validations})
    print(_summary(result))
    comparison, written = None, ["learner.metaopt", "history.json"]
    if run.evaluation is not None:
        comparison = _evaluate(run.evaluation, result.learner, run.seed, progress)
        written += _report(comparison, folder)
    print(f"\nSaved in {folder}: {', '.join(written)}.")
    print(f"Use it: learner = metaopt.load({str(folder / 'learner.metaopt')!r})")
    return comparison


def _turns(run: Run, steps: int) -> str | None:
    """Which family was resident from which meta-step on, as comma-separated values."""
    if run.rotation is None or run.problem is None:
        return None
    families = mixture(run.problem)
    names = family_names(families)
    turns = rotation_turns(run.rotation, families, key=jr.key(run.seed), steps=steps)
    lines = [f"{turn.step},{turn.seat},{turn.family},{names[turn.family]}\n" for turn in turns]
    return "step,seat,family,name\n" + "".join(lines)


def _check_estimator(run: Run) -> None:
    """Say now what would otherwise be said after the folder was made."""
    try:
        for problem, rotation, estimator in _parts(run):
            shared_mesh(estimator)
            if rotation is not None and problem is not None:
                # One for all: there may be hundreds.
                estimator = apart(estimator)[1]
                problem = dataclasses.replace(problem, family=mixture(problem).families[0])
            eqx.filter_eval_shape(estimator.init, run.learner, problem, key=jr.key(run.seed))
    except (TypeError, ValueError) as error:
        raise SpecError("", str(error)) from error


def _parts(run: Run) -> list[tuple[MetaProblem | None, Rotation | None, AbstractEstimator[Any]]]:
    """What is trained for, one after the other."""
    if not run.stages:
        return [(run.problem, run.rotation, run.estimator)]
    return [(s.problem, s.rotation, run.estimator if s.estimator is None else s.estimator) for s in run.stages]


def _prepare(folder: pathlib.Path, explicit: dict[str, Any], resume: bool) -> None:
    file = folder / "spec.toml"
    if not all(_is_trace(path.name) for path in folder.iterdir()):
        if not resume:
            raise FileExistsError(
                f"The folder `{folder}` is not empty, and results are never overwritten. Choose another with `--out`, "
                "or go on with `--resume`."
            )
        before = read(file)
        for key in sorted({*before, *explicit} - _CHANGEABLE):
            if before.get(key) != explicit.get(key):
                raise SpecError(key, f"differs from `{file}`, the run to resume. Start a new one in another folder.")
        many = jax.process_count() > 1
        if any((folder / other).exists() for other in (("checkpoint.metaopt", "stages") if many else ("checkpoints",))):
            who = "one process" if many else "many processes"
            raise SpecError("", f"`{folder}` holds a run of {who}, which only {who} can resume.")
    _write_spec(folder, explicit)


def _is_trace(name: str) -> bool:
    """Whether this is what a run leaves that was killed before it had begun."""
    return name in (".lock", ".spec.toml") or name.lstrip(".").startswith("spec.toml.")


def _write_spec(folder: pathlib.Path, explicit: dict[str, Any]) -> None:
    write_at_once(folder / "spec.toml", dumps(explicit).encode())


class _WhileOurs:
    """A sink that is silent while the folder is not ours: then another run may write there."""

    def __init__(self, sink: Sink, lock: Lock):
        self.sink, self.lock = sink, lock

    def __call__(self, step: Any, metrics: Mapping[str, Any]) -> None:
        if self.lock.is_ours():
            self.sink(step, metrics)

    def flush(self) -> None:
        if self.lock.is_ours():
            getattr(self.sink, "flush", lambda: None)()


def _sinks(run: Run, folder: pathlib.Path, lock: Lock | None, resume: bool, progress: bool) -> list[Sink]:
    """What is told of the run: files in its folder, and what the spec asks for."""
    if lock is None:
        return []
    rows = folder / "metrics.csv"
    picture = [HistoryPlot(folder / "history.png", rows=rows if resume else None)] if _can_draw() else []
    sinks: list[Sink] = [CSVFile(rows, append=resume), *picture]
    for name in run.sinks:
        if name == "json":
            sinks.append(JSONLines(folder / "metrics.jsonl", append=resume))
        elif name == "tensorboard":
            sinks.append(TensorBoard(folder / "tensorboard"))
        elif progress:
            sinks.append(LiveTable())
    return [_WhileOurs(sink, lock) for sink in sinks]


def _can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def _train(run: Run, checkpoint: Watched, resume: bool, progress: bool, sinks: list[Sink]) -> MetaResult:
    place = checkpoint if jax.process_count() == 1 else CheckpointFolder(checkpoint)
    if run.stages:
        return _in_one(
            train_curriculum(
                run.learner,
                run.stages,
                estimator=run.estimator,
                outer=run.outer,
                key=jr.key(run.seed),
                validation_tasks=run.validation_tasks,
                checkpoint=place,
                sinks=sinks,
                sink_every=run.sink_every,
                resume=resume,
                progress=progress,
            )
        )
    assert run.problem is not None and run.steps is not None
    return meta_train(
        run.learner,
        run.problem,
        estimator=run.estimator,
        outer=run.outer,
        steps=run.steps,
        key=jr.key(run.seed),
        validation=run.validation,
        validation_tasks=run.validation_tasks,
        validation_steps=run.validation_steps,
        validate_every=run.validate_every,
        patience=run.patience,
        target=run.target,
        checkpoint_every=run.checkpoint_every,
        sinks=sinks,
        sink_every=run.sink_every,
        rotation=run.rotation,
        checkpoint=place,
        resume=resume,
        progress=progress,
    )


def _in_one(course: CurriculumResult) -> MetaResult:
    """The result of a curriculum as that of one training."""
    last = course.stages[-1]
    before = len(course.history.values) - len(last.history.values)
    return MetaResult(
        learner=course.learner,
        last=last.last,
        history=course.history,
        skipped=sum(stage.skipped for stage in course.stages),
        diverged=sum(stage.diverged for stage in course.stages),
        best_step=before + last.best_step,
        seconds=sum(stage.seconds for stage in course.stages),
        compile_seconds=sum(stage.compile_seconds for stage in course.stages),
        programs=sum(stage.programs for stage in course.stages),
    )


def _summary(result: MetaResult) -> str:
    history = result.history
    lines = [
        f"Meta-trained for {len(history.values)} meta-steps; this took {result.seconds:.0f} s, "
        f"{result.compile_seconds:.0f} s of it compiling."
    ]
    if history.validations:
        first, best = history.validations[0][1], min(loss for _, loss in history.validations)
        lines.append(f"Validation loss {first:.4g} before, {best:.4g} at its best (meta-step {result.best_step}).")
    lines.append(f"{result.diverged} tasks diverged; {result.skipped} meta-steps were skipped.")
    return "\n".join(lines)


def _evaluate(evaluation: Evaluation, learner: Learner, seed: int, progress: bool) -> Comparison:
    print("\nComparing on held-out tasks with tuned baselines ...", flush=True)
    begun = time.perf_counter()
    comparison = compare(
        {"learned": learner},
        evaluation.family,
        steps=evaluation.steps,
        key=jr.fold_in(jr.key(seed), 1),
        num_tasks=evaluation.tasks,
        seeds=evaluation.seeds,
        horizons=evaluation.horizons,
        baselines=evaluation.baselines,
        tuning_tasks=evaluation.tuning_tasks,
        record_every=evaluation.record_every,
        progress=progress,
    )
    print(f"Compared in {time.perf_counter() - begun:.0f} s.")
    return comparison


def _report(comparison: Comparison, folder: pathlib.Path) -> list[str]:
    """Print and write what was found; returns the names of the files."""
    text = comparison.table()
    print(f"\n{text}")
    (folder / "report.txt").write_text(text + "\n")
    comparison.to_json(folder / "comparison.json")
    try:
        plot(comparison, folder / "curves.png")
    except ImportError as error:
        print(f"\nNo plot: {error}")
        return ["report.txt", "comparison.json"]
    return ["report.txt", "comparison.json", "curves.png"]
