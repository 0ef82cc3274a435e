"""Execute a run: train, compare, report, save."""

import json
import os
import pathlib
import time
from typing import Any

import jax.random as jr

from .._core import Learner, save
from ..evaluate import Comparison, compare, plot
from ..meta import MetaResult, meta_train
from ..registry import DEFAULT
from ..spec import Registry, build, dumps, normalize
from ._spec import Evaluation, Run


def execute(
    spec: dict[str, Any],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    progress: bool = True,
    registry: Registry = DEFAULT,
) -> Comparison | None:
    """Execute a run and leave its results in a folder.

    Writes `spec.toml`, `checkpoint.metaopt` (while training), `learner.metaopt` (which [`metaopt.load`][] opens),
    `history.json`, and with an evaluation `comparison.json`, `report.txt` and `curves.png`.

    **Arguments:**

    - `spec`: a run specification; see [`metaopt.runs.Run`][].
    - `out`: the folder; it must be empty or missing, unless `resume` is given.
    - `resume`: go on from the checkpoint in `out`.
    - `progress`: whether to show a progress bar.
    - `registry`: the table of names.

    **Returns:**

    The comparison, if the run has an evaluation.

    **Raises:**

    - [`metaopt.spec.SpecError`][]: if the spec is wrong.
    - `FileExistsError`: if the folder holds something already.
    - `OSError`: if the folder cannot be written.
    """
    run = build(spec, Run, registry=registry)
    explicit = normalize(spec, Run, registry=registry)
    folder = pathlib.Path(out)
    if folder.is_dir() and any(folder.iterdir()) and not resume:
        raise FileExistsError(
            f"The folder `{folder}` is not empty, and results are never overwritten. Choose another with `--out`, "
            "or go on with `--resume`."
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.toml").write_text(dumps(explicit))
    result = _train(run, folder / "checkpoint.metaopt", resume, progress)
    save(folder / "learner.metaopt", result.learner, spec=explicit["learner"], metadata={"kind": "learner"})
    history = {"values": result.history.values, "validations": result.history.validations}
    (folder / "history.json").write_text(json.dumps(history))
    print(_summary(result))
    if run.evaluation is None:
        print(f"\nSaved in {folder}: learner.metaopt, history.json")
        return None
    comparison = _evaluate(run.evaluation, result.learner, run.seed)
    text = comparison.table()
    print(f"\n{text}")
    (folder / "report.txt").write_text(text + "\n")
    (folder / "comparison.json").write_text(json.dumps(comparison.to_json(), indent=1))
    figure = _plot(comparison, folder / "curves.png")
    print(f"\nSaved in {folder}: learner.metaopt, history.json, report.txt, comparison.json{figure}")
    print(f'Use it: learner = metaopt.load("{folder / "learner.metaopt"}")')
    return comparison


def _train(run: Run, checkpoint: pathlib.Path, resume: bool, progress: bool) -> MetaResult:
    return meta_train(
        run.learner,
        run.problem,
        estimator=run.estimator,
        outer=run.outer,
        steps=run.steps,
        key=jr.key(run.seed),
        validation=run.validation,
        validation_tasks=run.validation_tasks,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )


def _summary(result: MetaResult) -> str:
    lines = [
        f"Meta-trained for {len(result.history.values)} meta-steps in {result.seconds:.0f} s "
        f"({result.compile_seconds:.0f} s of it compiling)."
    ]
    if result.history.validations:
        losses = [loss for _, loss in result.history.validations]
        lines.append(
            f"Validation loss {losses[0]:.4g} before, {min(losses):.4g} at its best (meta-step {result.best_step})."
        )
    lines.append(f"{result.diverged} tasks diverged; {result.skipped} meta-steps were skipped.")
    return "\n".join(lines)


def _evaluate(evaluation: Evaluation, learner: Learner, seed: int) -> Comparison:
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
    )
    print(f"Compared in {time.perf_counter() - begun:.0f} s.")
    return comparison


def _plot(comparison: Comparison, path: pathlib.Path) -> str:
    try:
        plot(comparison, path)
    except ImportError as error:
        print(f"No plot: {error}")
        return ""
    return f", {path.name}"
