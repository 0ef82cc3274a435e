"""A rule that uses all that `network_update` offers, on tensors of many shapes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from metaopt.backend import AbstractBackend, Feature, Layer, Network, Pointwise, Tensor, Updated, per_tensor


class Operands(NamedTuple):
    grad: Array
    row: Array
    col: Array
    rate: Array
    fresh: Array


class Seen(NamedTuple):
    param: Array
    memory: Array
    operands: Operands


def observe(param: Array, memory: Array, x: Operands) -> tuple[Array, Seen]:
    memory = memory + x.fresh * (x.grad[None] - memory)
    return memory, Seen(param, memory, x)


def features(seen: Seen) -> list[Feature]:
    x = seen.operands
    return [
        Feature(seen.param),
        Feature(x.row),
        *[Feature(layer * x.col) for layer in seen.memory],
        Feature(jnp.exp(x.col), jnp.exp(2 * x.col)),
        Feature(jnp.sin(seen.memory[1]), jnp.sin(seen.memory[1]) ** 2),
    ]


def finish(seen: Seen, outputs: Sequence[Array]) -> Array:
    first, second = outputs
    x = seen.operands
    return seen.param * x.row - x.rate * first * jnp.exp(second * x.fresh[0])


POINTWISE = Pointwise(observe, features, finish)
CONTEXT = 3
INPUTS = 6 + CONTEXT
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


def make(shape: tuple[int, ...], key: Array, dtype: Any = float) -> Tensor:
    keys = jr.split(key, 6)
    row = tuple(1 if axis == len(shape) - 1 and axis > 0 else n for axis, n in enumerate(shape))
    col = tuple(1 if axis == len(shape) - 2 else n for axis, n in enumerate(shape))
    operands = Operands(
        grad=jr.normal(keys[0], shape, dtype),
        row=jr.normal(keys[2], row, dtype),
        col=jr.normal(keys[3], col, dtype),
        rate=jr.uniform(keys[4], (), dtype),
        fresh=per_tensor(jnp.asarray([0.1, 0.5], dtype), shape),
    )
    memory = jr.normal(keys[1], (2, *shape), dtype) * 3
    return Tensor(jr.normal(keys[5], shape, dtype), memory, operands)


def network(key: Array, *hidden: int) -> Network:
    plain = Network.create([INPUTS, *(hidden or (4, 4)), 2], key=key)
    shifted = tuple(Layer(layer.weight, jnp.linspace(-0.5, 0.5, layer.bias.size)) for layer in plain.layers)
    return Network(shifted)


def apply(
    backend: AbstractBackend,
    net: Network,
    context: Array,
    tensors: Sequence[Tensor],
    pointwise: Pointwise = POINTWISE,
) -> list[Updated]:
    """The kernel, compiled as a whole."""

    @jax.jit
    def compiled(net: Network, context: Array, arrays: list[Any]) -> list[Updated]:
        return backend.network_update(pointwise, net, context, [Tensor(*own) for own in arrays])

    return compiled(net, context, [tensor[:3] for tensor in tensors])


def by_definition(net: Network, context: Array, tensor: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The new memory and parameters, in NumPy and double precision."""
    x: Any = Operands(*(np.asarray(leaf, np.float64) for leaf in tensor.operands))  # type: ignore[arg-type]
    param, memory = np.asarray(tensor.param, np.float64), np.asarray(tensor.state, np.float64)
    memory = memory + x.fresh * (x.grad - memory)
    values = [param, x.row, memory[0] * x.col, memory[1] * x.col, np.exp(x.col), np.sin(memory[1])]
    values = [np.broadcast_to(value, tensor.shape) for value in values]
    inputs = [value / np.sqrt(np.mean(value**2) + 1e-5) for value in values]
    inputs += [np.full(tensor.shape, float(c)) for c in context]
    z = np.stack(inputs, axis=-1)
    for index, layer in enumerate(net.layers):
        z = z @ np.asarray(layer.weight, np.float64).T + np.asarray(layer.bias, np.float64)
        z = z if index == len(net.layers) - 1 else np.maximum(z, 0)
    return memory, param * x.row - x.rate * z[..., 0] * np.exp(z[..., 1] * x.fresh.reshape(-1)[0])


def assert_matches(updated: Updated, net: Network, context: Array, tensor: Tensor, tolerance: float) -> None:
    memory, param = by_definition(net, context, tensor)
    assert updated.param.shape == param.shape and updated.param.dtype == tensor.param.dtype
    np.testing.assert_allclose(updated.state, memory, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(updated.param, param, rtol=tolerance, atol=tolerance)
