"""The per-parameter network: all ways to compute it give what its definition says."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array

from metaopt.backend import XLA, Feature, Network, Pointwise, Tensor
from tests._cases import fast
from tests.backend.rule import CONTEXT, POINTWISE, SHAPES, apply, assert_matches, make, network


BACKENDS = {
    "default": XLA(),
    "gathered": XLA(block=10**9),
    "tiled": XLA(block=2048, unroll=0),
    "small tiles": XLA(block=1024, unroll=0),
    "tiny tiles": XLA(block=100, unroll=0),
    "unrolled": XLA(block=1024, unroll=10**6),
}


# The same path with tiles of other sizes.
_VARIANTS = {"small tiles", "tiny tiles"}
_MARKED = [pytest.param(x, id=name, marks=[pytest.mark.slow] * (name in _VARIANTS)) for name, x in BACKENDS.items()]


@pytest.mark.parametrize("shape", fast(SHAPES, "scalar", "matrix", "long vector", "convolution"))
@pytest.mark.parametrize("backend", _MARKED)
def test_it_is_what_its_definition_says(
    backend: XLA, shape: tuple[int, ...], x64: None, getkey: Callable[[], Array]
) -> None:
    net, context, tensor = network(getkey()), jr.normal(getkey(), (CONTEXT,)), make(shape, getkey())
    (found,) = apply(backend, net, context, [tensor])
    assert_matches(found, net, context, tensor, 1e-10)


@pytest.mark.parametrize("backend", _MARKED)
def test_single_precision_is_accurate(backend: XLA, getkey: Callable[[], Array]) -> None:
    net, context, tensor = network(getkey()), jr.normal(getkey(), (CONTEXT,)), make((200, 130), getkey())
    (found,) = apply(backend, net, context, [tensor])
    assert_matches(found, net, context, tensor, 5e-5)


@pytest.mark.slow
def test_many_tensors_of_mixed_size_and_precision(x64: None, getkey: Callable[[], Array]) -> None:
    net, context = network(getkey()), jr.normal(getkey(), (CONTEXT,))
    shapes = [(3, 4), (), (0,), (80, 80), (7,), (1500,), (0, 3), (900,), (2, 3, 4)]
    dtypes = [jnp.float32, jnp.float64] * 5
    tensors = [make(shape, getkey(), dtype) for shape, dtype in zip(shapes, dtypes, strict=False)]
    found = apply(XLA(block=1024), net, context, tensors)
    for tensor, updated in zip(tensors, found, strict=True):
        if tensor.param.size:
            assert_matches(updated, net, context, tensor, 1e-4 if tensor.param.dtype == jnp.float32 else 1e-10)
        else:
            assert updated.param.shape == tensor.shape and updated.state.shape == (2, *tensor.shape)


def test_features_without_rows_and_columns_need_no_matrix(x64: None, getkey: Callable[[], Array]) -> None:
    pointwise = Pointwise(
        lambda param, state, operands: (state, param),
        lambda x: [Feature(x), Feature(x**3)],
        lambda x, outputs: x + outputs[0],
    )
    net, x = Network.create([2, 6, 1], key=getkey()), jr.normal(getkey(), (3, 5001))
    none = jnp.zeros(0)
    tensors = [Tensor(x, None, None)]
    (gathered,) = apply(XLA(block=10**9), net, none, tensors, pointwise)
    (tiled,) = apply(XLA(block=1000, unroll=0), net, none, tensors, pointwise)
    (unrolled,) = apply(XLA(block=1000), net, none, tensors, pointwise)
    np.testing.assert_allclose(tiled.param, gathered.param, rtol=1e-12)
    np.testing.assert_allclose(unrolled.param, gathered.param, rtol=1e-12)


DIFFERENTIATED = {name: BACKENDS[name] for name in ("gathered", "tiled", "unrolled")}


def _loss(backend: XLA, net: Network, context: Array, tensor: tuple[Any, ...]) -> Array:
    ((memory, param),) = backend.network_update(POINTWISE, net, context, [Tensor(*tensor)])
    return jnp.mean(jnp.sin(param)) + jnp.mean(jnp.cos(memory))


@pytest.mark.parametrize("shape", [(50, 60), pytest.param((4000,), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("backend", fast(DIFFERENTIATED, "tiled", "unrolled"))
def test_gradients_are_right(backend: XLA, shape: tuple[int, ...], x64: None, getkey: Callable[[], Array]) -> None:
    arguments = (network(getkey()), jr.normal(getkey(), (CONTEXT,)), make(shape, getkey())[:3])
    directions = [jr.normal(getkey(), leaf.shape) for leaf in jax.tree_util.tree_leaves(arguments)]
    tangents = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(arguments), directions)

    def loss(*arguments: object) -> Array:
        return _loss(backend, *arguments)  # type: ignore[arg-type]

    @jax.jit
    def along(step: float) -> Array:
        return loss(*jax.tree_util.tree_map(lambda a, t: a + step * t, arguments, tangents))

    reverse = jax.tree_util.tree_leaves(jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arguments))
    slope = sum(float(jnp.sum(g * d)) for g, d in zip(reverse, directions, strict=True))
    np.testing.assert_allclose(slope, (along(1e-6) - along(-1e-6)) / 2e-6, rtol=1e-5)
    forward = jax.jit(lambda x, t: jax.jvp(loss, x, t)[1])(arguments, tangents)
    np.testing.assert_allclose(forward, slope, rtol=1e-9)
    gathered = jax.jit(jax.grad(lambda *a: _loss(BACKENDS["gathered"], *a), argnums=(0, 1, 2)))(*arguments)
    for mine, theirs in zip(reverse, jax.tree_util.tree_leaves(gathered), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("backend", DIFFERENTIATED.values(), ids=DIFFERENTIATED.keys())
def test_particles_with_their_own_weights(backend: XLA, x64: None, getkey: Callable[[], Array]) -> None:
    shapes = [(60, 50), (50,), ()]
    net = jax.vmap(network)(jr.split(getkey(), 3))
    context = jr.normal(getkey(), (CONTEXT,))
    tensors = [jax.vmap(lambda k, s=shape: make(s, k)[:3])(jr.split(getkey(), 3)) for shape in shapes]

    def kernel(net: Network, arrays: list[tuple[Any, ...]]) -> list[Array]:
        updated = backend.network_update(POINTWISE, net, context, [Tensor(*own) for own in arrays])
        return jax.tree_util.tree_leaves(updated)

    together, single = jax.jit(jax.vmap(kernel))(net, tensors), jax.jit(kernel)
    for index in range(3):
        alone = single(*jax.tree_util.tree_map(lambda leaf: leaf[index], (net, tensors)))
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[index], b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("backend", fast(DIFFERENTIATED, "gathered", "unrolled"))
@pytest.mark.parametrize("spec", [PartitionSpec("d"), PartitionSpec(None, "d")], ids=["rows", "columns"])
def test_sharded_tensors(backend: XLA, spec: PartitionSpec, x64: None, getkey: Callable[[], Array]) -> None:
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    net, context, tensor = network(getkey()), jr.normal(getkey(), (CONTEXT,)), make((64, 72), getkey())
    param = jax.device_put(tensor.param, NamedSharding(mesh, spec))
    assert len(param.sharding.device_set) == 8

    @jax.jit
    def kernel(param: Array) -> Array:
        return backend.network_update(POINTWISE, net, context, [tensor._replace(param=param)])[0].param

    np.testing.assert_allclose(kernel(param), kernel(tensor.param), rtol=1e-12, atol=1e-14)


def test_a_backend_is_static() -> None:
    assert XLA() == XLA() and hash(XLA()) == hash(XLA())
    assert XLA() != XLA(block=16)
    assert jax.tree_util.tree_leaves(XLA()) == []
    traces = []

    @eqx.filter_jit
    def apply(backend: XLA, x: Array) -> Array:
        traces.append(backend.block)
        return x

    for backend in (XLA(), XLA(), XLA(block=16)):
        apply(backend, jnp.zeros(()))
    assert traces == [None, 16]


@pytest.mark.slow
def test_temporaries_stay_small(getkey: Callable[[], Array]) -> None:
    shape = (512, 1024)
    net, context, tensor = network(getkey(), 32, 32), jr.normal(getkey(), (CONTEXT,)), make(shape, getkey())

    def temporary(backend: XLA) -> float:
        apply = jax.jit(lambda n, c, t: backend.network_update(POINTWISE, n, c, [Tensor(*t)]))
        memory = apply.lower(net, context, tensor[:3]).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes / 2**20

    assert temporary(XLA()) < 4
    assert temporary(XLA(block=10**9)) > 60


def test_a_block_without_elements_is_refused() -> None:
    with pytest.raises(ValueError, match="`block` must be at least 1, but 0 was given"):
        XLA(block=0)
