"""Families of tasks that cannot be batched are found before anything runs."""

from typing import Any

import jax.numpy as jnp
import jax.random as jr
import optax
import pytest
from jaxtyping import PRNGKeyArray

import metaopt
from metaopt._core._task import check_family
from metaopt.evaluate import compare
from metaopt.meta import ConstantHorizon, MeanLoss, MetaProblem, Unrolled, meta_train
from metaopt.tasks import Quadratics


class Uneven(metaopt.AbstractTaskFamily):
    """Quadratics of different sizes."""

    def sample(self, *, key: PRNGKeyArray) -> metaopt.AbstractTask:
        return Quadratics(int(jr.randint(key, (), 2, 5))).sample(key=key)


def test_families_of_one_shape_pass() -> None:
    check_family(Quadratics(3))
    check_family(metaopt.SingleTask(Quadratics(3).sample(key=jr.key(0))))


def test_tasks_that_differ_in_shape_are_one_clear_error() -> None:
    sgd = metaopt.from_optax(optax.sgd, learning_rate=jnp.asarray(0.1))
    problem = MetaProblem(Uneven(), MeanLoss(), ConstantHorizon(3))
    even = MetaProblem(Quadratics(3), MeanLoss(), ConstantHorizon(3))
    options: dict[str, Any] = dict(estimator=Unrolled(), outer=sgd, steps=1, key=jr.key(0), progress=False)
    text = "`Uneven` cannot be batched.* All tasks of a family must have the same shapes"
    with pytest.raises(TypeError, match=text):
        meta_train(metaopt.Learner(sgd), problem, **options)
    with pytest.raises(TypeError, match=text):
        meta_train(metaopt.Learner(sgd), even, validation=Uneven(), **options)
    with pytest.raises(TypeError, match=text):
        compare({"sgd": sgd}, Uneven(), steps=2, key=jr.key(0), progress=False)
    with pytest.raises(TypeError, match=text):
        compare({"sgd": sgd}, Quadratics(3), tuning_family=Uneven(), steps=2, key=jr.key(0), progress=False)
