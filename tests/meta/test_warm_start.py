"""A learned rule that imitates Adam descends like Adam."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt.l2o import AdafacMLP, LearnableSGD
from metaopt.meta import warm_start
from metaopt.tasks import Quadratics

from .problems import Parabolas


ADAM = metaopt.from_optax(optax.adam, learning_rate=0.05)


@eqx.filter_jit
def _mean_loss(algorithm, steps):
    def one(key):
        task = Quadratics(5, condition=10.0).sample(key=key)
        return task.measure(metaopt.unroll(metaopt.Learner(algorithm), task, steps=steps, key=key).params, key=key)

    return jnp.mean(jax.vmap(one)(jr.split(jr.key(9), 32)))


@pytest.mark.slow
def test_an_imitator_of_adam_descends_like_adam():
    """Within a factor of 1.25 on held-out quadratics, at the horizon of training and at twice that."""
    untrained = metaopt.Learner(AdafacMLP(8))
    learner, errors = warm_start(
        untrained, ADAM, Quadratics(5, condition=10.0), steps=300, tasks=4, horizon=20, key=jr.key(0)
    )
    assert 0.9 < errors[0] < 1.1 and jnp.mean(errors[-20:]) < 0.05
    for steps in (20, 40):
        taught, adam, before = (_mean_loss(a, steps) for a in (learner.algorithm, ADAM, untrained.algorithm))
        assert adam < 0.5 * before
        np.testing.assert_allclose(taught, adam, rtol=0.25)


def test_a_rate_is_found():
    teacher = metaopt.from_optax(optax.sgd, learning_rate=0.2)
    learner = metaopt.Learner(LearnableSGD(0.05), initial=jnp.asarray(2.0))
    taught, errors = warm_start(learner, teacher, Parabolas(2.0), steps=300, horizon=3, tasks=2, key=jr.key(0))
    assert isinstance(taught.algorithm, LearnableSGD)
    np.testing.assert_allclose(errors[0], 0.75**2, rtol=1e-4)
    np.testing.assert_allclose(jnp.exp(taught.algorithm.log_rate), 0.2, rtol=0.05)
    assert taught.initial == 2


@pytest.mark.parametrize("name", ["steps", "horizon", "tasks"])
def test_bad_arguments(name):
    options: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, but 0"):
        warm_start(metaopt.Learner(LearnableSGD()), ADAM, Parabolas(), key=jr.key(0), **options)
