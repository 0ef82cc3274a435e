"""What sinks of meta-training are told."""

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest

import metaopt
import metaopt.meta.training._train as training
from metaopt.evaluate import CSVFile, HistoryPlot
from metaopt.meta import (
    ES,
    PES,
    AbstractEstimator,
    ConstantHorizon,
    MeanLoss,
    MetaGradient,
    MetaProblem,
    MetaResult,
    Mixed,
    TaskParallel,
    Unrolled,
    meta_train,
    read_history,
)
from metaopt.sharding import make_mesh
from metaopt.tasks import Mixture, Rosenbrock

from .problems import Parabolas, descent


PROBLEM = MetaProblem(Parabolas(4.0), MeanLoss(), ConstantHorizon(4), tasks=8)


class Alone(AbstractEstimator[Any]):
    """An estimator that knows nothing of other devices."""

    inner: AbstractEstimator[Any]

    def init(self, learner, problem, *, key):
        return self.inner.init(learner, problem, key=key)

    def estimate(self, state, learner, problem, *, key):
        return self.inner.estimate(state, learner, problem, key=key)


@pytest.mark.parametrize(
    "estimator",
    [
        Unrolled(),
        ES(0.1),
        TaskParallel(ES(0.1), make_mesh(tasks=2, devices=jax.devices()[:2])),
        TaskParallel(Alone(Unrolled()), make_mesh(tasks=2, devices=jax.devices()[:2])),
        Mixed(Unrolled(), normalize=False),
    ],
    ids=["unrolled", "es", "two devices", "two devices, each alone", "mixed"],
)
def test_the_variance_of_the_meta_gradient_is_unbiased(estimator: AbstractEstimator[Any]) -> None:
    problem, learner = PROBLEM, descent(0.2)
    if isinstance(estimator, Mixed):
        problem = dataclasses.replace(problem, family=Mixture((Parabolas(4.0), Parabolas(2.0))))
    state = estimator.init(learner, problem, key=jr.key(0))

    @eqx.filter_jit
    def run(keys: Any) -> MetaGradient:
        return jax.lax.map(
            lambda key: eqx.filter(estimator.estimate(state, learner, problem, key=key)[1], eqx.is_array), keys
        )

    count = 600
    found = run(jr.split(jr.key(1), count))
    grads = np.stack([np.asarray(x) for x in jtu.tree_leaves(found.grads)], -1).reshape(count, -1)
    wanted, error = grads.var(0, ddof=1).sum(), math.sqrt(2 / count)
    assert found.variance is not None
    assert float(jnp.mean(found.variance)) == pytest.approx(wanted, rel=4 * error)


def test_one_task_says_nothing_of_the_noise() -> None:
    problem = dataclasses.replace(PROBLEM, tasks=1)
    _, estimate = Unrolled().estimate(None, descent(0.2), problem, key=jr.key(0))
    assert estimate.variance is not None and jnp.isnan(estimate.variance)


def train(steps: int = 12, **options: Any) -> MetaResult:
    options = {
        "estimator": PES(0.1, 2),
        "problem": PROBLEM,
        "validation": Parabolas(4.0),
        "validate_every": 5,
    } | options
    outer = metaopt.from_optax(optax.sgd, learning_rate=0.25)
    problem = options.pop("problem")
    return meta_train(descent(0.2), problem, outer=outer, steps=steps, key=jr.key(0), progress=False, **options)


def test_rows_say_what_happened() -> None:
    told: dict[int, dict[str, float]] = {}
    result = train(sinks=[lambda step, row: told.update({step: dict(row)})], sink_every=4)
    assert list(told) == [0, 4, 5, 8, 10, 12]
    measured = {step: row["validation"] for step, row in told.items() if not math.isnan(row["validation"])}
    assert list(measured.items()) == result.history.validations
    assert told[4]["loss"] == pytest.approx(np.mean(result.history.values[:4]))
    assert told[5]["loss"] == pytest.approx(result.history.values[4])
    for row in list(told.values())[1:]:
        # Gradient descent moves by its rate times the gradient.
        assert row["outer_rate"] == pytest.approx(0.25, rel=1e-4)
        assert math.isfinite(row["signal_to_noise"]) and row["skipped"] == row["diverged"] == 0
    assert math.isnan(told[0]["loss"])
    # Looking changes nothing.
    assert train().history.values == pytest.approx(result.history.values, rel=1e-6)


def test_families_of_a_mixture_are_told_apart() -> None:
    told = []
    mixture = Mixture((Parabolas(4.0), Parabolas(2.0), Rosenbrock()))
    problem = dataclasses.replace(PROBLEM, family=mixture)
    with pytest.raises(TypeError, match="Mixed"):
        train(problem=problem, sinks=[lambda step, row: told.append(row)])
    problem = dataclasses.replace(PROBLEM, family=Mixture(mixture.families[:2], (3.0, 1.0)))
    train(problem=problem, estimator=Mixed(PES(0.1, 2)), sinks=[lambda step, row: told.append(row)])
    row = told[-1]
    assert row["loss"] == pytest.approx(0.75 * row["loss:Parabolas.0"] + 0.25 * row["loss:Parabolas.1"], rel=1e-5)


def test_the_rows_of_a_resumed_run_are_those_of_one_that_was_not(tmp_path: Path) -> None:
    whole = CSVFile(tmp_path / "whole.csv")
    train(sinks=[whole], sink_every=4)

    class Stop(Exception):
        pass

    def stop(step: int, row: Any) -> None:
        if step == 10:
            raise Stop

    # It ends in the middle of a row, and later than its last checkpoint before.
    checkpoint = tmp_path / "run.metaopt"
    with pytest.raises(Stop):
        train(sinks=[CSVFile(tmp_path / "parts.csv"), stop], sink_every=4, checkpoint=checkpoint, checkpoint_every=3)
    picture = HistoryPlot(tmp_path / "new" / "history.png", rows=tmp_path / "parts.csv")
    sinks = [CSVFile(tmp_path / "parts.csv", append=True), picture]
    train(sinks=sinks, sink_every=4, checkpoint=checkpoint, checkpoint_every=3, resume=True)
    assert (tmp_path / "parts.csv").read_bytes() == whole.path.read_bytes()
    assert list(picture.rows) == [0, 4, 5, 8, 10, 12] and picture.path.stat().st_size > 10_000


def test_a_sink_that_cannot_write_is_left_out_loudly() -> None:
    told = []

    def full(step: int, row: Any) -> None:
        raise OSError("no space left")

    with pytest.warns(UserWarning, match="`function`, could not write and is left out.*no space left"):
        result = train(sinks=[full, lambda step, row: told.append(step)])
    assert told == list(range(13)) and len(result.history.values) == 12


def test_what_else_a_sink_raises_ends_the_run_after_a_checkpoint(tmp_path: Path) -> None:
    def wrong(step: int, row: Any) -> None:
        if step == 7:
            raise KeyError("nothing of this name")

    checkpoint = tmp_path / "run.metaopt"
    with pytest.raises(KeyError, match="nothing of this name"):
        train(sinks=[wrong], checkpoint=checkpoint, checkpoint_every=100, sink_every=7)
    assert len(metaopt.meta.read_history(checkpoint).values) >= 7
    with pytest.raises(ValueError, match="sink_every"):
        train(sinks=[wrong], sink_every=0)


def test_a_csv_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    first = CSVFile(path)
    for step in (1, 2, 3):
        first(step, {"loss": float(step)})
    with path.open("a") as file:
        file.write("4")  # A crash in the middle of a line.
    again = CSVFile(path, append=True)
    again(3, {"loss": 30.0})
    again(4, {"loss": 40.0})
    with path.open(newline="") as file:
        assert [list(row.values()) for row in csv.DictReader(file)] == [
            ["1", "1.0"],
            ["2", "2.0"],
            ["3", "30.0"],
            ["4", "40.0"],
        ]
    with pytest.raises(ValueError, match="no column `validation`"):
        again(5, {"loss": 5.0, "validation": 1.0})
    path.unlink()
    again(6, {"loss": 6.0})
    assert path.read_text().splitlines() == ["step,loss", "6,6.0"]


def test_rows_of_a_run_that_was_interrupted_before_its_validation_come_later(tmp_path: Path, monkeypatch: Any) -> None:
    options: dict[str, Any] = dict(sink_every=4, validation=Parabolas(4.0), validate_every=5)
    whole = CSVFile(tmp_path / "whole.csv")
    complete = train(sinks=[whole], **options)
    calls = []

    def validate(*args: Any, original: Any = training.validate, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    checkpoint = tmp_path / "run.metaopt"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "validate", validate)
        train(sinks=[CSVFile(tmp_path / "parts.csv")], checkpoint=checkpoint, checkpoint_every=100, **options)
    assert len(read_history(checkpoint).values) == 5 and [s for s, _ in read_history(checkpoint).validations] == [0]
    resumed = train(sinks=[CSVFile(tmp_path / "parts.csv", append=True)], checkpoint=checkpoint, resume=True, **options)
    assert (tmp_path / "parts.csv").read_bytes() == whole.path.read_bytes()
    assert resumed.history == complete.history
