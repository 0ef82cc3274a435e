"""The inner loop."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import metaopt

from .problems import Bowl, Descent, Noisy, Planned, Shaken


def _adam(rate: float = 0.1) -> metaopt.Optax:
    return metaopt.from_optax(optax.adam, learning_rate=rate)


def _by_hand(learner: metaopt.Learner, task: metaopt.AbstractTask, steps: int, key: jax.Array) -> tuple[Any, Any, Any]:
    start_key, state_key, data_key = jr.split(key, 3)
    params = task.init(key=start_key) if learner.initial is None else learner.initial
    state = learner.algorithm.init(params, key=state_key)
    values = []
    for data in jr.split(data_key, steps):
        value, grads = task.evaluate(params, key=data)
        state, params = learner.algorithm.step(state, params, grads, value=value)
        values.append(value)
    return jnp.stack(values), params, state


@pytest.mark.parametrize("algorithm", [Descent(0.1), Shaken(0.1), _adam()], ids=["descent", "shaken", "adam"])
@pytest.mark.parametrize("initial", [None, jnp.asarray([2.0, 1.0])], ids=["drawn", "learned"])
def test_unroll_is_a_loop(algorithm: metaopt.AbstractAlgorithm, initial: jax.Array | None) -> None:
    learner, key = metaopt.Learner(algorithm, initial), jr.key(2)
    trajectory = metaopt.unroll(learner, Noisy(), steps=4, key=key)
    values, params, state = _by_hand(learner, Noisy(), 4, key)
    np.testing.assert_allclose(trajectory.values, values, rtol=1e-5)
    np.testing.assert_allclose(trajectory.params, params, rtol=1e-5)
    is_key = isinstance(algorithm, Shaken)
    numbers = jr.key_data if is_key else lambda tree: tree
    assert eqx.tree_equal(numbers(trajectory.state), numbers(state), rtol=1e-5, atol=1e-7)


def test_values_are_those_that_steps_saw() -> None:
    learner = metaopt.Learner(Descent(0.25), jnp.asarray([1.0, 0.0]))
    trajectory = metaopt.unroll(learner, Bowl(jnp.asarray(2.0)), steps=3, key=jr.key(0))
    np.testing.assert_allclose(trajectory.values, [1.0, 1 / 4, 1 / 16])
    np.testing.assert_allclose(trajectory.params, [1 / 8, 0.0])


def test_parts_that_are_not_arrays_survive(getkey: Callable[[], jax.Array]) -> None:
    class Fit(metaopt.AbstractLossTask):
        def init(self, *, key: jax.Array) -> Any:
            return {"net": eqx.nn.MLP(1, 1, 4, 1, key=key), "name": "net", "count": jnp.arange(3), "none": None}

        def loss(self, params: Any, *, key: jax.Array) -> jax.Array:
            x = jr.normal(key, (8, 1))
            return jnp.mean(jnp.square(jax.vmap(params["net"])(x) - x))

        def measure(self, params: Any, *, key: jax.Array) -> jax.Array:
            return self.loss(params, key=key)

    start = Fit().init(key=getkey())
    final = metaopt.unroll(metaopt.Learner(_adam(), start), Fit(), steps=3, key=getkey()).params
    assert final["name"] == "net" and final["none"] is None
    assert final["net"].activation is start["net"].activation
    np.testing.assert_array_equal(final["count"], [0, 1, 2])
    assert jnp.any(final["net"].layers[0].weight != start["net"].layers[0].weight)


def test_planners_are_told_the_steps() -> None:
    # The rate of the last step is 1 / 4; the one before it, with the whole horizon left, solves the bowl.
    learner = metaopt.Learner(Planned(), jnp.asarray([1.0, 2.0]))
    values = metaopt.unroll(learner, Bowl(jnp.asarray(0.5)), steps=4, key=jr.key(0)).values
    left = np.cumprod([1.0, 1 / 2, 5 / 8, 3 / 4])
    np.testing.assert_allclose(values, 1.25 * left**2, rtol=1e-6)


def test_unroll_over_a_batch_of_tasks() -> None:
    curvatures, keys = jnp.asarray([0.5, 1.0, 2.0]), jr.split(jr.key(0), 3)
    learner = metaopt.Learner(_adam())

    def values(curvature: jax.Array, key: jax.Array) -> jax.Array:
        return metaopt.unroll(learner, Bowl(curvature), steps=3, key=key).values

    batched = jax.jit(jax.vmap(values))(curvatures, keys)
    for i in range(3):
        np.testing.assert_allclose(batched[i], values(curvatures[i], keys[i]), rtol=1e-5)


def _meta_loss(learner: metaopt.Learner, **options: Any) -> jax.Array:
    trajectory = metaopt.unroll(learner, Noisy(), steps=5, key=jr.key(1), **options)
    return jnp.mean(trajectory.values) + jnp.sum(jnp.sin(trajectory.params))


@pytest.mark.usefixtures("x64")
def test_derivatives_are_finite_differences() -> None:
    learner = metaopt.Learner(_adam(0.05), jnp.asarray([1.0, -2.0]))
    params, static = eqx.partition(learner, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(params)

    @jax.jit
    def loss(flat: jax.Array) -> jax.Array:
        return _meta_loss(eqx.combine(unravel(flat), static))

    step = 1e-6
    wanted = jnp.stack([(loss(flat + e) - loss(flat - e)) / (2 * step) for e in step * jnp.eye(flat.size)])
    np.testing.assert_allclose(jax.grad(loss)(flat), wanted, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(loss)(flat), wanted, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_rematerialization_changes_nothing_but_memory() -> None:
    learner = metaopt.Learner(_adam(0.05), jnp.asarray([1.0, -2.0]))
    plain, frugal = (
        eqx.filter_jit(eqx.filter_value_and_grad(lambda x, r=r: _meta_loss(x, remat=r)))(learner) for r in (False, True)
    )
    assert eqx.tree_equal(plain, frugal, rtol=1e-12, atol=1e-14)


def test_rematerialization_keeps_less() -> None:
    def residuals(remat: bool) -> int:
        pullback = eqx.filter_eval_shape(
            lambda x: eqx.filter_vjp(lambda y: _meta_loss(y, remat=remat), x)[1],
            metaopt.Learner(_adam(0.05), jnp.asarray([1.0, -2.0])),
        )
        shapes = [x for x in jax.tree_util.tree_leaves(pullback) if isinstance(x, jax.ShapeDtypeStruct)]
        return sum(x.size for x in shapes)

    assert residuals(True) < residuals(False)


def test_first_order_derivatives() -> None:
    # x_3 = (1 - rate c)^3 x_0. With signals held fixed, x_3 = x_0 - rate sum_t c x_t.
    rate, curvature, start = 0.1, 2.0, jnp.asarray([1.0, 3.0])

    def final(rate: jax.Array, start: jax.Array, second_order: bool) -> jax.Array:
        learner = metaopt.Learner(Descent(rate), start)
        task = Bowl(jnp.asarray(curvature))
        return metaopt.unroll(learner, task, steps=3, key=jr.key(0), second_order=second_order).params[1]

    left = 1 - rate * curvature
    for second_order, by_start, by_rate in (
        (True, left**3, -3 * curvature * left**2 * start[1]),
        (False, 1.0, -curvature * (1 + left + left**2) * start[1]),
    ):
        grads = jax.grad(final, argnums=(0, 1))(jnp.asarray(rate), start, second_order)
        np.testing.assert_allclose(grads[0], by_rate, rtol=1e-5)
        np.testing.assert_allclose(grads[1], [0.0, by_start], rtol=1e-5)


@pytest.mark.parametrize("steps", [0, -1])
def test_unroll_needs_a_step(steps: int) -> None:
    with pytest.raises(ValueError, match=f"`steps` must be at least 1, but {steps} was given"):
        metaopt.unroll(metaopt.Learner(Descent(0.1)), Noisy(), steps=steps, key=jr.key(0))


def test_a_learner_improves_by_the_loop_of_the_guide() -> None:
    learner, outer = metaopt.Learner(Descent(0.01)), _adam(0.02)
    outer_state = outer.init(learner)

    @eqx.filter_jit
    def improve(outer_state: Any, learner: metaopt.Learner, key: jax.Array) -> tuple[Any, metaopt.Learner, jax.Array]:
        def meta_loss(learner: metaopt.Learner) -> jax.Array:
            return jnp.mean(metaopt.unroll(learner, Noisy(), steps=5, key=key).values)

        value, grads = eqx.filter_value_and_grad(meta_loss)(learner)
        return *outer.step(outer_state, learner, grads, value=value), value

    for key in jr.split(jr.key(0), 30):
        outer_state, learner, _ = improve(outer_state, learner, key)
    assert isinstance(learner.algorithm, Descent)
    assert 0.2 < learner.algorithm.rate < 0.8
