import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float

import metaopt
from metaopt.multiobjective import (
    Gradients,
    PreferenceConditioned,
    Preferred,
    PreferredPopulation,
    SharedCurvature,
    WeightedSum,
    preferences,
)
from metaopt.registry import adam, sgd
from tests._cases import slow


SIZE = 5


class Bowls(metaopt.AbstractTask[dict[str, Array], Gradients]):
    """Two quadratic objectives of five numbers in two leaves."""

    hessians: Float[Array, "2 5 5"]
    centers: Float[Array, "2 5"]

    def init(self, *, key):
        x = 3 * jr.normal(key, (SIZE,)) * jnp.asarray([0.1, 1.0, 10.0, 1.0, 3.0])
        return {"a": x[:2], "b": x[2:].reshape(1, 3)}

    def values(self, params):
        away = jnp.concatenate([params["a"], params["b"][0]])[None] - self.centers
        return jnp.einsum("ij,ijk,ik->i", away, self.hessians, away) / 2

    def evaluate(self, params, *, key):
        found = self.values(params)
        return jnp.mean(found), Gradients(jax.jacrev(self.values)(params), found)

    def measure(self, params, *, key):
        return self.evaluate(params, key=key)[0]

    def best(self, weights):
        hessian = np.tensordot(weights, self.hessians, 1)
        return np.linalg.solve(hessian, np.einsum("i,ijk,ik->j", weights, self.hessians, self.centers))


class Family(metaopt.AbstractTaskFamily):
    sign: float = 1.0

    def sample(self, *, key):
        keys = jr.split(key)
        roots = jr.normal(keys[0], (2, SIZE, SIZE))
        hessians = jnp.einsum("ijk,ilk->ijl", roots, roots) + jnp.eye(SIZE)[None]
        return Bowls(self.sign * hessians, jr.normal(keys[1], (2, SIZE)))


def trusting(algorithm):
    return eqx.tree_at(lambda a: a.trust.layers[-1].bias, algorithm, jnp.ones(1))


@eqx.filter_jit
def one_step(algorithm, task, params):
    _, signal = task.evaluate(params, key=jr.key(0))
    return algorithm.step(algorithm.init(params), params, signal)[1]


def flat(params):
    return np.asarray(jax.vmap(lambda p: jnp.concatenate([p["a"], p["b"][0]]))(params))


def test_untrained_each_member_steps_by_itself(getkey):
    task = Preferred(Family(), members=3).sample(key=getkey())
    params = task.init(key=getkey())
    together = one_step(SharedCurvature(PreferenceConditioned(adam(0.1), 4)), task, params)
    _, signal = task.evaluate(params, key=getkey())
    for k in range(3):
        alone = WeightedSum(adam(0.1), task.weights[k])
        own = jax.tree.map(lambda x, k=k: x[k], params)
        gradients = jax.tree.map(lambda g, k=k: g[:, k], signal.gradients)
        _, moved = alone.step(alone.init(own), own, gradients)
        for name in own:
            np.testing.assert_allclose(together[name][k], moved[name], rtol=1e-5)


def test_the_front_of_quadratics_is_one_step_away(getkey, x64):
    task = Preferred(Family(), members=8).sample(key=getkey())
    moved = one_step(trusting(SharedCurvature(WeightedSum(sgd(0.1)))), task, task.init(key=getkey()))
    assert isinstance(task.task, Bowls)
    wanted = [task.task.best(np.asarray(weights)) for weights in preferences(2, 8)]
    np.testing.assert_allclose(flat(moved), np.stack(wanted), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_fewer_members_than_numbers_move_within_their_span(getkey, x64):
    task = Preferred(Family(), members=3).sample(key=getkey())
    params = task.init(key=getkey())
    moved = one_step(trusting(SharedCurvature(WeightedSum(sgd(0.1)))), task, params)
    start, change = flat(params), flat(moved) - flat(params)
    span = (start - start.mean(axis=0))[:2].T
    outside = change.T - span @ np.linalg.lstsq(span, change.T, rcond=None)[0]
    assert np.abs(outside).max() < 1e-8 * np.abs(change).max()
    assert float(task.measure(moved, key=getkey())) < float(task.measure(params, key=getkey()))


@pytest.mark.parametrize("members", [3, *slow(8)])
def test_derivatives_where_eigenvalues_coincide(members, getkey, x64):
    task = Preferred(Family(), members=members).sample(key=getkey())
    start, direction = task.init(key=getkey()), task.init(key=getkey())
    algorithm = trusting(SharedCurvature(WeightedSum(sgd(0.1))))

    @jax.jit
    def total(size):
        moved = one_step(algorithm, task, jax.tree.map(lambda x, y: x + size * y, start, direction))
        return jnp.sum(jnp.sin(moved["a"])) + jnp.sum(jnp.sin(moved["b"]))

    difference = (total(1e-5) - total(-1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(total)(0.0), difference, rtol=1e-5, atol=1e-4)


def test_steps_are_down_where_the_curvature_is_negative(getkey, x64):
    task = Preferred(Family(-1.0), members=8).sample(key=getkey())
    params = task.init(key=getkey())
    moved = one_step(trusting(SharedCurvature(WeightedSum(sgd(0.1)))), task, params)
    assert float(task.measure(moved, key=getkey())) < float(task.measure(params, key=getkey()))


def test_members_at_one_place_stay_finite(getkey):
    task = Preferred(Family(), members=3).sample(key=getkey())
    params = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), task.init(key=getkey()))
    moved = one_step(trusting(SharedCurvature(WeightedSum(sgd(0.1)))), task, params)
    assert np.all(np.isfinite(flat(moved)))


@pytest.mark.slow
def test_a_population_with_preferences(getkey):
    task = Preferred(Family(), members=4).sample(key=getkey())
    assert isinstance(task, PreferredPopulation)
    params = task.init(key=getkey())
    value, signal = task.evaluate(params, key=getkey())
    assert signal.values is not None and signal.values.shape == (2, 4)
    assert signal.gradients["b"].shape == (2, 4, 1, 3)
    assert jnp.allclose(value, jnp.mean(jnp.sum(task.weights.T * signal.values, axis=0)))
    with pytest.raises(ValueError, match="members"):
        Preferred(Family(), members=0)


def test_what_is_refused():
    algorithm = SharedCurvature(WeightedSum(sgd(0.1)))
    with pytest.raises(ValueError, match="hidden_size"):
        SharedCurvature(WeightedSum(sgd(0.1)), 0)
    with pytest.raises(ValueError, match="two or more members"):
        algorithm.init(jnp.ones((1, 3)))
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        algorithm.init({"a": jnp.ones((2, 3)), "b": jnp.ones((3, 3))})
    params = jnp.ones((3, 2))
    with pytest.raises(ValueError, match=r"`preference` must have shape \(3, 2\)"):
        algorithm.step(algorithm.init(params), params, Gradients(jnp.ones((2, 3, 2)), None, jnp.ones((2, 2))))
    with pytest.raises(TypeError, match="complex"):
        given = jnp.ones((2, 3, 2), complex)
        algorithm.step(algorithm.init(params), params.astype(complex), Gradients(given))
