"""Every algorithm gives the same numbers under `jit`, `vmap`, `scan` and sharding."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest
from hypothesis import given, settings
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from .algorithms import FEW, make
from .running import init, scanned, step, two_steps
from .trees import FEW as SMALL, MIXED, MIXED_DOUBLE, assert_close, draw, scales, seeds


def _problem(layout: Any, seed: int, scale: float = 1.0) -> tuple[Any, list[Any]]:
    return draw(layout, seed), [draw(layout, seed + i, scale) for i in (1, 2)]


@pytest.mark.parametrize("name", FEW)
@settings(max_examples=2)
@given(seed=seeds, scale=scales)
def test_jit_is_eager(name: str, seed: int, scale: float) -> None:
    params, signals = _problem(SMALL, seed, scale)
    eager = two_steps(make(name), params, signals, init=init, step=step)
    assert_close(two_steps(make(name), params, signals), eager)


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
@settings(max_examples=2)
@given(seed=seeds)
def test_scan_is_a_loop_in_double_precision(name: str, seed: int) -> None:
    with jax.enable_x64(True):
        params, signals = _problem(MIXED_DOUBLE, seed)
        assert_close(scanned(make(name), params, signals), two_steps(make(name), params, signals))


_vmap_init = eqx.filter_jit(eqx.filter_vmap(init, in_axes=(None, 0)))
_vmap_step = eqx.filter_jit(eqx.filter_vmap(step, in_axes=(None, 0, 0, 0, None)))


@pytest.mark.parametrize("name", FEW)
@settings(max_examples=2)
@given(seed=seeds, scale=scales)
def test_vmap_is_a_loop(name: str, seed: int, scale: float) -> None:
    members = [_problem(MIXED, seed + 10 * i, scale) for i in range(2)]
    params, signals = jtu.tree_map(lambda *x: jnp.stack(x), *members)
    batched = two_steps(make(name), params, signals, init=_vmap_init, step=_vmap_step)
    for i, member in enumerate(members):
        assert_close(
            jtu.tree_map(lambda x, i=i: x[i], eqx.filter(batched, eqx.is_array)), two_steps(make(name), *member)
        )


SHARDED = {"weight": ((16, 3), "float32"), "bias": ((8,), "float32"), "scalar": ((), "float32")}


@pytest.mark.parametrize("name", FEW)
def test_sharded_is_unsharded(name: str) -> None:
    assert len(jax.devices()) == 8
    mesh = jax.make_mesh((8,), ("shard",), axis_types=(AxisType.Auto,))

    def shard(x: jax.Array) -> jax.Array:
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*("shard",)[: x.ndim])))

    params, signals = _problem(SHARDED, 0)
    spread = jtu.tree_map(shard, (params, signals))
    assert len(spread[0]["weight"].addressable_shards[0].data) == 2
    # A recurrent state sees sums in another order, and amplifies what that rounds.
    # The pseudo-inverse of a Gramian amplifies it, too.
    rtol = 1e-5 if name in ("recurrent_controller", "rnn_prop", "imtl_g") else 1e-6
    assert_close(two_steps(make(name), *spread), two_steps(make(name), params, signals), rtol=rtol)
