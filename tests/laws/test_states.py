"""Every state is made of what tools for optax and Flax know: named tuples, tuples, lists and dictionaries."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import optax
import pytest

import metaopt
from metaopt.l2o import pretrained

from .algorithms import OPTIONS, make
from .running import init
from .trees import assert_close, draw, shapes


LAYOUT = {"bias": ((3,), "float32"), "weight": ((2, 4), "float32")}
COUNTED = ["mlp", "adafac_mlp", "nn_adam", "rnn_prop", "lstm", "celo", "celo2", "velo", "recurrent_controller", "adam"]
# Their states mirror the parameters, so that a sharding or a mask for these is one for those.
MIRRORING = {"adam": 2, "clip_by_global_norm": 2, "ewc": 3, "proximal": 3, "safeguarded": 3}


def _strange(node: Any) -> list[str]:
    """The types of nodes that `flax.serialization` has no rule for."""
    if node is None or eqx.is_array(node) or isinstance(node, jax.ShapeDtypeStruct):
        return []
    if isinstance(node, dict):
        return [name for child in node.values() for name in _strange(child)]
    if type(node) in (tuple, list) or isinstance(node, tuple) and node.__class__.__base__ is tuple:
        return [name for child in node for name in _strange(child)]
    return [type(node).__name__]


@pytest.mark.parametrize("name", OPTIONS)
def test_states_are_plain_containers(name: str) -> None:
    assert _strange(eqx.filter_eval_shape(init, make(name), shapes(LAYOUT))) == []


@pytest.mark.parametrize("name", [*COUNTED, "general"])
def test_the_count_is_found(name: str) -> None:
    algorithm = pretrained(name) if name == "general" else make(name)
    state = eqx.filter_eval_shape(init, algorithm, shapes(LAYOUT))
    assert optax.tree.get(state, "count").dtype == jnp.int32
    assert optax.tree.get(optax.tree.set(state, count=7), "count") == 7


@pytest.mark.parametrize("name", OPTIONS)
def test_only_what_mirrors_parameters_is_mapped_as_parameters(name: str) -> None:
    tx = metaopt.to_optax(metaopt.with_horizon(make(name), 100), key=jr.key(0))
    params = shapes(LAYOUT)
    state = eqx.filter_eval_shape(init, make(name), params)
    seen = []

    def mapped(leaf: Any, param: Any) -> Any:
        assert leaf.shape == param.shape
        seen.append(leaf)
        return leaf

    new = optax.tree.map_params(tx, mapped, state, params)
    assert jtu.tree_structure(new) == jtu.tree_structure(state)
    assert len(seen) == len(LAYOUT) * MIRRORING.get(name, len(seen) // len(LAYOUT))
    others = optax.tree.map_params(tx, mapped, state, params, transform_non_params=lambda _: None)
    assert len(jtu.tree_leaves(others)) == len(seen) // 2


@pytest.mark.parametrize("name", ["adam", "mlp", "velo", "celo2", "skip_non_finite", "safeguarded"])
def test_flax_writes_and_reads_states(name: str) -> None:
    serialization = pytest.importorskip("flax.serialization")
    state = init(make(name), draw(LAYOUT, 0))
    blank = jtu.tree_map(jnp.zeros_like, state)
    read = serialization.from_bytes(blank, serialization.to_bytes(state))
    assert type(read) is type(state)
    assert_close(jtu.tree_map(jnp.asarray, read), state, rtol=0.0)
