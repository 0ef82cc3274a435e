"""Parts that plan ahead are told their budget, wherever they are."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metaopt

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
