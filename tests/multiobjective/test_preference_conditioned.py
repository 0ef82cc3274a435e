import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from jaxtyping import Array, Float

import metaopt
from metaopt.l2o import LearnableAdam
from metaopt.meta import ConstantHorizon, MeanLoss, MetaProblem, Unrolled, meta_train
from metaopt.multiobjective import (
    Gradients,
    PCGrad,
    PreferenceConditioned,
    Preferred,
    PreferredTask,
    Problem,
    WeightedSum,
)
from metaopt.registry import adam


UNITS = jnp.asarray([0.1, 1.0, 10.0])


def values(x):
    first, second = x / UNITS - 1, x / UNITS + 1
    return jnp.stack([jnp.sum(first**2), 2 * jnp.sum(second**2)])


class Shifted(metaopt.AbstractTask[Float[Array, " 3"], Gradients]):
    shift: Float[Array, " 3"]

    def init(self, *, key):
        return 3 * UNITS * jr.normal(key, (3,))

    def evaluate(self, params, *, key):
        found, jacobian = values(params - self.shift), jax.jacrev(values)(params - self.shift)
        return jnp.mean(found), Gradients(jacobian, found)

    def measure(self, params, *, key):
        return self.evaluate(params, key=key)[0]


class Family(metaopt.AbstractTaskFamily):
    def sample(self, *, key):
        return Shifted(UNITS * jr.normal(key, (3,)))


def steps(algorithm, params, weights, count=5):
    state = algorithm.init(params)
    for _ in range(count):
        signal = Gradients(jax.jacrev(values)(params), values(params), weights)
        state, params = algorithm.step(state, params, signal)
    return params


@pytest.mark.slow
def test_untrained_is_the_weighted_sum():
    weights = jnp.asarray([0.8, 0.2])
    start = jnp.asarray([0.3, -2.0, 5.0])
    learned = steps(PreferenceConditioned(adam(0.1), 4), start, weights)
    assert jnp.allclose(learned, steps(WeightedSum(adam(0.1), weights), start, weights), rtol=1e-5)
    other = steps(PreferenceConditioned(adam(0.1), 4), start, 1 - weights)
    assert not jnp.allclose(learned, other, rtol=1e-3)


@pytest.mark.slow
def test_the_order_of_objectives_does_not_matter(getkey):
    algorithm = PreferenceConditioned(adam(0.1), 4)
    layers = [algorithm.weigh.layers[-1].weight, algorithm.pace.layers[-1].weight]
    drawn = [jr.normal(getkey(), layer.shape) for layer in layers]
    where = lambda a: [a.weigh.layers[-1].weight, a.pace.layers[-1].weight]  # noqa: E731
    algorithm = eqx.tree_at(where, algorithm, drawn)
    params, gradients = jnp.asarray([1.0, 2.0]), jnp.asarray([[1.0, -2.0], [0.5, 3.0], [0.1, 0.2]])
    weights = jnp.asarray([0.5, 0.3, 0.2])
    state = algorithm.init(params)
    _, one = algorithm.step(state, params, Gradients(gradients, None, weights))
    _, other = algorithm.step(state, params, Gradients(gradients[::-1], None, weights[::-1]))
    assert jnp.allclose(one, other, rtol=1e-5)
    assert not jnp.allclose(one, WeightedSum(adam(0.1), weights).step(adam_state(params), params, gradients)[1])


def adam_state(params):
    return WeightedSum(adam(0.1)).init(params)


def test_a_family_with_a_preference(getkey):
    task = Preferred(Family()).sample(key=getkey())
    assert jnp.allclose(jnp.sum(task.weights), 1)
    params = task.init(key=getkey())
    value, signal = task.evaluate(params, key=getkey())
    assert signal.values is not None and signal.preference is not None
    assert jnp.allclose(value, task.weights @ signal.values)
    assert jnp.array_equal(signal.preference, task.weights)
    problem = Problem(values, -UNITS, UNITS)
    assert PreferredTask(problem, task.weights).measure(params, key=getkey()).shape == ()


def test_what_is_refused(getkey):
    with pytest.raises(TypeError, match="PCGrad"):
        PreferenceConditioned(PCGrad(adam(0.1)))
    with pytest.raises(ValueError, match="hidden_size"):
        PreferenceConditioned(adam(0.1), 0)
    algorithm = PreferenceConditioned(adam(0.1), 4)
    params = jnp.ones(2)
    with pytest.raises(ValueError, match="`preference` has 3"):
        algorithm.step(algorithm.init(params), params, Gradients(jnp.ones((2, 2)), None, jnp.ones(3)))
    with pytest.raises(TypeError, match="complex"):
        algorithm.step(algorithm.init(params), jnp.ones(2, complex), jnp.ones((2, 2), complex))


@pytest.mark.slow
def test_training_lowers_the_loss_of_held_out_problems():
    family = Preferred(Family())
    problem = MetaProblem(family, MeanLoss(), ConstantHorizon(8), tasks=16)
    start = metaopt.Learner(PreferenceConditioned(LearnableAdam(0.3, b1=0.5, b2=0.9), 8))
    trained = meta_train(
        start,
        problem,
        estimator=Unrolled(max_norm=1.0),
        outer=adam(1e-2),
        steps=150,
        key=jr.key(0),
        progress=False,
    ).learner

    @eqx.filter_jit
    def loss(learner):
        def one(key):
            keys = jr.split(key)
            task = family.sample(key=keys[0])
            params = task.init(key=keys[1])
            state = learner.algorithm.init(params)
            for _ in range(8):
                value, signal = task.evaluate(params, key=key)
                state, params = learner.algorithm.step(state, params, signal, value=value)
            return task.measure(params, key=key)

        return jnp.mean(jax.vmap(one)(jr.split(jr.key(1), 32)))

    assert loss(trained) < 0.3 * loss(start)
