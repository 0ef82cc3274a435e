"""A rule that falls behind a known curve is replaced by the baseline whose curve it is."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt.l2o import BaselineGuarded
from metaopt.schedules import Cosine
from metaopt.tasks import Quadratics
from tests.l2o._rules import DIVERGING, Bad, follow


SGD = metaopt.from_optax(optax.sgd, learning_rate=0.3)
STEPS, ALLOWANCE = 100, 0.05
BUDGET = 106  # STEPS / (1 - ALLOWANCE), rounded up


@pytest.fixture(scope="module")
def problem():
    task = Quadratics(8, condition=20.0).sample(key=jr.key(0))
    start = task.init(key=jr.key(1))
    values, _, params, _ = follow(SGD, task, start, STEPS)
    return task, start, values, params


def _guarded(inner, values, *, smoothing=0.0):
    return BaselineGuarded(inner, SGD, values, allowance=ALLOWANCE, smoothing=smoothing)


@pytest.mark.parametrize("kind", [*DIVERGING, "rests"])
def test_a_bad_rule_costs_the_allowance(problem, kind):
    task, start, plain, _ = problem
    values, *_ = follow(_guarded(Bad(kind), plain), task, start, BUDGET + 1)
    assert values[-1] <= plain[-1] * (1 + 1e-5)


@pytest.mark.parametrize("kind", DIVERGING)
def test_the_baseline_begins_where_the_rule_was_best(problem, kind):
    """Rules that are bad from the first step leave the path of the baseline, late by the allowance."""
    task, start, _, plain = problem
    *_, (state, params) = follow(_guarded(Bad(kind), problem[2]), task, start, BUDGET)
    (handed_over,) = np.flatnonzero(np.diff(state.leads.astype(int), prepend=1))
    assert handed_over <= 6
    np.testing.assert_allclose(params[handed_over:STEPS], plain[: STEPS - handed_over], rtol=1e-5)


def test_a_good_rule_leads_to_the_end(problem):
    task, start, plain, _ = problem
    good = metaopt.from_optax(optax.sgd, learning_rate=0.9, momentum=0.5)
    values, *_, (state, _) = follow(_guarded(good, plain), task, start, BUDGET)
    alone, *_ = follow(good, task, start, BUDGET)
    assert np.all(state.leads)
    np.testing.assert_array_equal(values, alone)


class Turning(metaopt.AbstractAlgorithm):
    """Gradient descent at a good rate, until it runs away."""

    def init(self, params, *, key=None):
        return jnp.zeros((), jnp.int32)

    def step(self, state, params, grads, *, value=None):
        return state + 1, jnp.where(state < 30, params - 0.6 * grads, 1e3 * params)


def test_a_rule_that_turns_bad_is_taken_back(problem):
    task, start, plain, _ = problem
    values, *_, (state, _) = follow(_guarded(Turning(), plain), task, start, BUDGET)
    assert state.leads[30] and not state.leads[-1]
    (handed_over,) = np.flatnonzero(np.diff(state.leads.astype(int)))
    assert handed_over <= 37
    # At most its lead is lost, and the allowance.
    assert values[handed_over + 2] <= plain[30] and values[-1] < plain[-1]


def test_a_nan_hands_over_at_once(problem):
    task, start, plain, _ = problem
    *_, (state, params) = follow(_guarded(Bad("nan"), plain), task, start, 3)
    np.testing.assert_array_equal(state.leads, [False, False, False])
    assert np.all(np.isfinite(params))


def test_the_schedule_of_the_baseline_goes_on(problem):
    """A cosine that took over late is over when the budget is."""
    task, start, plain, _ = problem
    algorithm = BaselineGuarded(Turning(), Cosine(SGD), plain, allowance=ALLOWANCE, smoothing=0.0)
    *_, (state, params) = follow(metaopt.with_horizon(algorithm, BUDGET), task, start, BUDGET)
    assert not state.leads[-1]
    assert BUDGET - 7 <= state.fallback.clock[-1] <= BUDGET
    assert np.max(np.abs(params[-1] - params[-2])) < 0.02 * np.max(np.abs(params[45] - params[44]))


def test_noise_is_averaged(problem):
    """A lucky minibatch does not keep a slow rule in the lead."""
    task, start, plain, _ = problem
    slow = metaopt.from_optax(optax.sgd, learning_rate=0.1)

    def led(smoothing, key):
        algorithm = _guarded(slow, plain, smoothing=smoothing)
        noise = jnp.exp(jr.normal(key, (STEPS,)))

        def body(carry, factor):
            state, params = carry
            value, grads = task.evaluate(params, key=key)
            return algorithm.step(state, params, grads, value=value * factor), state.leads

        return jnp.mean(jax.lax.scan(body, (algorithm.init(start), start), noise)[1], dtype=jnp.float32)

    keys = jr.split(jr.key(3), 64)
    rough, smooth = (np.mean(jax.jit(jax.vmap(lambda key, s=s: led(s, key)))(keys)) for s in (0.0, 0.05))
    assert smooth < 0.85 * rough


def test_the_budget():
    assert _guarded(SGD, np.geomspace(1, 0.1, STEPS)).horizon == BUDGET
    told: Any = metaopt.with_horizon(BaselineGuarded(Cosine(SGD), Cosine(SGD), [1.0, 0.5]), 42)
    assert told.horizon == told.inner.horizon == told.fallback.horizon == 42


@pytest.mark.parametrize("curve", [[1.0], [1.0, 0.0], [1.0, float("nan")], [[1.0, 0.5]]])
def test_a_curve_without_a_logarithm(curve):
    with pytest.raises(ValueError, match="`curve` must hold at least two positive, finite losses"):
        BaselineGuarded(SGD, SGD, np.asarray(curve))


@pytest.mark.parametrize("options", [dict(allowance=1.0), dict(smoothing=-0.1)])
def test_bad_shares(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` must be at least 0 and less than 1"):
        BaselineGuarded(SGD, SGD, [1.0, 0.5], **options)


def test_it_needs_the_value():
    algorithm = BaselineGuarded(SGD, SGD, [1.0, 0.5])
    with pytest.raises(ValueError, match="follows losses, but no `value` was given"):
        algorithm.step(algorithm.init(jnp.ones(2)), jnp.ones(2), jnp.ones(2))


def test_losses_that_are_not_positive_stay_finite():
    guarded = BaselineGuarded(Bad("rests"), SGD, [2.0, 1.5, 1.0], horizon=6)
    params = jnp.ones(2)
    state = guarded.init(params)
    for value in (0.0, -1.0, 0.0, 0.5):
        state, params = guarded.step(state, params, jnp.ones(2), value=jnp.asarray(value))
    assert jnp.isfinite(state.level) and jnp.isfinite(state.first) and jnp.all(jnp.isfinite(params))
    assert not state.leads  # it never came below where it began
    state, params = guarded.init(jnp.ones(2)), jnp.ones(2)
    for value in (2.0, 0.0, -1.0):
        state, params = guarded.step(state, params, jnp.ones(2), value=jnp.asarray(value))
    assert state.leads  # below all of the curve


def test_a_bad_gradient_leaves_no_trace_in_the_baseline(problem):
    task, start, values, _ = problem
    adam = metaopt.from_optax(optax.adam, learning_rate=0.1)
    guarded = BaselineGuarded(Bad("rests"), adam, values, allowance=0.0)
    state, params = guarded.init(start), start
    good = jnp.ones_like(start)
    for grads in (good, good, good.at[0].set(jnp.nan), good.at[0].set(1e30), good):
        before = params
        state, params = guarded.step(state, params, grads, value=jnp.asarray(values[0]))
        if not jnp.all(grads == 1):
            np.testing.assert_array_equal(params, before)
    assert not state.leads
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(state))
    assert jnp.all(params != before)
