"""States are laid out as the parameters are, and stepping gathers nothing."""

import math
import re
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
from metaopt.backend import XLA, automatic
from metaopt.l2o import LSTM, MLP, AdafacMLP, AdamHead, Celo, Celo2, CeloAdam, Controller, RNNProp, VeLO
from metaopt.sharding import make_mesh, shard_algorithm, shard_state
from tests._cases import fast


ALGORITHMS = {
    "adam": metaopt.from_optax(optax.adam, learning_rate=jnp.asarray(0.01)),
    "controller": Controller(0.01),
    "adafac_mlp": AdafacMLP(8, backend=XLA()),
    "adafac_mlp, large tensors": AdafacMLP(4, backend=XLA(block=256)),
    "adafac_mlp, anchored": AdafacMLP(4, head=AdamHead(), backend=XLA()),
    "mlp": MLP(8, backend=XLA()),
    "lstm": LSTM(5),
    "rnn_prop": RNNProp(5),
    "celo": Celo(scheduler_size=5, backend=XLA()),
    "celo_adam": CeloAdam(scheduler_size=5),
    "celo2, base": Celo2(orthogonalize=False, adam_scale=None, backend=XLA()),
    "velo": VeLO(scheduler_size=5, bank_size=3, direction_scale=1.0, backend=XLA()),
}
SPECS = {"w": P(None, "model"), "b": P("model"), "s": P()}


def _params(key: Array) -> dict[str, Array]:
    shapes = {"w": (48, 64), "b": (64,), "s": ()}
    return {name: jr.normal(jr.fold_in(key, i), shapes[name]) for i, name in enumerate(shapes)}


def _spread(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    return {name: jax.device_put(x, NamedSharding(mesh, SPECS[name])) for name, x in tree.items()}


@pytest.mark.parametrize("name", fast(list(ALGORITHMS), "adam", "adafac_mlp, large tensors", "mlp", "lstm", "celo"))
def test_a_sharded_model_steps_as_a_whole_one_without_gathering(name: str, getkey: Callable[[], Array]) -> None:
    mesh = make_mesh(model=8)
    params, grads = _params(getkey()), _params(getkey())
    spread, spread_grads = _spread(params, mesh), _spread(grads, mesh)
    algorithm = shard_algorithm(ALGORITHMS[name], spread)
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
    whole, expected = ALGORITHMS[name].init(params), params
    one = eqx.filter_jit(ALGORITHMS[name].step)
    for _ in range(2):
        whole, expected = one(whole, expected, grads)
    # The first call takes the memory of its arguments, which `params` may share.
    for _ in range(2):
        dynamic, spread = compiled(dynamic, spread, spread_grads)
    for key in expected:
        np.testing.assert_allclose(spread[key], expected[key], rtol=1e-5, atol=1e-6)
        assert spread[key].sharding.is_equivalent_to(NamedSharding(mesh, SPECS[key]), spread[key].ndim)


def _collectives(text: str) -> list[tuple[str, list[int]]]:
    """Each collective operation of a compiled program, with the numbers of elements of what it moves."""
    found = re.findall(r"= (.*?) (all-gather|all-reduce|all-to-all|collective-permute)(?:-start)?\(", text)
    return [
        (name, [math.prod(map(int, filter(None, dims.split(",")))) for dims in re.findall(r"\w+\[([\d,]*)\]", shape)])
        for shape, name in found
    ]


@pytest.mark.slow
def test_large_tensors_in_all_layouts_gather_nothing(getkey: Callable[[], Array]) -> None:
    # The backend of this machine: on CPUs with a compiler, native kernels run inside of each shard.
    cell = AdafacMLP(8, backend=automatic())
    mesh = make_mesh(data=4, model=2)
    specs = {
        "both": P("data", "model"),
        "columns": P(None, "data"),
        "vector": P(("data", "model")),
        "convolution": P(None, None, "model", "data"),
    }
    shapes = {"both": (192, 512), "columns": (192, 512), "vector": (40000,), "convolution": (3, 3, 64, 128)}
    keys = jr.split(getkey(), 2)
    params, grads = ({n: np.asarray(jr.normal(k, shape)) for n, shape in shapes.items()} for k in keys)
    place = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    spread, spread_grads = jax.device_put(params, place), jax.device_put(grads, place)
    algorithm = shard_algorithm(cell, spread)
    state = shard_state(algorithm, spread)
    for name, leaf in state.tensors.items():
        # Two parameters of one shape are told apart by their paths.
        momenta = leaf.averages.elements.momenta
        assert momenta.sharding.is_equivalent_to(NamedSharding(mesh, P(None, *specs[name])), momenta.ndim)
    compiled = (
        jax.jit(lambda *x: algorithm.step(*x), donate_argnums=(0, 1)).lower(state, spread, spread_grads).compile()
    )
    for name, sizes in _collectives(compiled.as_text() or ""):
        assert name == "all-reduce" and max(sizes) <= 3 * 512, (name, sizes)
    state, spread = compiled(state, spread, spread_grads)
    whole = jtu.tree_map(jnp.asarray, params)
    expected_state, expected = eqx.filter_jit(cell.step)(cell.init(whole), whole, grads)
    for name in specs:
        np.testing.assert_allclose(spread[name], expected[name], rtol=1e-6, atol=1e-6)
        assert spread[name].sharding.is_equivalent_to(place[name], spread[name].ndim)
    for ours, theirs in zip(jtu.tree_leaves(state), jtu.tree_leaves(expected_state), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_other_parameters_than_it_was_sharded_for_are_refused() -> None:
    mesh = make_mesh(model=4)
    algorithm = shard_algorithm(AdafacMLP(4), jax.device_put({"w": jnp.ones((8, 4))}, NamedSharding(mesh, P("model"))))
    other = {"v": jnp.ones((8, 4))}
    with pytest.raises(ValueError, match=r"`params\['v'\]` is not among the parameters .* which are params\['w'\]"):
        algorithm.step(algorithm.init(other), other, other)


def test_sharding_twice_is_sharding_once() -> None:
    params = jax.device_put({"w": jnp.ones((8, 4))}, NamedSharding(make_mesh(model=4), P("model")))
    once = shard_algorithm(AdafacMLP(4), params)
    assert jtu.tree_structure(shard_algorithm(once, params)) == jtu.tree_structure(once)


def test_the_state_is_that_of_init() -> None:
    mesh, params = make_mesh(model=4), {"w": jnp.ones((8, 4)), "b": jnp.ones(4), "s": jnp.ones(())}
    state = shard_state(Controller(0.01), _spread(params, mesh))
    assert eqx.tree_equal(state, Controller(0.01).init(params))


def test_parameters_that_are_on_no_mesh_are_refused() -> None:
    with pytest.raises(ValueError, match="must lie on one mesh, but they lie on 0"):
        shard_state(Controller(0.01), {"w": jnp.ones(3)})
