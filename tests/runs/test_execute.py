import contextlib
import csv
import json
import math
import shutil
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import pytest

import metaopt
import metaopt.meta.training._curriculum as course
import metaopt.meta.training._train as train_module
import metaopt.runs._execute as module
from metaopt._core.files._lock import locked_folder
from metaopt.runs import execute
from metaopt.spec import SpecError, read

from .specs import evaluated, small


def run(spec, folder, **options):
    return execute(spec, folder, progress=False, **options)


def test_what_a_run_leaves(tmp_path, capsys):
    assert run(small(), tmp_path / "new" / "run") is None
    folder = tmp_path / "new" / "run"
    assert {p.name for p in folder.iterdir()} == {
        "spec.toml",
        "checkpoint.metaopt",
        "checkpoint.metaopt.curves",
        "learner.metaopt",
        "history.json",
        "metrics.csv",
        "history.png",
    }
    history = json.loads((folder / "history.json").read_text())
    assert len(history["values"]) == 20 and all(map(math.isfinite, history["values"]))
    assert [step for step, _ in history["validations"]] == list(range(0, 21, 2))
    assert read(folder / "spec.toml")["learner"]["algorithm"] == {"name": "sgd", "learning_rate": 0.01}
    out = capsys.readouterr().out
    assert "Meta-trained for 20 meta-steps" in out and "learner.metaopt" in out


def test_a_loaded_learner_gives_the_same_steps(tmp_path):
    run(small(), tmp_path / "run")
    loaded: Any = metaopt.load(tmp_path / "run" / "learner.metaopt")
    trained = metaopt.load(tmp_path / "run" / "checkpoint.metaopt", _checkpoint_like(tmp_path / "other"))[1]
    assert loaded.algorithm.hyperparameters["learning_rate"] != 0.01
    task = metaopt.build("quadratics", metaopt.AbstractTaskFamily).sample(key=jr.key(3))
    one, other = (metaopt.unroll(learner, task, steps=5, key=jr.key(4)) for learner in (loaded, trained))
    assert eqx.tree_equal(one, other)
    assert jnp.all(jnp.isfinite(one.values))


def _checkpoint_like(folder):
    """The structure of a checkpoint of a small run, caught on its way to the file."""
    caught = []
    with pytest.MonkeyPatch.context() as patch:
        import metaopt._core.files._checkpoint_file as stores

        patch.setattr(stores, "save", lambda path, tree, **_: caught.append(tree))
        run(small(steps=1), folder)
    return caught[0]


@pytest.mark.slow
def test_a_run_goes_on_from_saved_weights(tmp_path):
    run(small(steps=2), tmp_path / "first")
    start = tmp_path / "first" / "learner.metaopt"
    run(small(steps=2, start=str(start)), tmp_path / "second")
    first = json.loads((tmp_path / "first" / "history.json").read_text())["validations"]
    second = json.loads((tmp_path / "second" / "history.json").read_text())["validations"]
    assert second[0][1] == pytest.approx(min(loss for _, loss in first), rel=1e-5)
    assert second[0][1] != pytest.approx(first[0][1], rel=1e-5)
    with pytest.raises(metaopt.CheckpointError):
        run(small(start=str(tmp_path / "nothing.metaopt")), tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_the_same_spec_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        run(small(), tmp_path / name)
    files = [tmp_path / name / "learner.metaopt" for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
    run(small(seed=1), tmp_path / "c")
    assert (tmp_path / "c" / "learner.metaopt").read_bytes() != files[0].read_bytes()


def test_a_longer_run_can_be_resumed_but_not_another_one(tmp_path):
    run(small(steps=3), tmp_path)
    run(small(steps=5), tmp_path, resume=True)
    assert len(json.loads((tmp_path / "history.json").read_text())["values"]) == 5
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(SpecError, match=r"seed: differs from `.*spec.toml`, the run to resume"):
        run(small(steps=5, seed=1), tmp_path, resume=True)
    with pytest.raises(SpecError, match="learner: differs from"):
        run(small(steps=5, learner={"algorithm": "sgd"}), tmp_path, resume=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_run_stops_where_its_spec_says(tmp_path):
    spec = small(steps=40, validate_every=2, target=1e9, checkpoint_every=2)
    run(spec, tmp_path / "run")
    assert len(metaopt.meta.read_history(tmp_path / "run" / "checkpoint.metaopt").values) < 4
    # How far it goes may change.
    run(spec | {"target": -1.0, "patience": 3, "steps": 8}, tmp_path / "run", resume=True)
    history = metaopt.meta.read_history(tmp_path / "run" / "checkpoint.metaopt")
    assert len(history.values) == 8 and [step for step, _ in history.validations] == [0, 2, 4, 6, 8]


def test_results_are_never_overwritten(tmp_path):
    (tmp_path / "something").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty, and results are never overwritten"):
        run(small(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["something"]


def test_one_run_at_a_time_writes_to_a_folder(tmp_path):
    folder = tmp_path / "run"
    with locked_folder(folder, ""):
        for resume in (False, True):
            with pytest.raises(BlockingIOError, match=rf"^The folder `{folder}` is in use by process \d+ on .*`--out`"):
                run(small(steps=1), folder, resume=resume)
    assert list(folder.iterdir()) == []


def test_what_was_killed_before_it_had_begun_is_not_in_the_way(tmp_path):
    for name in (".lock", ".spec.toml", "spec.toml.abc123"):
        (tmp_path / "a" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_text("process 12 on somewhere\n")
    run(small(steps=1), tmp_path / "a", resume=True)
    assert (tmp_path / "a" / "learner.metaopt").exists() and not (tmp_path / "a" / ".lock").exists()


@pytest.mark.parametrize("deleted", [pytest.param("folder", marks=pytest.mark.slow), "spec"])
def test_what_resuming_needs_is_written_again_where_it_was_deleted(tmp_path, monkeypatch, deleted):
    whole, folder = tmp_path / "whole", tmp_path / "run"
    run(small(), whole)
    validate, calls = train_module.validate, []

    def deletes(*args, **options):
        calls.append(1)
        if len(calls) == 4:
            shutil.rmtree(folder) if deleted == "folder" else (folder / "spec.toml").unlink()
        if len(calls) == 7:
            raise KeyboardInterrupt
        return validate(*args, **options)

    monkeypatch.setattr(train_module, "validate", deletes)
    warned = pytest.warns(UserWarning, match="run` was emptied, removed or moved while a run saved its checkpoints")
    with warned if deleted == "folder" else contextlib.nullcontext(), pytest.raises(KeyboardInterrupt):
        run(small(), folder)
    assert read(folder / "spec.toml") == read(whole / "spec.toml")
    run(read(folder / "spec.toml"), folder, resume=True)
    found, wanted = ({p.name: p.read_bytes() for p in each.iterdir()} for each in (folder, whole))
    if deleted == "folder":
        # Rows that were deleted are gone, and those after them are there.
        rows, all_rows = (each.pop("metrics.csv").splitlines() for each in (found, wanted))
        assert rows[0] == all_rows[0] and 1 < len(rows) < len(all_rows) and rows[1:] == all_rows[1 - len(rows) :]
        assert found.pop("history.png") and wanted.pop("history.png")
    assert found == wanted


def test_a_folder_that_another_run_has_taken_meanwhile_is_left_to_it(tmp_path, monkeypatch):
    folder, validate, other, calls = tmp_path / "run", train_module.validate, contextlib.ExitStack(), []

    def deletes(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            shutil.rmtree(folder)
            other.enter_context(locked_folder(folder, ""))
        return validate(*args, **options)

    monkeypatch.setattr(train_module, "validate", deletes)
    with other, pytest.warns(UserWarning, match="emptied"), pytest.raises(BlockingIOError, match="is in use by"):
        run(small(), folder)
    assert list(folder.iterdir()) == []


def _curriculum(steps: int) -> dict[str, Any]:
    spec = small()
    problem, validation = spec.pop("problem"), spec.pop("validation")
    del spec["steps"]
    longer = problem | {"horizon": {"name": "constant", "longest": 15}}
    stages = [{"problem": problem, "steps": 3}, {"problem": longer, "steps": steps, "validation": validation}]
    return spec | {"stages": stages, "sink_every": 1}


def test_a_curriculum_runs_from_a_spec(tmp_path, monkeypatch):
    run(_curriculum(4), tmp_path / "whole")
    history = json.loads((tmp_path / "whole" / "history.json").read_text())
    assert len(history["values"]) == 7 and history["validations"][-1][0] == 7
    assert {path.name for path in (tmp_path / "whole" / "stages").iterdir()} >= {"stage-0.metaopt", "stage-1.metaopt"}
    rows = list(csv.DictReader((tmp_path / "whole" / "metrics.csv").read_text().splitlines()))
    assert [(row["step"], row["stage"]) for row in rows] == [
        *((str(step), "0") for step in range(4)), *((str(step), "1") for step in range(4, 8))
    ]  # fmt: skip

    # Interrupted in the second stage, it goes on there.
    def interrupted(*args: Any, **options: Any) -> Any:
        if options["steps"] == 4:
            options["steps"] = 2
            trained(*args, **options)
            raise KeyboardInterrupt
        return trained(*args, **options)

    trained = course.meta_train
    monkeypatch.setattr(course, "meta_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(_curriculum(4), tmp_path / "parts")
    monkeypatch.setattr(course, "meta_train", trained)
    run(_curriculum(4), tmp_path / "parts", resume=True)
    for name in ("learner.metaopt", "history.json", "metrics.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_families_take_turns_from_a_spec(tmp_path):
    spec = small(steps=4, estimator={"name": "mixed", "inner": {"name": "pes", "std": 0.001, "truncation": 5}})
    families = [{"name": "quadratics", "dimension": n, "condition": 4.0} for n in (2, 3, 4)]
    spec["problem"]["family"] = {"name": "mixture", "families": families}
    run(spec | {"rotation": {"resident": 1, "per_step": 1, "every": 2}}, tmp_path / "run")
    first, *turns = (tmp_path / "run" / "families.csv").read_text().splitlines()
    assert first == "step,seat,family,name" and [turn.split(",")[0] for turn in turns] == ["0", "2"]
    assert all(turn.split(",")[3] == f"Quadratics.{turn.split(',')[2]}" for turn in turns)


def test_a_folder_of_something_else_cannot_be_resumed(tmp_path):
    (tmp_path / "something").write_text("mine")
    with pytest.raises(SpecError, match="spec.toml: there is no such file"):
        run(small(), tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (dict(estimator={"name": "pes", "truncation": 11}), "[Tt]runcation.*11"),
        (dict(validate_every=0), "`validate_every`"),
        (dict(patience=2, validation=None), "Give `validation`"),
        (dict(problem=None), "`problem` and `steps` are missing"),
        (dict(stages=[{"problem": small()["problem"], "steps": 1}]), "`problem` is that of a run without stages"),
        (dict(rotation={"resident": 1, "per_step": 2}), "cannot be drawn of `resident=1`"),
        (dict(rotation={"resident": 1, "per_step": 1}), r"needs `metaopt.meta.Mixed\(estimator\)`"),
        (dict(learner={"algorithm": {"name": "skip_non_finite", "inner": "sgd"}, "initial": 1.0}, seed="x"), "seed: "),
    ],
)
def test_errors_come_before_the_folder(changes, text, tmp_path):
    with pytest.raises(SpecError, match=text):
        run({key: x for key, x in small(**changes).items() if x is not None}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_comparison(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    comparison = run(evaluated(), tmp_path / "run")
    assert comparison is not None and comparison.methods == ("learned", "sgd")
    files = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"learner.metaopt", "report.txt", "comparison.json", "curves.png"} <= files
    data = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert {row["method"] for row in data["methods"]} == {"learned", "sgd"}
    assert (tmp_path / "run" / "report.txt").read_text().strip() in capsys.readouterr().out


@pytest.mark.slow
def test_without_matplotlib_the_rest_is_written(tmp_path, monkeypatch, capsys):
    def plot(*_):
        raise ImportError("Plots need `matplotlib`.")

    monkeypatch.setattr(module, "plot", plot)
    run(evaluated(), tmp_path / "run")
    assert (tmp_path / "run" / "report.txt").exists() and not (tmp_path / "run" / "curves.png").exists()
    out = capsys.readouterr().out
    assert "No plot: Plots need `matplotlib`." in out and "curves.png" not in out


@pytest.mark.slow
def test_an_interrupted_comparison_keeps_the_learner_and_can_be_resumed(tmp_path, monkeypatch):
    def compare(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "compare", compare)
        with pytest.raises(KeyboardInterrupt) as caught:
            run(evaluated(), tmp_path)
    assert f"run {tmp_path}/spec.toml --out {tmp_path} --resume" in caught.value.__notes__[0]
    learner = (tmp_path / "learner.metaopt").read_bytes()
    assert run(read(tmp_path / "spec.toml"), tmp_path, resume=True) is not None
    assert (tmp_path / "learner.metaopt").read_bytes() == learner
