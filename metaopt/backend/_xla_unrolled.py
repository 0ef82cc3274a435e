"""The per-parameter network of few units, written out unit by unit: one fused loop over the tensor, no temporaries."""

import functools as ft
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._network import Layer, Network
from ._tiles import as_matrix
from ._xla_dense import fold
from ._xla_tiled import fold_features, second_moments, split, tiled
from .base import Pointwise, Tensor


def multiply_adds(pointwise: Pointwise, network: Network, tensor: Tensor) -> int:
    """Multiplications per element that are left when row and column features are folded away."""
    full, _ = split(jax.eval_shape(pointwise.features, tensor.operands), tensor.shape)
    sizes = [layer.weight.shape[0] for layer in network.layers]
    return sum(a * b for a, b in zip([len(full), *sizes[:-1]], sizes, strict=True))


@ft.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def unrolled(
    pointwise: Pointwise,
    shape: tuple[int, ...],
    block: int,
    network: Network,
    context: Float[Array, " context"],
    operands: PyTree[Float[Array, "..."]],
) -> Float[Array, "..."]:
    """The kernel `pointwise_network` for one tensor, as one elementwise expression. It is differentiated as `tiled`,
    where sums over elements are matrix products."""
    network = fold(network, context)
    features = pointwise.features(operands)
    full, _ = split(features, shape)
    moments = second_moments(pointwise, as_matrix(Tensor(operands, shape), block), block // 2, full)
    folded = fold_features(network, features, shape, moments)
    x: list[Array] = [features[i].value for i in folded.full]
    x = [
        _weighted(folded.weight[j], x, sum((o[j] for o in folded.offsets[1:]), start=folded.offsets[0][j]))
        for j in range(folded.weight.shape[0])
    ]
    for layer in network.layers[1:]:
        x = _dense(layer, [jax.nn.relu(unit) for unit in x])
    return jnp.broadcast_to(pointwise.finish(operands, x), shape)


def _weighted(weights: Float[Array, " in"], inputs: list[Array], start: Array) -> Array:
    return sum((weights[i] * value for i, value in enumerate(inputs)), start=start)


def _dense(layer: Layer, inputs: list[Array]) -> list[Array]:
    return [_weighted(layer.weight[j], inputs, layer.bias[j]) for j in range(layer.weight.shape[0])]


@unrolled.defjvp
def _unrolled_jvp(
    pointwise: Pointwise, shape: tuple[int, ...], block: int, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Array, Array]:
    def apply(network: Network, context: Array, operands: PyTree) -> Array:
        return tiled(pointwise, network, context, Tensor(operands, shape), block)

    return jax.jvp(apply, primals, tangents)
