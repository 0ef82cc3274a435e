import os
import pathlib
import re
import signal
import subprocess
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
import metaopt.meta.training._train as train_module
from metaopt.meta import (
    PES,
    ConstantHorizon,
    MeanLoss,
    MetaProblem,
    TaskParallel,
    Unrolled,
    meta_train,
    read_history,
    validate,
)
from metaopt.meta.training._stores import open_store
from metaopt.sharding import CheckpointFolder, make_mesh
from metaopt.sharding._checkpoints import OpenFolder
from metaopt.tasks import Mixture

from .problems import Parabolas, descent, log_rate


PROBLEM = MetaProblem(Parabolas(4.0), MeanLoss(), ConstantHorizon(10), tasks=4)
OUTER = metaopt.from_optax(optax.adam, learning_rate=0.05)


def train(steps=20, **kwargs):
    arguments: dict[str, Any] = dict(estimator=PES(0.01, 5), outer=OUTER, key=jr.key(0), progress=False) | kwargs
    return meta_train(descent(0.01), PROBLEM, steps=steps, **arguments)


def test_learns_a_better_rate():
    result = train(steps=100, validation=Parabolas(4.0), validate_every=20)
    losses = [loss for _, loss in result.history.validations]
    assert losses[-1] < 0.2 * losses[0]
    assert [step for step, _ in result.history.validations] == [0, 20, 40, 60, 80, 100]
    assert len(result.history.values) == 100 and result.skipped == 0 and result.diverged == 0


class Shifted(metaopt.AbstractTaskFamily):
    """Parabolas whose measure is less by a constant."""

    by: float = eqx.field(static=True)

    def sample(self, *, key):
        return ShiftedTask(Parabolas().sample(key=key), self.by)


class ShiftedTask(metaopt.AbstractLossTask):
    task: Any
    by: float = eqx.field(static=True)

    def init(self, *, key):
        return self.task.init(key=key)

    def loss(self, params, *, key):
        return self.task.loss(params, key=key)

    def measure(self, params, *, key):
        return self.task.measure(params, key=key) - self.by


def test_a_mixture_with_a_negative_measure_is_refused():
    mixture = Mixture((Parabolas(), Shifted(2.0)))
    with pytest.raises(ValueError, match=r"`Shifted` is -1.*geometric mean.*Validate on one family"):
        train(steps=2, validation=mixture)
    with pytest.raises(Exception, match="geometric mean"):
        jax.jit(lambda key: validate(descent(0.01), mixture, steps=3, tasks=2, key=key))(jr.key(0))
    one = train(steps=2, validation=Shifted(2.0))
    assert one.history.validations[-1][1] < 0 and one.best_step > 0
    zero = validate(descent(1.0), Mixture((Parabolas(), Parabolas(4.0))), steps=1, tasks=2, key=jr.key(0))
    assert 0 < zero < 1


def test_validations_that_are_never_finite_are_said():
    with (
        pytest.warns(UserWarning, match=r"neither at the start nor after meta-step 1.*`learner` stays the start"),
        pytest.warns(UserWarning, match=r"None of the 3 validations was finite"),
    ):
        result = train(steps=2, validation=Shifted(-float("inf")), validate_every=1)
    assert result.best_step == 0


def test_a_resumed_run_gives_the_same_bits(tmp_path):
    whole = train(steps=20)
    path = tmp_path / "run.metaopt"
    train(steps=7, checkpoint=path, checkpoint_every=3)
    resumed = train(steps=20, checkpoint=path, resume=True)
    assert eqx.tree_equal(whole.last, resumed.last)
    assert whole.history.values == resumed.history.values


def test_a_folder_of_checkpoints_gives_the_same_bits(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    whole, folder = train(steps=20), CheckpointFolder(tmp_path / "checkpoints")
    train(steps=7, checkpoint=folder, checkpoint_every=3, resume=True)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["6", "7", "curves"]
    with pytest.raises(FileExistsError, match="holds checkpoints of another run"):
        train(steps=20, checkpoint=folder)
    held = OpenFolder(folder, alone=True)
    with pytest.raises(BlockingIOError, match=r"folder `.*checkpoints` is in use by process \d+ on"):
        train(steps=20, checkpoint=folder, resume=True)
    held.close()
    held.release()
    resumed = train(steps=20, checkpoint=folder, resume=True)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["18", "20", "curves"]
    assert eqx.tree_equal(whole.last, resumed.last) and whole.history.values == resumed.history.values


def test_many_processes_need_a_spread_estimator_and_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="2 processes with 8 devices, but the estimator is not spread over devices"):
        train()
    spread = TaskParallel(PES(0.01, 5), make_mesh(tasks=2))
    with pytest.raises(ValueError, match=r"but the estimator is spread over 2. Spread .*make_mesh\(tasks=8\)"):
        train(estimator=spread)
    with pytest.raises(ValueError, match="2 processes cannot write one file, `.*run`. Give `checkpoint` a `metaopt"):
        open_store(tmp_path / "run")


def test_an_interrupt_saves_what_was_reached(tmp_path, monkeypatch):
    path = tmp_path / "run.metaopt"
    import metaopt.meta.training._train as module

    original, calls = module._chunk, []

    def chunk(*args):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(module, "_chunk", chunk)
    with pytest.raises(KeyboardInterrupt):
        train(steps=20, checkpoint=path, checkpoint_every=20)
    monkeypatch.undo()
    reached = metaopt.read_header(path)["metadata"]["meta_steps"]
    assert 0 < reached < 20
    assert eqx.tree_equal(train(steps=20, checkpoint=path, resume=True).last, train(steps=20).last)


def test_a_checkpoint_does_not_grow_and_its_curves_are_beside_it(tmp_path):
    path, curves = tmp_path / "run.metaopt", tmp_path / "run.metaopt.curves"
    sizes, read = [], []
    for steps in (100, 300):
        result = train(steps=steps, checkpoint=path, resume=True, validation=Parabolas(4.0), validate_every=50)
        read.append(curves.read_bytes())
        sizes.append((path.stat().st_size, len(read[-1])))
        assert repr(read_history(path)) == repr(result.history)
    assert sizes[0][0] == sizes[1][0] and sizes[0][1] == 8 + 16 * 103 and sizes[1][1] == 8 + 16 * 307
    assert read[1].startswith(read[0]) and sorted(p.name for p in tmp_path.iterdir()) == [path.name, curves.name]
    # A crash after the curves, and before the checkpoint that refers to them; then another file, and none.
    curves.write_bytes(read[1] + bytes(24))
    assert repr(train(steps=300, checkpoint=path, resume=True).history) == repr(result.history)
    assert curves.read_bytes() == read[1]
    curves.write_bytes(read[1].replace(read[1][100:108], bytes(8)))
    with pytest.raises(metaopt.CheckpointError, match="curves`, the curves of this run, is truncated, damaged, or of"):
        train(steps=400, checkpoint=path, resume=True)
    curves.unlink()
    with pytest.raises(metaopt.CheckpointError, match="cannot be read: .* keep both in one folder"):
        train(steps=400, checkpoint=path, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_old_checkpoints_with_curves_inside_can_be_resumed(tmp_path, monkeypatch):
    import metaopt._core.files._checkpoint_file as module

    path, trees = tmp_path / "run.metaopt", []
    with monkeypatch.context() as patch:
        patch.setattr(module, "save", lambda path, tree, **_: trees.append(tree))
        history = train(steps=7, checkpoint=path, validation=Parabolas(4.0), validate_every=5).history
    (tmp_path / "run.metaopt.curves").unlink()
    curves = {"values": history.values, "validations": history.validations, "best_step": 7}
    metaopt.save(path, trees[-1], metadata={"kind": "meta-training", **curves})
    assert repr(read_history(path)) == repr(history)
    resumed, whole = train(steps=20, checkpoint=path, resume=True), train(steps=20)
    assert resumed.history.values == whole.history.values and resumed.history.validations == history.validations
    assert eqx.tree_equal(resumed.last, whole.last) and repr(read_history(path)) == repr(resumed.history)
    metaopt.save(path, trees[-1], metadata={"kind": "meta-training", **curves, "values": history.values[1:]})
    with pytest.raises(metaopt.CheckpointError, match="saved after meta-step 7, but its curves have 6 of them"):
        train(steps=20, checkpoint=path, resume=True)
    metaopt.save(path, trees[-1], metadata={"kind": "meta-training", **curves, "best_step": [7]})
    with pytest.raises(metaopt.CheckpointError, match=r"says that its best learner is of meta-step \[7\]"):
        train(steps=20, checkpoint=path, resume=True)
    metaopt.save(path, trees[-1], metadata={"kind": "meta-training"})
    with pytest.raises(metaopt.CheckpointError, match="has no curves of meta-training"):
        train(steps=20, checkpoint=path, resume=True)
    with pytest.raises(metaopt.CheckpointError, match="is not a checkpoint of meta-training"):
        metaopt.save(path, trees[-1])
        read_history(path)


def _saved(monkeypatch):
    """The steps at which something was saved."""
    from metaopt._core.files._checkpoint_file import CheckpointFile

    steps, original = [], CheckpointFile.save

    def save(self, step, *rest):
        steps.append(step)
        original(self, step, *rest)

    monkeypatch.setattr(CheckpointFile, "save", save)
    return steps


def test_it_is_saved_by_the_clock_too(tmp_path, monkeypatch):
    steps = _saved(monkeypatch)
    whole = train(steps=20, checkpoint=tmp_path / "a", checkpoint_every=20, checkpoint_seconds=None)
    assert steps == [0, 20]
    steps.clear()
    often = train(steps=20, checkpoint=tmp_path / "b", checkpoint_every=20, checkpoint_seconds=1e-9)
    assert len(steps) > 3 and steps[-1] == 20 and sorted(set(steps)) == steps
    assert eqx.tree_equal(often.last, whole.last)
    for ending in ("", ".curves"):
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_the_first_process_decides_when_it_is_late(monkeypatch):
    run = object.__new__(train_module._Run)
    run.saved, asked = -1e9, []
    monkeypatch.setattr(train_module, "agree", lambda number: asked.append(number) or 1)
    assert run.is_late(1.0) and not run.is_late(None)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert run.is_late(1.0) and asked == [1, 0]


def test_an_interrupt_between_two_assignments_saves_what_was_before(tmp_path, monkeypatch):
    """A second Ctrl-C does not wait for its moment: it may come before a validation that belongs to a meta-step."""
    path, options = tmp_path / "run.metaopt", dict(validation=Parabolas(4.0), validate_every=5)
    whole, calls = train(steps=20, **options), []

    def validate(*args, original=train_module.validate, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_module, "validate", validate)
        train(steps=20, checkpoint=path, checkpoint_every=20, **options)
    assert 5 < len(read_history(path).values) <= 10
    resumed = train(steps=20, checkpoint=path, resume=True, **options)
    assert repr(resumed.history) == repr(whole.history) and eqx.tree_equal(resumed.learner, whole.learner)


def test_handlers_of_the_program_are_called_and_it_is_saved(tmp_path, monkeypatch):
    def chunk(*args, original=train_module._chunk):
        signal.raise_signal(signal.SIGTERM)
        return original(*args)

    monkeypatch.setattr(train_module, "_chunk", chunk)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    try:
        with pytest.raises(SystemExit, match="7"):
            train(steps=20, checkpoint=tmp_path / "run", checkpoint_every=20)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(read_history(tmp_path / "run").values) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run.curves"]


_SCRIPT = """
import signal
import jax.random as jr, optax
import metaopt, metaopt.meta.training._train as module
from metaopt.meta import PES, ConstantHorizon, MeanLoss, MetaProblem, meta_train
from metaopt.tasks import Quadratics

learner = metaopt.Learner(metaopt.build({"name": "sgd", "learning_rate": 0.01}, metaopt.AbstractAlgorithm))
problem = MetaProblem(Quadratics(dimension=2), MeanLoss(), ConstantHorizon(4), tasks=2)

def train(path, **options):
    outer = metaopt.from_optax(optax.adam, learning_rate=0.05)
    arguments = dict(estimator=PES(0.01, 2), outer=outer, steps=20, key=jr.key(0), progress=False)
    meta_train(learner, problem, checkpoint=path, checkpoint_every=20, **arguments, **options)

train("whole")
original, calls = module._chunk, []

def chunk(*arguments):
    calls.append(1)
    if len(calls) == 3:
        try:
            train("parts")
        except BlockingIOError as error:
            print(error)
        signal.raise_signal(signal.SIGTERM)
    return original(*arguments)

module._chunk = chunk
try:
    train("parts")
except BaseException as error:
    print("not this way:", repr(error))
"""


def test_a_script_without_handlers_saves_on_sigterm_and_dies_of_it(tmp_path):
    """In a process of its own: what it holds dies with it, and nobody else can write there until then."""
    root = pathlib.Path(__file__).parent.parent.parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "backends")])}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert re.fullmatch(r"The checkpoint `parts` is in use by process \d+ on .*\n", done.stdout)
    assert done.stderr.endswith("metaopt: SIGTERM; what was reached is saved in `parts`. Go on with `resume=True`.\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts", "parts.curves", "whole", "whole.curves"]
    assert 1 < len(read_history(tmp_path / "parts").values) < 20


class _Poisoned(metaopt.AbstractTaskFamily):
    """One task in four has a NaN loss."""

    def sample(self, *, key):
        task = Parabolas().sample(key=key)
        bad = jr.bernoulli(jr.fold_in(key, 1), 0.25)
        return eqx.tree_at(lambda t: t.curvature, task, jnp.where(bad, jnp.nan, task.curvature))


def test_nonfinite_meta_gradients_are_skipped_counted_and_reported():
    problem = MetaProblem(_Poisoned(), MeanLoss(), ConstantHorizon(5), tasks=1)
    with pytest.warns(UserWarning, match=r"of 30 meta-steps were skipped"):
        result = meta_train(
            descent(0.01), problem, estimator=Unrolled(), outer=OUTER, steps=30, key=jr.key(0), progress=False
        )
    assert 3 < result.skipped == result.diverged < 25
    assert np.isfinite(log_rate(result.learner))
    assert np.exp(log_rate(result.learner)) > 0.01


def test_the_best_learner_is_kept():
    outer = metaopt.from_optax(optax.sgd, learning_rate=-1.0)
    result = train(steps=10, outer=outer, validation=Parabolas(4.0), validate_every=5)
    assert result.best_step == 0
    assert eqx.tree_equal(result.learner, descent(0.01))
    assert not eqx.tree_equal(result.last, descent(0.01))


WORSE: dict[str, Any] = dict(
    outer=metaopt.from_optax(optax.sgd, learning_rate=-1.0), validation=Parabolas(4.0), validate_every=2
)


def test_patience_ends_a_run_that_does_not_improve():
    result = train(steps=20, patience=3, **WORSE)
    assert [step for step, _ in result.history.validations] == [0, 2, 4, 6]
    assert len(result.history.values) == 6 and result.best_step == 0
    better = train(steps=20, patience=1, validation=Parabolas(4.0), validate_every=10)
    assert len(better.history.values) == 20


def test_a_target_ends_a_run():
    result = train(steps=200, target=0.3, validation=Parabolas(4.0), validate_every=5)
    *before, (step, loss) = result.history.validations
    assert loss <= 0.3 < before[-1][1] and step == len(result.history.values) < 200


@pytest.mark.parametrize("interrupted", [3, 4, 6])
def test_a_resumed_run_stops_at_the_same_place(tmp_path, interrupted):
    path = tmp_path / "run.metaopt"
    whole = train(steps=20, patience=3, **WORSE)
    train(steps=interrupted, checkpoint=path, checkpoint_every=1, **WORSE)
    for _ in range(2):
        resumed = train(steps=20, patience=3, checkpoint=path, resume=True, **WORSE)
        assert eqx.tree_equal(whole.last, resumed.last)
        assert [s for s, _ in resumed.history.validations if s % 2 == 0] == [0, 2, 4, 6]


@pytest.mark.slow
def test_a_learner_can_train_itself():
    """Optimizers all the way up: the outer algorithm is the same kind of thing, with learnable leaves."""

    def final(outer):
        return log_rate(train(steps=3, outer=outer).last)

    assert final(OUTER).shape == ()
    problem = MetaProblem(Parabolas(), MeanLoss(), ConstantHorizon(5), tasks=2)

    def outcome(outer):
        learner = descent(0.01)
        state = outer.init(learner)
        for i in range(2):
            _, estimate = Unrolled().estimate(None, learner, problem, key=jr.key(i))
            state, learner = outer.step(state, learner, estimate.grads)
        return jnp.sum(log_rate(learner))

    hypergradient = eqx.filter_grad(outcome)(OUTER).hyperparameters["learning_rate"]
    assert jnp.isfinite(hypergradient) and hypergradient != 0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (dict(steps=0), ValueError, "`steps` must be at least 1"),
        (dict(validate_every=0), ValueError, "`validate_every` must be at least 1"),
        (dict(resume=True), ValueError, "needs the `checkpoint`"),
        (dict(checkpoint_seconds=0.0), ValueError, "`checkpoint_seconds` must be above 0, but 0.0 was given"),
        (dict(checkpoint_seconds=float("nan")), ValueError, "`checkpoint_seconds` must be above 0, but nan"),
        (dict(patience=0, validation=Parabolas()), ValueError, "`patience` must be at least 1"),
        (dict(patience=2), ValueError, "`patience` and `target` judge validations. Give `validation`"),
    ],
)
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        train(**arguments)


def test_an_unwritable_folder_is_one_error_before_training(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with pytest.raises(OSError, match="file"):
        train(checkpoint=blocker / "run.metaopt")


def test_what_another_run_has_saved_is_not_written_over(tmp_path):
    path = tmp_path / "run.metaopt"
    train(steps=2, checkpoint=path)
    saved = path.read_bytes()
    with pytest.raises(FileExistsError, match="Go on with `resume=True`"):
        train(steps=2, checkpoint=path)
    assert path.read_bytes() == saved
    assert len(train(steps=3, checkpoint=path, resume=True).history.values) == 3


def test_a_truncated_checkpoint_says_so_and_is_left_alone(tmp_path):
    path = tmp_path / "run.metaopt"
    train(steps=2, checkpoint=path)
    damaged = path.read_bytes()[:-10]
    path.write_bytes(damaged)
    with pytest.raises(metaopt.CheckpointError, match="truncated or damaged"):
        train(steps=4, checkpoint=path, resume=True)
    assert path.read_bytes() == damaged


@pytest.mark.slow
def test_meta_step_is_pure():
    from metaopt.meta import MetaState, meta_step

    learner, estimator = descent(0.01), PES(0.01, 5)
    state = MetaState(
        jnp.zeros((), jnp.int32),
        learner,
        OUTER.init(learner),
        estimator.init(learner, PROBLEM, key=jr.key(0)),
        jnp.zeros((), jnp.int32),
    )
    eager = meta_step(state, estimator, OUTER, PROBLEM, key=jr.key(1))
    jitted = eqx.filter_jit(meta_step)(state, estimator, OUTER, PROBLEM, key=jr.key(1))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        eqx.filter(eager, eqx.is_inexact_array),
        eqx.filter(jitted, eqx.is_inexact_array),
    )
