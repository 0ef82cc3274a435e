"""Stages follow each other, and a run that is resumed is the same."""

from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt._core.files._lock import locked_folder
from metaopt.meta import ConstantHorizon, MeanLoss, MetaProblem, Stage, Unrolled, meta_train, train_curriculum
from metaopt.sharding import CheckpointFolder

from .problems import Parabolas, descent, log_rate


OUTER = metaopt.from_optax(optax.adam, learning_rate=0.3)


def _problem(widest, horizon):
    return MetaProblem(Parabolas(widest), MeanLoss(), ConstantHorizon(horizon), tasks=4)


EASY = Stage(_problem(1.0, 4), 40, target=0.02, validate_every=4)
HARD = Stage(_problem(4.0, 8), 12, patience=1, validate_every=3)


def _train(stages, **options):
    arguments: dict[str, Any] = dict(
        estimator=Unrolled(), outer=OUTER, key=jr.key(0), validation_tasks=4, progress=False
    )
    return train_curriculum(descent(0.05), stages, **(arguments | options))


def test_stages_in_a_row():
    result = _train([EASY, HARD])
    easy, hard = result.stages
    assert result.promotions == [len(easy.history.values), len(result.history.values)]
    assert easy.history.validations[-1][1] <= 0.02 and result.promotions[0] < 40
    assert result.history.values == easy.history.values + hard.history.values
    assert result.history.validations[len(easy.history.validations)][0] == result.promotions[0]
    assert eqx.tree_equal(result.learner, hard.learner)
    # The rate that is best for a curvature of 1 is too large for one of 4.
    assert log_rate(easy.learner) > log_rate(hard.learner)


def test_a_stage_starts_with_the_best_of_the_one_before_and_a_fresh_outer_state():
    result = _train([EASY, HARD])
    alone = meta_train(
        result.stages[0].learner,
        HARD.problem,
        estimator=Unrolled(),
        outer=OUTER,
        steps=HARD.steps,
        key=jr.fold_in(jr.key(0), 1),
        validation=HARD.problem.family,
        validate_every=3,
        validation_tasks=4,
        patience=1,
        progress=False,
    )
    assert eqx.tree_equal(alone.last, result.stages[1].last)


def test_a_curriculum_can_be_resumed(tmp_path):
    whole = _train([EASY, HARD])
    _train([EASY, Stage(HARD.problem, 2, validate_every=3)], checkpoint=tmp_path)
    resumed = _train([EASY, HARD], checkpoint=tmp_path, resume=True)
    assert eqx.tree_equal(whole.stages[0].last, resumed.stages[0].last)
    np.testing.assert_allclose(log_rate(resumed.stages[0].learner), log_rate(whole.stages[0].learner))
    assert resumed.promotions[0] == whole.promotions[0]
    again = _train([EASY, HARD], checkpoint=tmp_path, resume=True)
    assert eqx.tree_equal(again.learner, resumed.learner) and again.history.values == resumed.history.values


def test_a_curriculum_is_kept_in_folders_for_many_processes(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    folder = CheckpointFolder(tmp_path / "all")
    whole = _train([EASY, HARD])
    _train([EASY, Stage(HARD.problem, 2, validate_every=3)], checkpoint=folder)
    assert sorted(each.name for each in (tmp_path / "all").iterdir()) == ["stage-0", "stage-1"]
    resumed = _train([EASY, HARD], checkpoint=folder, resume=True)
    assert eqx.tree_equal(whole.stages[0].last, resumed.stages[0].last)
    assert resumed.promotions[0] == whole.promotions[0]


def test_one_curriculum_at_a_time_writes_to_a_folder(tmp_path):
    with (
        locked_folder(tmp_path, ""),
        pytest.raises(BlockingIOError, match=r"in use by process \d+ on .*`checkpoint`"),
    ):
        _train([EASY, HARD], checkpoint=tmp_path, resume=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stages", "options", "text"),
    [
        ([], {}, "`stages` is empty"),
        ([EASY], dict(resume=True), "needs the `checkpoint` folder"),
        ([EASY], dict(checkpoint_seconds=-1.0), "`checkpoint_seconds` must be above 0, but -1.0 was given"),
    ],
)
def test_bad_arguments(stages, options, text):
    with pytest.raises(ValueError, match=text):
        _train(stages, **options)
