"""The loops `minimize` and `fixed_point` against closed forms."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt import RESULTS

from .problems import Bowl, Descent, Noisy, Planned, Shaken


START = jnp.asarray([3.0, -4.0])


def bowl(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x))


def walk(x: jax.Array) -> jax.Array:
    """Falls with slope 1 and has no values below -1."""
    return jnp.where(x > -1.0, x, jnp.nan)


def test_minimize_is_gradient_descent() -> None:
    solution = metaopt.minimize(bowl, Descent(0.1), START, steps=5)
    np.testing.assert_allclose(solution.params, 0.8**5 * START, rtol=1e-6)
    np.testing.assert_allclose(solution.value, 25.0 * 0.8**10, rtol=1e-6)
    np.testing.assert_allclose(solution.signal_norm, 10.0 * 0.8**5, rtol=1e-6)
    assert solution.steps == 5
    assert solution.result == RESULTS.converged


def test_minimize_stops_at_the_tolerance() -> None:
    solution = metaopt.minimize(bowl, Descent(0.25), START, steps=100, tolerance=0.01)
    # The norm of the gradient is 10 / 2^t.
    assert solution.steps == 10
    np.testing.assert_allclose(solution.signal_norm, 10.0 / 2**10, rtol=1e-6)
    assert solution.result == RESULTS.converged


def test_minimize_may_be_done_before_it_begins() -> None:
    solution = metaopt.minimize(bowl, Descent(0.25), jnp.zeros(2), steps=100, tolerance=1e-9)
    assert solution.steps == 0
    assert solution.result == RESULTS.converged


def test_without_a_tolerance_all_steps_are_taken() -> None:
    solution = metaopt.minimize(lambda x: 0.0 * x, Descent(0.25), jnp.asarray(1.0), steps=7)
    assert solution.signal_norm == 0.0
    assert solution.steps == 7


def test_a_spent_budget_is_reported() -> None:
    solution = metaopt.minimize(bowl, Descent(0.25), START, steps=3, tolerance=0.01)
    assert solution.steps == 3
    assert solution.result == RESULTS.max_steps
    with pytest.raises(RuntimeError, match="Allow more steps"):
        metaopt.minimize(bowl, Descent(0.25), START, steps=3, tolerance=0.01, throw=True)


def test_throw_is_silent_on_success() -> None:
    kept = metaopt.minimize(bowl, Descent(0.25), START, steps=50, tolerance=0.01, throw=True)
    assert eqx.tree_equal(kept, metaopt.minimize(bowl, Descent(0.25), START, steps=50, tolerance=0.01))


@pytest.mark.parametrize("tolerance", [0.0, 1e-3])
def test_after_nan_the_last_finite_parameters_are_kept(tolerance: float) -> None:
    solution = metaopt.minimize(walk, Descent(0.3), jnp.asarray(0.0), steps=100, tolerance=tolerance)
    np.testing.assert_allclose([solution.params, solution.value], [-0.9, -0.9], rtol=1e-6)
    assert solution.steps == 4
    assert solution.result == RESULTS.nonfinite
    with pytest.raises(RuntimeError, match="last finite parameters were kept"):
        metaopt.minimize(walk, Descent(0.3), jnp.asarray(0.0), steps=100, tolerance=tolerance, throw=True)


def test_a_start_without_a_value_is_returned() -> None:
    solution = metaopt.minimize(walk, Descent(0.3), jnp.asarray(-2.0), steps=100)
    assert (solution.params, solution.steps) == (-2.0, 0)
    assert solution.result == RESULTS.nonfinite


def test_infinite_parameters_are_found_where_the_value_is_finite() -> None:
    solution = metaopt.minimize(lambda x: 100.0 * jnp.tanh(x), Descent(3e37), jnp.asarray(0.0), steps=3)
    assert (solution.params, solution.steps) == (0.0, 1)
    assert solution.result == RESULTS.nonfinite


def test_an_infinite_parameter_that_nobody_trains_does_not_count() -> None:
    params = {"x": jnp.asarray(3.0), "mask": jnp.asarray([0, -jnp.inf])}
    sgd = metaopt.from_optax(optax.sgd, learning_rate=0.25)

    def loss(params: dict[str, jax.Array]) -> jax.Array:
        return jnp.square(params["x"]) + jnp.sum(jnp.exp(jax.lax.stop_gradient(params["mask"])))

    solution = metaopt.minimize(loss, sgd, params, steps=3)
    assert solution.result == RESULTS.converged
    np.testing.assert_array_equal(solution.params["x"], 3 / 8)
    np.testing.assert_array_equal(solution.params["mask"], params["mask"])


def test_minimize_a_task() -> None:
    task, key = Noisy(), jr.key(5)
    solution = metaopt.minimize(task, Descent(0.05), steps=6, key=key)
    start_key, _, data_key = jr.split(key, 3)
    params = task.init(key=start_key)
    for t in range(6):
        _, grads = task.evaluate(params, key=jr.fold_in(data_key, t))
        params = params - 0.05 * grads
    np.testing.assert_allclose(solution.params, params, rtol=1e-5)
    np.testing.assert_allclose(solution.value, task.evaluate(params, key=jr.fold_in(data_key, 6))[0], rtol=1e-5)
    assert not eqx.tree_equal(solution, metaopt.minimize(task, Descent(0.05), steps=6, key=jr.key(6)))


def test_minimize_a_task_from_a_given_start() -> None:
    solution = metaopt.minimize(Bowl(jnp.asarray(2.0)), Descent(0.25), START, steps=3)
    np.testing.assert_allclose(solution.params, START / 8, rtol=1e-6)


def test_a_random_algorithm_is_given_a_key() -> None:
    one, two, again = (
        metaopt.minimize(bowl, Shaken(0.1), START, steps=3, key=jr.key(seed)).params for seed in (0, 1, 0)
    )
    assert jnp.all(one == again)
    assert jnp.all(one != two)


def test_a_random_state_survives_nan() -> None:
    # A typed key is part of what is put back.
    solution = metaopt.minimize(walk, Shaken(0.3), jnp.asarray(0.0), steps=100, key=jr.key(1))
    assert solution.result == RESULTS.nonfinite
    assert solution.params > -1.0


def test_minimize_tells_planners_the_budget() -> None:
    solution = metaopt.minimize(lambda x: x, Planned(), jnp.asarray(0.0), steps=4)
    np.testing.assert_allclose(solution.params, -(1 + 3 / 4 + 2 / 4 + 1 / 4), rtol=1e-6)


def test_minimize_a_model_with_parts_that_are_not_arrays(getkey: Callable[[], jax.Array]) -> None:
    model = eqx.nn.MLP(2, "scalar", 4, 1, key=getkey())
    solution = metaopt.minimize(lambda m: jnp.square(m(START) - 1.0), Descent(0.01), model, steps=50)
    assert solution.params.activation is model.activation
    assert solution.value < 0.1 * jnp.square(model(START) - 1.0)


def test_minimize_takes_numpy_arrays_and_leaves_integers_alone() -> None:
    params = {"x": np.ones(2, np.float32), "n": np.arange(2)}
    solution = metaopt.minimize(lambda p: bowl(p["x"]), metaopt.WeightDecay(Descent(0.25), 0.0), params, steps=2)
    np.testing.assert_array_equal(solution.params["x"], [0.25, 0.25])
    np.testing.assert_array_equal(solution.params["n"], [0, 1])


def test_minimize_under_jit_and_vmap() -> None:
    starts = jnp.asarray([[3.0, -4.0], [0.3, 0.4], [jnp.nan, 0.0], [0.0, 0.0]])

    def solve(start: jax.Array) -> metaopt.Solution:
        return metaopt.minimize(bowl, Descent(0.25), start, steps=8, tolerance=0.01)

    batched = eqx.filter_jit(eqx.filter_vmap(solve))(starts)
    np.testing.assert_array_equal(batched.steps, [8, 7, 0, 0])
    for i, start in enumerate(starts):
        one = solve(start)
        np.testing.assert_allclose(batched.params[i], one.params, rtol=1e-6)
        np.testing.assert_allclose(batched.value[i], one.value, rtol=1e-6)
    wanted = [RESULTS.max_steps, RESULTS.converged, RESULTS.nonfinite, RESULTS.converged]
    for i, result in enumerate(wanted):
        assert jax.tree_util.tree_map(lambda x, i=i: x[i], batched.result) == result


def test_minimize_over_a_batch_of_algorithms() -> None:
    rates = jnp.asarray([0.1, 0.2, 0.5])
    solutions = eqx.filter_vmap(lambda a: metaopt.minimize(bowl, a, START, steps=2))(eqx.filter_vmap(Descent)(rates))
    np.testing.assert_allclose(solutions.params, (1 - 2 * rates[:, None]) ** 2 * START[None, :], atol=1e-6)


def test_throw_under_jit() -> None:
    solve = eqx.filter_jit(lambda start: metaopt.minimize(walk, Descent(0.3), start, steps=9, throw=True).params)
    with pytest.raises(RuntimeError, match="became NaN or infinite"):
        jax.block_until_ready(solve(jnp.asarray(0.0)))


@pytest.mark.parametrize("steps", [0, -3])
def test_drivers_need_a_step(steps: int) -> None:
    message = f"`steps` must be at least 1, but {steps} was given"
    with pytest.raises(ValueError, match=message):
        metaopt.minimize(bowl, Descent(0.1), START, steps=steps)
    with pytest.raises(ValueError, match=message):
        metaopt.fixed_point(jnp.cos, Descent(1.0), START, steps=steps)


def test_only_a_task_draws_its_own_start() -> None:
    with pytest.raises(ValueError, match="`params` must be given"):
        metaopt.minimize(bowl, Descent(0.1), steps=3)


def test_a_start_of_python_numbers_is_taken_as_arrays() -> None:
    solution = metaopt.minimize(lambda x: (x - 1.0) ** 2, Descent(0.25), 0.0, steps=2)
    np.testing.assert_allclose(solution.params, 0.75)
    solution = metaopt.minimize(lambda p: (p["x"] - 1.0) ** 2, Descent(0.25), {"x": 0.0, "n": 3, "y": 1.5}, steps=2)
    np.testing.assert_allclose([solution.params["x"], solution.params["y"]], [0.75, 1.5])
    assert solution.params["n"] == 3
    np.testing.assert_allclose(metaopt.fixed_point(jnp.cos, Descent(1.0), 1.0, steps=50).params, 0.7390851, atol=1e-5)


def test_beside_arrays_python_numbers_are_constants() -> None:
    start = {"x": jnp.asarray(0.0), "center": 1.0}
    solution = metaopt.minimize(lambda p: (p["x"] - p["center"]) ** 2, Descent(0.25), start, steps=2)
    assert solution.params["center"] == 1.0
    np.testing.assert_allclose(solution.params["x"], 0.75)


@pytest.mark.parametrize("start", [0, {}, {"n": np.arange(3), "name": "x"}, jnp.arange(2)])
def test_a_start_with_nothing_to_train_is_refused(start: Any) -> None:
    with pytest.raises(ValueError, match="There is nothing to train in `params`"):
        metaopt.minimize(lambda x: jnp.asarray(0.0), Descent(0.1), start, steps=3)
    with pytest.raises(ValueError, match="There is nothing to train in `params`"):
        metaopt.fixed_point(lambda x: x, Descent(0.1), start, steps=3)
    with pytest.raises(metaopt.CheckError, match="`params` failed: ValueError: There is nothing to train"):
        metaopt.check(Descent(0.1), start)
    with pytest.raises(ValueError, match="There is nothing to train in `params`"):
        metaopt.unroll(metaopt.Learner(Descent(0.1), start), Bowl(jnp.asarray(1.0)), steps=3, key=jr.key(0))


def test_a_budget_is_an_integer() -> None:
    with pytest.raises(TypeError, match="whole number of steps|Type-check error"):
        metaopt.minimize(bowl, Descent(0.1), START, steps=2.0)  # pyright: ignore[reportArgumentType]


def halve(x: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Has the fixed points 2 and (0, 4)."""
    return {"a": 0.5 * x["a"] + 1.0, "b": 0.5 * x["b"] + jnp.asarray([0.0, 2.0])}


@pytest.mark.parametrize("rate", [1.0, 0.4])
def test_fixed_point_is_linear_mixing(rate: float) -> None:
    start = {"a": jnp.asarray(0.0), "b": jnp.zeros(2)}
    solution = metaopt.fixed_point(halve, Descent(rate), start, steps=3)
    left = (1 - rate / 2) ** 3
    np.testing.assert_allclose(solution.params["a"], 2.0 * (1 - left), rtol=1e-6)
    np.testing.assert_allclose(solution.params["b"], [0.0, 4.0 * (1 - left)], rtol=1e-6)
    np.testing.assert_allclose(solution.value, 0.5 * left * 20**0.5, rtol=1e-5)
    assert solution.result == RESULTS.max_steps


def test_fixed_point_stops_at_the_tolerance() -> None:
    solution = metaopt.fixed_point(jnp.cos, Descent(1.0), jnp.asarray(1.0), steps=200, tolerance=1e-5)
    np.testing.assert_allclose(solution.params, 0.7390851, atol=1e-5)
    assert solution.result == RESULTS.converged
    assert 20 < solution.steps < 40
    assert solution.value <= 1e-5


def test_fixed_point_reports_failure() -> None:
    solution = metaopt.fixed_point(lambda x: jnp.where(x < 100.0, 3.0 * x, jnp.nan), Descent(1.0), START, steps=50)
    assert solution.result == RESULTS.nonfinite
    np.testing.assert_allclose(solution.params, 27.0 * START)
    with pytest.raises(RuntimeError, match="Allow more steps"):
        metaopt.fixed_point(jnp.cos, Descent(0.1), START, steps=2, throw=True)


def test_fixed_point_does_not_mind_weak_types() -> None:
    weak = jnp.asarray(1.0)
    solution = metaopt.fixed_point(lambda x: jnp.cos(x).astype(jnp.float32), Descent(1.0), weak, steps=50)
    np.testing.assert_allclose(solution.params, 0.7390851, atol=1e-5)


OTHER_IMAGES: dict[str, Callable[[Any], Any]] = {
    "shape": lambda x: x[:1],
    "dtype": lambda x: x.astype(jnp.float16),
    "structure": lambda x: (x,),
    "number": lambda x: 1.0,
}


@pytest.mark.parametrize("name", OTHER_IMAGES)
def test_fixed_point_needs_what_it_gave(name: str) -> None:
    with pytest.raises(ValueError, match=r"`function` must return what it is given: given f32\[2\], but"):
        metaopt.fixed_point(OTHER_IMAGES[name], Descent(1.0), START, steps=2)


def test_fixed_point_under_jit_and_vmap() -> None:
    starts = jnp.asarray([0.0, 0.5, 1.0])
    solve = jax.vmap(lambda x: metaopt.fixed_point(jnp.cos, Descent(1.0), x, steps=100, tolerance=1e-5).params)
    np.testing.assert_allclose(jax.jit(solve)(starts), jnp.full(3, 0.7390851), atol=1e-5)
