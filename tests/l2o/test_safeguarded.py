"""What the guide proves about `Safeguarded`, in numbers, for rules that do their worst."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt.l2o import Safeguarded
from metaopt.schedules import Cosine
from metaopt.tasks import Quadratics
from tests.l2o._rules import DIVERGING, KINDS, Bad, follow, ridge


STEPS = 400
SGD = metaopt.from_optax(optax.sgd, learning_rate=0.1)


def _descent(task):
    return metaopt.from_optax(optax.sgd, learning_rate=1 / task.smooth)


def _accepted(state):
    """Whether each step saw an accepted iterate, one that the average takes in; and how many did so far."""
    good = np.concatenate([[True], state.reference[1:] != state.reference[:-1]])
    return good, np.cumsum(good)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "logistic", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["least squares", "logistic"]
)
@pytest.mark.usefixtures("x64")
def test_the_bounds_by_value_hold(kind, logistic):
    task = ridge(logistic)
    best = np.asarray(task.minimum)
    lowest = float(task.loss(best, key=jr.key(0)))
    algorithm = Safeguarded(Bad(kind), _descent(task))
    share, c, rate = 1 - float(algorithm.memory), float(algorithm.decrease), 1 / task.smooth
    values, norms, params, (state, _) = follow(algorithm, task, task.init(key=jr.key(1)), STEPS)
    gaps = state.reference - lowest
    gap, (good, n) = float(values[0]) - lowest, _accepted(state)
    squares = np.minimum.accumulate(np.where(good, norms, np.inf) ** 2)
    radius = np.max(np.linalg.norm(params[good] - best, axis=1))
    assert np.all(n >= np.arange(1, STEPS + 1) // 2)
    assert np.all(np.diff(gaps) <= 1e-12) and np.all(gaps[good] >= values[good] - lowest - 1e-12)
    assert np.all(squares <= 2 * gap / (share * c * rate * n) + 1e-12)
    halves = np.floor((n - 1) / 2)
    assert np.all(gaps <= 1 / (1 / gap + share * c * rate / (8 * radius**2) * halves) + 1e-12)
    assert np.all(gaps <= gap * (1 - share * c * rate * task.penalty / 2) ** halves + 1e-12)
    assert gaps[-1] < 0.1 * gap


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "logistic", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["least squares", "logistic"]
)
@pytest.mark.usefixtures("x64")
def test_the_bound_by_gradient_holds(kind, logistic):
    task = ridge(logistic)
    algorithm = Safeguarded(Bad(kind), _descent(task), "gradient")
    share, c = 1 - float(algorithm.memory), float(algorithm.decrease)
    _, norms, _, (state, _) = follow(algorithm, task, task.init(key=jr.key(1)), STEPS)
    good, n = _accepted(state)
    bound = norms[0] * (1 - share * min(c, task.penalty / task.smooth)) ** (n - 1)
    assert np.all(state.reference <= bound + 1e-12)
    assert np.all(np.where(good, norms, 0) <= state.reference + 1e-12)
    assert state.reference[-1] < 0.1 * norms[0]


@pytest.mark.parametrize("kind", DIVERGING)
@pytest.mark.parametrize("criterion", ["value", "gradient"])
def test_what_diverges_alone_is_pulled_back(kind, criterion):
    task = Quadratics(8, condition=20.0).sample(key=jr.key(0))
    start = task.init(key=jr.key(1))
    descent = metaopt.from_optax(optax.sgd, learning_rate=0.5)
    alone, _, _, _ = follow(Bad(kind), task, start, 100)
    guarded, _, _, (state, _) = follow(Safeguarded(Bad(kind), descent, criterion), task, start, 100)
    fallback, _, _, _ = follow(descent, task, start, 100)
    assert not alone[-1] < 10 * alone[0]
    assert np.all(np.isfinite(guarded))
    if kind != "climbs":
        # Rejected from beginning to end, it costs a logarithm.
        assert state.rejected[-1] <= 1 + np.log2(100)
        assert guarded[-1] <= 1.01 * fallback[-1 - int(state.rejected[-1])]
    else:
        assert guarded[-1] < 1e-2 * guarded[0]


@pytest.mark.parametrize("inner", [optax.sgd(0.9, momentum=0.67), optax.adam(0.1)], ids=["momentum", "adam"])
@pytest.mark.parametrize("criterion", ["value", "gradient"])
def test_a_good_rule_keeps_its_speed(inner, criterion):
    task = Quadratics(10, condition=100.0).sample(key=jr.key(0))
    start = task.init(key=jr.key(1))
    descent = metaopt.from_optax(optax.sgd, learning_rate=0.5)
    good = metaopt.from_optax(inner)
    alone, guarded, fallback = (
        follow(a, task, start, 100) for a in (good, Safeguarded(good, descent, criterion), descent)
    )
    assert guarded[3][0].rejected[-1] <= 15
    if criterion == "value":
        assert guarded[0][-1] <= 2 * alone[0][-1]
    else:
        assert guarded[0][-1] <= 10 * alone[0][-1] and guarded[0][-1] <= 5 * fallback[0][-1]


def test_a_proposal_is_judged_one_step_later():
    """By hand: on x^2 / 2, with an inner rule that doubles x and gradient descent at rate 0.5."""

    class Double(metaopt.AbstractAlgorithm):
        def init(self, params, *, key=None):
            return ()

        def step(self, state, params, grads, *, value=None):
            return state, 2 * params

    algorithm = Safeguarded(Double(), metaopt.from_optax(optax.sgd, learning_rate=0.5), memory=0.0)
    params = jnp.asarray([1.0])
    state, seen = algorithm.init(params), []
    for _ in range(9):
        state, params = algorithm.step(state, params, params, value=jnp.sum(params**2) / 2)
        seen.append((float(params[0]), int(state.rejected)))
    # Rejected at 2, at 1, and, after one pause, at 0.25; then there are three pauses.
    assert seen == [
        (2, 0),
        (0.5, 1),
        (1, 1),
        (0.25, 2),
        (0.125, 2),
        (0.25, 2),
        (0.0625, 3),
        (0.03125, 3),
        (0.015625, 3),
    ]


def test_without_backoff_it_is_asked_again_and_again():
    task = Quadratics(4, condition=5.0).sample(key=jr.key(0))
    algorithm = Safeguarded(Bad("jumps"), metaopt.from_optax(optax.sgd, learning_rate=0.5), backoff=False, reach=1e9)
    values, _, _, (state, _) = follow(algorithm, task, task.init(key=jr.key(1)), 41)
    assert state.rejected[-1] == 20
    assert values[-1] < 1e-3 * values[0]


def test_minimize_never_sees_what_is_out_of_reach():
    task = Quadratics(4, condition=5.0).sample(key=jr.key(0))
    algorithm = Safeguarded(Bad("grows"), metaopt.from_optax(optax.sgd, learning_rate=0.5))
    solution = metaopt.minimize(task, algorithm, steps=300, tolerance=1e-3)
    assert solution.result == metaopt.RESULTS.converged
    np.testing.assert_allclose(solution.params, task.minimizer(), atol=1e-2)


@pytest.mark.parametrize("kind", DIVERGING)
def test_in_an_optax_loop(kind):
    task = Quadratics(4, condition=5.0).sample(key=jr.key(0))
    tx = metaopt.to_optax(Safeguarded(Bad(kind), metaopt.from_optax(optax.sgd, learning_rate=0.5)))
    params = task.init(key=jr.key(1))
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(150):
        value, grads = task.evaluate(params, key=jr.key(0))
        updates, state = update(grads, state, params, value=value)
        params = jnp.asarray(optax.apply_updates(params, updates))
    np.testing.assert_allclose(params, task.minimizer(), atol=1e-2)


def test_the_horizon_reaches_both():
    algorithm = Safeguarded(Cosine(SGD), Cosine(SGD))
    told: Any = metaopt.with_horizon(algorithm, 42)
    assert told.inner.horizon == told.fallback.horizon == 42


def test_meta_gradients_pass_through():
    task = Quadratics(4, condition=5.0).sample(key=jr.key(0))

    def final(algorithm):
        return metaopt.unroll(metaopt.Learner(algorithm), task, steps=5, key=jr.key(0)).values[-1]

    slow = metaopt.from_optax(optax.sgd, learning_rate=0.2)
    grads = eqx.filter_jit(eqx.filter_grad(final))(Safeguarded(slow, SGD))
    assert grads.inner.hyperparameters["learning_rate"] < 0
    assert grads.decrease == grads.memory == 0


def test_a_start_that_is_not_finite_is_left_alone():
    algorithm = Safeguarded(SGD, SGD)
    params = jnp.ones(2)
    state, new = algorithm.step(algorithm.init(params), params, jnp.asarray([jnp.nan, 1.0]), value=jnp.asarray(1.0))
    np.testing.assert_array_equal(new, params)
    _, new = algorithm.step(state, new, params, value=jnp.asarray(1.0))
    np.testing.assert_allclose(new, 0.9)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (dict(criterion="loss"), "`criterion` must be 'value' or 'gradient', but 'loss'"),
        (dict(decrease=0.0), "`decrease` must be above 0 and at most 1, but 0.0"),
        (dict(memory=1), "`memory` must be at least 0 and less than 1, but 1"),
        (dict(reach=0.0), "`reach` must be positive"),
    ],
)
def test_bad_arguments(options, text):
    with pytest.raises(Exception, match=text if "criterion" not in options else "criterion"):
        Safeguarded(SGD, SGD, **options)


def test_by_value_it_needs_the_value():
    algorithm = Safeguarded(SGD, SGD)
    with pytest.raises(ValueError, match='no `value` was given. Call .* or choose `criterion="gradient"`'):
        algorithm.step(algorithm.init(jnp.ones(2)), jnp.ones(2), jnp.ones(2))


def test_a_finite_gradient_that_spoils_a_state_leaves_no_trace():
    adam = metaopt.from_optax(optax.adam, learning_rate=0.1)
    algorithm, params = Safeguarded(adam, adam), jnp.ones(2)
    state, new = algorithm.step(algorithm.init(params), params, jnp.asarray([1e30, 1.0]), value=jnp.asarray(1.0))
    np.testing.assert_array_equal(new, params)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves((state.inner, state.fallback)))
    _, new = algorithm.step(state, new, params, value=jnp.asarray(1.0))
    assert jnp.all(new < params)
