"""Parts that plan ahead are told their budget, wherever they are."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metaopt
from metaopt._core._algorithm import horizon_leaf

from .problems import Descent, Planned


def test_planners_are_found_at_any_depth() -> None:
    inner: Any = metaopt.ClipByGlobalNorm(Planned(inner=metaopt.SkipNonFinite(Planned())))
    tree: dict[str, Any] = {"learner": metaopt.Learner(inner), "other": [Planned(), Descent(0.1), "text", None]}
    told = metaopt.with_horizon(tree, 42)
    outer = told["learner"].algorithm.inner
    assert outer.horizon == outer.inner.inner.horizon == told["other"][0].horizon == 42
    assert outer.horizon.dtype == jnp.int32
    assert told["other"][1:] == tree["other"][1:]
    assert inner.inner.horizon == 7


def test_the_rest_is_the_same() -> None:
    algorithm = metaopt.WeightDecay(Planned(), 0.3)
    told = metaopt.with_horizon(algorithm, 42)
    assert told.rate is algorithm.rate
    assert jax.tree_util.tree_structure(told) == jax.tree_util.tree_structure(algorithm)


def test_what_does_not_plan_is_returned_as_it_is() -> None:
    algorithm = metaopt.ClipByGlobalNorm(Descent(0.1))
    assert metaopt.with_horizon(algorithm, 42) is algorithm


def test_one_planner_may_stand_in_two_places() -> None:
    planner = Planned()
    told = metaopt.with_horizon([planner, planner], 3)
    assert [p.horizon for p in told] == [3, 3]


def test_the_budget_may_be_traced() -> None:
    def total(steps: jax.Array) -> jax.Array:
        planner = metaopt.with_horizon(Planned(), steps)
        return planner.step(planner.init(jnp.zeros(())) + 1, jnp.zeros(()), jnp.ones(()))[1]

    np.testing.assert_allclose(jax.jit(jax.vmap(total))(jnp.asarray([2, 4])), [-1 / 2, -3 / 4])


def test_a_batch_of_planners_is_told_at_once() -> None:
    planners = eqx.filter_vmap(lambda n: Planned(n))(jnp.asarray([3, 4, 5]))
    told = eqx.filter_vmap(lambda p: metaopt.with_horizon(p, 9))(planners)
    np.testing.assert_array_equal(told.horizon, [9, 9, 9])


@pytest.mark.parametrize("steps", [0, -1])
def test_there_must_be_a_step(steps: int) -> None:
    with pytest.raises(ValueError, match=f"`steps` must be at least 1, but {steps} was given"):
        metaopt.with_horizon(Planned(), steps)
    with pytest.raises(ValueError, match="at least 1"):
        metaopt.with_horizon(Descent(0.1), steps)


@pytest.mark.parametrize("steps", ["100", 100.5, 100.0, True, 1j, np.float32(3), np.asarray(3.0)])
def test_the_budget_is_an_integer(steps: Any) -> None:
    # Under the tests' checker of annotations, which users do not have, most are refused even before.
    with pytest.raises(TypeError, match="must be a whole number of steps|Type-check error"):
        metaopt.with_horizon(Planned(), steps)
    with pytest.raises(TypeError, match="must be a whole number of steps, an integer such as 100, but"):
        horizon_leaf(steps)


@pytest.mark.parametrize("steps", [np.asarray([3, 4]), np.int64(0), 2**31])
def test_the_budget_is_one_positive_number(steps: Any) -> None:
    with pytest.raises(ValueError, match="must be (a single number|at least 1|below 2)"):
        horizon_leaf(steps)


@pytest.mark.parametrize("steps", [3, np.int64(3), np.asarray(3, np.int16), jnp.asarray(3)])
def test_integers_of_all_kinds_are_budgets(steps: Any) -> None:
    told = metaopt.with_horizon(Planned(), steps).horizon
    assert (told, told.dtype) == (3, jnp.int32)
