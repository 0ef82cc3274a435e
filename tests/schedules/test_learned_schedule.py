"""A schedule that is meta-trained."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import optax
import pytest

import metaopt
from metaopt.meta import PES, ConstantHorizon, MeanLoss, MetaProblem, meta_train, validate
from metaopt.schedules import LearnedSchedule
from metaopt.tasks import Quadratics


def _sgd(rate: float) -> metaopt.AbstractAlgorithm:
    return metaopt.from_optax(optax.sgd, learning_rate=rate)


def test_untrained_it_changes_nothing() -> None:
    params, grads = jnp.ones(3), jnp.asarray([1.0, -2.0, 0.5])
    algorithm = LearnedSchedule(_sgd(0.1))
    state, new = algorithm.step(algorithm.init(params), params, grads, value=jnp.asarray(2.0))
    assert jnp.allclose(new, params - 0.1 * grads)
    # What is not finite is not remembered.
    state, _ = algorithm.step(state, new, grads, value=jnp.asarray(jnp.nan))
    assert jnp.all(jnp.isfinite(state.losses))


@pytest.mark.slow
def test_training_finds_that_steps_were_too_short() -> None:
    family, steps = Quadratics(dimension=4, condition=5.0), 20
    learner = metaopt.Learner(LearnedSchedule(_sgd(0.01), hidden_size=4))
    problem = MetaProblem(family, MeanLoss(), ConstantHorizon(steps), tasks=8)
    outer = metaopt.from_optax(optax.adam, learning_rate=0.03)
    result = meta_train(
        learner, problem, estimator=PES(0.1, steps), outer=outer, steps=60, key=jr.key(0), progress=False
    )
    before, after = (validate(x, family, steps=steps, tasks=32, key=jr.key(9)) for x in (learner, result.learner))
    assert float(after) < 0.7 * float(before)


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_are_checked(size: int) -> None:
    with pytest.raises(ValueError, match="hidden_size"):
        LearnedSchedule(_sgd(0.1), size)


def test_the_factor_is_bounded() -> None:
    algorithm = LearnedSchedule(_sgd(1.0))
    wild = eqx.tree_at(lambda a: a.output.bias, algorithm, jnp.full(1, 1e6))
    params = jnp.zeros(())
    _, new = wild.step(wild.init(params), params, jnp.ones(()), value=jnp.ones(()))
    assert -new == pytest.approx(float(jnp.exp(3.0)), rel=1e-5)
