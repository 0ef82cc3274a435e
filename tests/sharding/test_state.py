"""States are laid out as the parameters are, and stepping gathers nothing."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from jaxtyping import Array

import metaopt
from metaopt.l2o import Controller
from metaopt.sharding import make_mesh, shard_state


ALGORITHMS = {
    "adam": metaopt.from_optax(optax.adam, learning_rate=jnp.asarray(0.01)),
    "controller": Controller(0.01),
}
SPECS = {"w": P(None, "model"), "b": P("model"), "s": P()}


def _params(key: Array) -> dict[str, Array]:
    shapes = {"w": (48, 64), "b": (64,), "s": ()}
    return {name: jr.normal(jr.fold_in(key, i), shapes[name]) for i, name in enumerate(shapes)}


def _spread(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    return {name: jax.device_put(x, NamedSharding(mesh, SPECS[name])) for name, x in tree.items()}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_sharded_model_steps_as_a_whole_one_without_gathering(name: str, getkey: Callable[[], Array]) -> None:
    algorithm, mesh = ALGORITHMS[name], make_mesh(model=8)
    params, grads = _params(getkey()), _params(getkey())
    spread, spread_grads = _spread(params, mesh), _spread(grads, mesh)
    state = shard_state(algorithm, spread)
    for leaf in jtu.tree_leaves(eqx.filter(state, eqx.is_array)):
        if leaf.shape[-2:] == (48, 64):
            assert leaf.addressable_shards[0].data.shape[-2:] == (48, 8)
    dynamic, static = eqx.partition(state, eqx.is_array)

    def step(dynamic: Any, params: Any, grads: Any) -> Any:
        new, params = algorithm.step(eqx.combine(dynamic, static), params, grads)
        return eqx.filter(new, eqx.is_array), params

    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(dynamic, spread, spread_grads).compile()
    assert "all-gather" not in (compiled.as_text() or "all-gather")
    whole, expected = algorithm.init(params), params
    for _ in range(2):
        whole, expected = algorithm.step(whole, expected, grads)
    # The first call takes the memory of its arguments, which `params` may share.
    for _ in range(2):
        dynamic, spread = compiled(dynamic, spread, spread_grads)
    for key in expected:
        np.testing.assert_allclose(spread[key], expected[key], rtol=1e-5, atol=1e-6)
        assert spread[key].sharding.is_equivalent_to(NamedSharding(mesh, SPECS[key]), spread[key].ndim)


def test_the_state_is_that_of_init() -> None:
    mesh, params = make_mesh(model=4), {"w": jnp.ones((8, 4)), "b": jnp.ones(4), "s": jnp.ones(())}
    state = shard_state(Controller(0.01), _spread(params, mesh))
    assert eqx.tree_equal(state, Controller(0.01).init(params))


def test_parameters_that_are_on_no_mesh_are_refused() -> None:
    with pytest.raises(ValueError, match="must lie on one mesh, but they lie on 0"):
        shard_state(Controller(0.01), {"w": jnp.ones(3)})
