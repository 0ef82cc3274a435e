"""The per-parameter network: all ways to compute it give what its definition says."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array

from metaopt.backend import XLA, Feature, Layer, Network, Pointwise, Tensor, per_tensor


class Operands(NamedTuple):
    param: Array
    stack: Array
    row: Array
    col: Array
    rate: Array
    shift: Array


def features(x: Operands) -> list[Feature]:
    return [
        Feature(x.param),
        Feature(x.row),
        *[Feature(layer * x.col) for layer in x.stack],
        Feature(jnp.exp(x.col), jnp.exp(2 * x.col)),
        Feature(jnp.sin(x.stack[1]), jnp.sin(x.stack[1]) ** 2),
    ]


def finish(x: Operands, outputs: Sequence[Array]) -> Array:
    first, second = outputs
    return x.param * x.row - x.rate * first * jnp.exp(second * x.shift[0])


POINTWISE = Pointwise(features, finish)
CONTEXT = 3
INPUTS = 6 + CONTEXT
BACKENDS = {
    "default": XLA(),
    "gathered": XLA(block=10**9),
    "tiled": XLA(block=2048, unroll=0),
    "small tiles": XLA(block=1024, unroll=0),
    "tiny tiles": XLA(block=100, unroll=0),
    "unrolled": XLA(block=1024, unroll=10**6),
}
SHAPES = {
    "scalar": (),
    "one": (1,),
    "vector": (30,),
    "matrix": (5, 7),
    "long vector": (5000,),
    "square": (70, 72),
    "prime rows": (97, 64),
    "narrow": (3001, 2),
    "column": (4099, 1),
    "wide": (2, 5000),
    "one row": (1, 6000),
    "rows as long as a tile": (3, 2048),
    "convolution": (3, 3, 32, 40),
    "channels first": (40, 32, 3, 3),
    "three axes": (5, 40, 30),
    "lead as long as rows": (30, 30, 40),
}


def make(shape: tuple[int, ...], key: Array, dtype: type = float) -> Tensor:
    keys = jr.split(key, 6)
    row = tuple(1 if axis == len(shape) - 1 and axis > 0 else n for axis, n in enumerate(shape))
    col = tuple(1 if axis == len(shape) - 2 else n for axis, n in enumerate(shape))
    operands = Operands(
        param=jr.normal(keys[0], shape, dtype),
        stack=jr.normal(keys[1], (2, *shape), dtype) * 3,
        row=jr.normal(keys[2], row, dtype),
        col=jr.normal(keys[3], col, dtype),
        rate=jr.uniform(keys[4], (), dtype),
        shift=per_tensor(jr.normal(keys[5], (1,), dtype), shape),
    )
    return Tensor(operands, shape)


def network(key: Array, hidden: int = 4) -> Network:
    plain = Network.create([INPUTS, hidden, hidden, 2], key=key)
    shifted = tuple(Layer(layer.weight, jnp.linspace(-0.5, 0.5, layer.bias.size)) for layer in plain.layers)
    return Network(shifted)


def apply(
    backend: XLA, net: Network, context: Array, tensors: Sequence[Tensor], pointwise: Pointwise = POINTWISE
) -> list[Array]:
    """The kernel, compiled as a whole."""
    shapes = [tensor.shape for tensor in tensors]

    @jax.jit
    def compiled(net: Network, context: Array, operands: list[Any]) -> list[Array]:
        own = [Tensor(o, shape) for o, shape in zip(operands, shapes, strict=True)]
        return backend.pointwise_network(pointwise, net, context, own)

    return compiled(net, context, [tensor.operands for tensor in tensors])


def by_definition(network: Network, context: Array, tensor: Tensor) -> np.ndarray:
    x: Any = Operands(*(np.asarray(leaf, np.float64) for leaf in tensor.operands))  # type: ignore[arg-type]
    values = [x.param, x.row, x.stack[0] * x.col, x.stack[1] * x.col, np.exp(x.col), np.sin(x.stack[1])]
    values = [np.broadcast_to(value, tensor.shape) for value in values]
    inputs = [value / np.sqrt(np.mean(value**2) + 1e-5) for value in values]
    inputs += [np.full(tensor.shape, float(c)) for c in context]
    z = np.stack(inputs, axis=-1)
    for index, layer in enumerate(network.layers):
        z = z @ np.asarray(layer.weight, np.float64).T + np.asarray(layer.bias, np.float64)
        z = z if index == len(network.layers) - 1 else np.maximum(z, 0)
    return x.param * x.row - x.rate * z[..., 0] * np.exp(z[..., 1] * x.shift.reshape(-1)[0])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS.keys())
def test_it_is_what_its_definition_says(
    backend: XLA, shape: tuple[int, ...], x64: None, getkey: Callable[[], Array]
) -> None:
    net, context, tensor = network(getkey()), jr.normal(getkey(), (CONTEXT,)), make(shape, getkey())
    (found,) = apply(backend, net, context, [tensor])
    assert found.shape == shape and found.dtype == jnp.float64
    np.testing.assert_allclose(found, by_definition(net, context, tensor), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS.keys())
def test_single_precision_is_accurate(backend: XLA, getkey: Callable[[], Array]) -> None:
    net, context, tensor = network(getkey()), jr.normal(getkey(), (CONTEXT,)), make((200, 130), getkey())
    (found,) = apply(backend, net, context, [tensor])
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, by_definition(net, context, tensor), rtol=1e-4, atol=1e-5)


def test_many_tensors_of_mixed_size_and_precision(x64: None, getkey: Callable[[], Array]) -> None:
    net, context = network(getkey()), jr.normal(getkey(), (CONTEXT,))
    shapes = [(3, 4), (), (0,), (80, 80), (7,), (1500,), (0, 3), (900,), (2, 3, 4)]
    dtypes = [jnp.float32, jnp.float64] * 5
    tensors = [make(shape, getkey(), dtype) for shape, dtype in zip(shapes, dtypes, strict=False)]
    found = apply(XLA(block=1024), net, context, tensors)
    for tensor, array in zip(tensors, found, strict=True):
        assert array.shape == tensor.shape and array.dtype == tensor.operands.param.dtype
        if array.size:
            tolerance = 1e-4 if array.dtype == jnp.float32 else 1e-10
            np.testing.assert_allclose(array, by_definition(net, context, tensor), rtol=tolerance, atol=tolerance)


def test_features_without_rows_and_columns_need_no_matrix(x64: None, getkey: Callable[[], Array]) -> None:
    pointwise = Pointwise(lambda x: [Feature(x), Feature(x**3)], lambda x, outputs: x + outputs[0])
    net, x = Network.create([2, 6, 1], key=getkey()), jr.normal(getkey(), (3, 5001))
    none = jnp.zeros(0)
    tensors = [Tensor(x, x.shape)]
    (gathered,) = apply(XLA(block=10**9), net, none, tensors, pointwise)
    (tiled,) = apply(XLA(block=1000, unroll=0), net, none, tensors, pointwise)
    (unrolled,) = apply(XLA(block=1000), net, none, tensors, pointwise)
    np.testing.assert_allclose(tiled, gathered, rtol=1e-12)
    np.testing.assert_allclose(unrolled, gathered, rtol=1e-12)


DIFFERENTIATED = {name: BACKENDS[name] for name in ("gathered", "tiled", "unrolled")}


def _loss(backend: XLA, shape: tuple[int, ...], net: Network, context: Array, operands: Operands) -> Array:
    (out,) = backend.pointwise_network(POINTWISE, net, context, [Tensor(operands, shape)])
    return jnp.mean(jnp.sin(out))


@pytest.mark.parametrize("shape", [(50, 60), (4000,)], ids=str)
@pytest.mark.parametrize("backend", DIFFERENTIATED.values(), ids=DIFFERENTIATED.keys())
def test_gradients_are_right(backend: XLA, shape: tuple[int, ...], x64: None, getkey: Callable[[], Array]) -> None:
    arguments = (network(getkey()), jr.normal(getkey(), (CONTEXT,)), make(shape, getkey()).operands)
    directions = [jr.normal(getkey(), leaf.shape) for leaf in jax.tree_util.tree_leaves(arguments)]
    tangents = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(arguments), directions)

    def loss(*arguments: object) -> Array:
        return _loss(backend, shape, *arguments)  # type: ignore[arg-type]

    @jax.jit
    def along(step: float) -> Array:
        return loss(*jax.tree_util.tree_map(lambda a, t: a + step * t, arguments, tangents))

    reverse = jax.tree_util.tree_leaves(jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arguments))
    slope = sum(float(jnp.sum(g * d)) for g, d in zip(reverse, directions, strict=True))
    np.testing.assert_allclose(slope, (along(1e-6) - along(-1e-6)) / 2e-6, rtol=1e-5)
    forward = jax.jit(lambda x, t: jax.jvp(loss, x, t)[1])(arguments, tangents)
    np.testing.assert_allclose(forward, slope, rtol=1e-9)
    gathered = jax.jit(jax.grad(lambda *a: _loss(BACKENDS["gathered"], shape, *a), argnums=(0, 1, 2)))(*arguments)
    for mine, theirs in zip(reverse, jax.tree_util.tree_leaves(gathered), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", DIFFERENTIATED.values(), ids=DIFFERENTIATED.keys())
def test_particles_with_their_own_weights(backend: XLA, x64: None, getkey: Callable[[], Array]) -> None:
    shapes = [(60, 50), (50,), ()]
    net = jax.vmap(network)(jr.split(getkey(), 3))
    context = jr.normal(getkey(), (CONTEXT,))
    tensors = [jax.vmap(lambda k, s=shape: make(s, k).operands)(jr.split(getkey(), 3)) for shape in shapes]

    def kernel(net: Network, operands: list[Operands]) -> list[Array]:
        own = [Tensor(o, shape) for o, shape in zip(operands, shapes, strict=True)]
        return backend.pointwise_network(POINTWISE, net, context, own)

    together, single = jax.jit(jax.vmap(kernel))(net, tensors), jax.jit(kernel)
    for index in range(3):
        alone = single(*jax.tree_util.tree_map(lambda leaf: leaf[index], (net, tensors)))
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[index], b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("backend", DIFFERENTIATED.values(), ids=DIFFERENTIATED.keys())
@pytest.mark.parametrize("spec", [PartitionSpec("d"), PartitionSpec(None, "d")], ids=["rows", "columns"])
def test_sharded_tensors(backend: XLA, spec: PartitionSpec, x64: None, getkey: Callable[[], Array]) -> None:
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    net, context, tensor = network(getkey()), jr.normal(getkey(), (CONTEXT,)), make((64, 72), getkey())
    param = jax.device_put(tensor.operands.param, NamedSharding(mesh, spec))
    assert len(param.sharding.device_set) == 8

    @jax.jit
    def kernel(operands: Operands) -> Array:
        return backend.pointwise_network(POINTWISE, net, context, [Tensor(operands, (64, 72))])[0]

    sharded = kernel(tensor.operands._replace(param=param))
    np.testing.assert_allclose(sharded, kernel(tensor.operands), rtol=1e-12, atol=1e-14)


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
    assert traces == [8192, 16]


def test_temporaries_stay_small(getkey: Callable[[], Array]) -> None:
    shape = (512, 1024)
    net, context, tensor = network(getkey(), 32), jr.normal(getkey(), (CONTEXT,)), make(shape, getkey())

    def temporary(backend: XLA) -> float:
        apply = jax.jit(lambda n, c, o: backend.pointwise_network(POINTWISE, n, c, [Tensor(o, shape)]))
        memory = apply.lower(net, context, tensor.operands).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes / 2**20

    assert temporary(XLA()) < 4
    assert temporary(XLA(block=10**9)) > 60


def test_a_block_without_elements_is_refused() -> None:
    with pytest.raises(ValueError, match="`block` must be at least 1, but 0 was given"):
        XLA(block=0)
