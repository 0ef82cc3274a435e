"""Races: a bad rule costs its heats and no more, a good one takes over."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jaxtyping import Array, Float

import metaopt
from metaopt.l2o import LossGuarded
from metaopt.schedules import Cosine
from metaopt.tasks import Quadratics
from tests.l2o._rules import DIVERGING, KINDS, Bad, follow


SGD = metaopt.from_optax(optax.sgd, learning_rate=0.5)


class Noisy(metaopt.AbstractLossTask):
    """Least squares on single points: values and gradients are noisy."""

    weights: Float[Array, " d"]

    def init(self, *, key):
        return jr.normal(key, self.weights.shape)

    def loss(self, params, *, key):
        x = jr.normal(key, (8, self.weights.size))
        y = x @ self.weights + 0.1 * jr.normal(jr.fold_in(key, 1), (8,))
        return jnp.mean((x @ params - y) ** 2) / 2

    def measure(self, params, *, key):
        return jnp.sum((params - self.weights) ** 2) / 2


def _quadratic():
    task = Quadratics(8, condition=20.0).sample(key=jr.key(0))
    return task, task.init(key=jr.key(1))


@pytest.mark.parametrize("kind", DIVERGING)
def test_races_that_are_lost_leave_the_path_of_the_fallback(kind):
    task, start = _quadratic()
    algorithm = LossGuarded(Bad(kind), SGD, window=5, checks=1, longest=0)
    *_, (state, params) = follow(algorithm, task, start, 60)
    *_, (_, plain) = follow(SGD, task, start, 60)
    ends = np.flatnonzero(np.diff(state.rejected, prepend=0))
    assert len(ends) >= 5
    for race, end in enumerate(ends, 1):
        np.testing.assert_allclose(params[end], plain[5 * race - 1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_for_winners_holds(kind):
    """Each race shrinks what is left at least as gradient descent does in its window."""
    task, start = _quadratic()
    window, strong = 5, 2 / 20  # eigenvalues lie between 2 / 20 and 2
    algorithm = LossGuarded(Bad(kind), SGD, window=window, checks=1, longest=3)
    values, *_, (state, _) = follow(algorithm, task, start, 120)
    phases = state.phase
    heats = np.flatnonzero((phases[1:] != 1) & (phases[:-1] == 1)) + 1
    assert len(heats) >= 3
    for races, end in enumerate(heats, 1):
        assert values[end + 1] <= values[0] * (1 - 0.5 * strong) ** (window * races) * (1 + 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DIVERGING)
def test_a_bad_rule_on_minibatches_costs_a_logarithm(kind):
    """At most a factor of 2 in the error of the fallback alone, on average, with decaying rates as SGD needs them."""

    @eqx.filter_jit
    def errors(algorithm):
        def one(key):
            task = Noisy(jr.normal(key, (5,)))
            end = metaopt.unroll(metaopt.Learner(algorithm), task, steps=600, key=key).params
            return task.measure(end, key=key)

        return jnp.mean(jax.vmap(one)(jr.split(jr.key(3), 16)))

    fallback = metaopt.from_optax(optax.sgd, learning_rate=0.1)
    alone, guarded = errors(fallback), errors(LossGuarded(Bad(kind), fallback))
    assert alone < 0.01
    assert guarded <= 2 * alone


def test_a_good_rule_takes_over():
    task, start = _quadratic()
    good = metaopt.from_optax(optax.sgd, learning_rate=0.9, momentum=0.5)
    values, *_, (state, _) = follow(LossGuarded(good, SGD, checks=1), task, start, 200)
    alone, plain = (follow(a, task, start, 200)[0] for a in (good, SGD))
    assert state.rejected[99] == 0 and np.sum(state.phase[:100] == 3) > 30
    assert values[100] <= 2 * alone[50] and values[100] <= plain[100]


def test_an_inner_rule_that_turns_bad_is_taken_back():
    class Turning(metaopt.AbstractAlgorithm):
        """Newton's method on a parabola, until it runs away."""

        def init(self, params, *, key=None):
            return jnp.zeros((), jnp.int32)

        def step(self, state, params, grads, *, value=None):
            return state + 1, jnp.where(state < 12, 0.5 * params, 3 * params)

    algorithm = LossGuarded(Turning(), metaopt.from_optax(optax.sgd(0.1)), window=3, checks=1)
    params = jnp.ones(1)
    state, values = algorithm.init(params), []
    for _ in range(80):
        value = jnp.sum(params**2)
        values.append(float(value))
        state, params = algorithm.step(state, params, 2 * params, value=value)
    assert state.rejected >= 2
    assert values[-1] < 1e-7


def test_a_nan_ends_a_heat_at_once():
    task, start = _quadratic()
    *_, (state, params) = follow(LossGuarded(Bad("nan"), SGD, window=4, checks=2), task, start, 8)
    np.testing.assert_array_equal(state.phase, [0, 0, 0, 0, 0, 1, 0, 0])
    assert np.all(np.isfinite(params)) and state.rejected[-1] == 1


def test_a_bad_minibatch_of_the_fallback_is_left_out():
    algorithm = LossGuarded(Bad("rests"), SGD)
    params = jnp.ones(2)
    state, new = algorithm.step(algorithm.init(params), params, jnp.asarray([jnp.inf, 1]), value=jnp.asarray(1.0))
    np.testing.assert_array_equal(new, params)
    _, new = algorithm.step(state, new, params, value=jnp.asarray(1.0))
    np.testing.assert_allclose(new, 0.5)


def test_the_horizon_reaches_both():
    told: Any = metaopt.with_horizon(LossGuarded(Cosine(SGD), Cosine(SGD)), 42)
    assert told.inner.horizon == told.fallback.horizon == 42


@pytest.mark.parametrize("kind", DIVERGING)
def test_in_an_optax_loop(kind):
    task, params = _quadratic()
    tx = metaopt.to_optax(LossGuarded(Bad(kind), SGD))
    state, update = tx.init(params), jax.jit(tx.update)
    values = []
    for _ in range(100):
        value, grads = task.evaluate(params, key=jr.key(0))
        values.append(value)
        updates, state = update(grads, state, params, value=value)
        params = optax.apply_updates(params, updates)
    assert values[-1] < 0.05 * values[0]


@pytest.mark.parametrize("options", [dict(window=0), dict(checks=0), dict(longest=-1)])
def test_bad_arguments(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` must be at least"):
        LossGuarded(SGD, SGD, **options)


def test_it_needs_the_value():
    algorithm = LossGuarded(SGD, SGD)
    with pytest.raises(ValueError, match="compares losses, but no `value` was given"):
        algorithm.step(algorithm.init(jnp.ones(2)), jnp.ones(2), jnp.ones(2))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_bad_check_of_the_fallback_is_passed_over(bad):
    """It neither loses its heat for it, nor does the level become infinite."""
    algorithm = LossGuarded(Bad("rests"), SGD, window=1, checks=2)
    params = jnp.ones(2)
    state = algorithm.init(params)
    for value in (2.0, bad, 1.0):
        state, params = algorithm.step(state, params, params, value=jnp.asarray(value))
    assert state.phase == 1 and state.level == 1.0
    np.testing.assert_array_equal(params, jnp.ones(2))


def test_a_finite_gradient_that_spoils_a_state_leaves_no_trace():
    adam = metaopt.from_optax(optax.adam, learning_rate=0.1)
    params = jnp.ones(2)
    for algorithm in (LossGuarded(adam, adam), LossGuarded(Bad("rests"), adam)):
        state, new = algorithm.step(algorithm.init(params), params, jnp.asarray([1e30, 1]), value=jnp.asarray(1.0))
        np.testing.assert_array_equal(new, params)
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves((state.inner, state.fallback)))
