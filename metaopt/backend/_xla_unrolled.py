"""The per-parameter network of few units, written out unit by unit: one fused loop over the tensor, no temporaries."""

import functools as ft
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._network import Layer, Network
from ._observed import Observed
from ._tiles import as_matrix
from ._xla_dense import fold
from ._xla_tiled import fold_features, second_moments, split, tiled
from .base import Pointwise


def multiply_adds(pointwise: Pointwise, network: Network, tensor: Observed) -> int:
    """Multiplications per element that are left when row and column features are folded away."""
    full, _ = split(jax.eval_shape(pointwise.features, tensor.seen), tensor.shape)
    sizes = [layer.weight.shape[0] for layer in network.layers]
    return sum(a * b for a, b in zip([len(full), *sizes[:-1]], sizes, strict=True))


@ft.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def unrolled(
    pointwise: Pointwise,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    block: int,
    network: Network,
    context: Float[Array, " context"],
    seen: PyTree[Float[Array, "..."]],
) -> Float[Array, "..."]:
    """The network of `network_update` for one tensor, as one elementwise expression. It is differentiated as `tiled`,
    where sums over elements are matrix products."""
    network = fold(network, context)
    features = pointwise.features(seen)
    tensor = Observed(seen, shape, axes)
    full, _ = split(features, shape)
    moments = tensor.everywhere(second_moments(pointwise, as_matrix(tensor, block), block // 2, full))
    folded = fold_features(network, features, tensor, moments)
    x: list[Array] = [features[i].value for i in folded.full]
    x = [
        _weighted(folded.weight[j], x, sum((o[j] for o in folded.offsets[1:]), start=folded.offsets[0][j]))
        for j in range(folded.weight.shape[0])
    ]
    for layer in network.layers[1:]:
        x = _dense(layer, [jax.nn.relu(unit) for unit in x])
    return jnp.broadcast_to(pointwise.finish(seen, x), shape)


def _weighted(weights: Float[Array, " in"], inputs: list[Array], start: Array) -> Array:
    return sum((weights[i] * value for i, value in enumerate(inputs)), start=start)


def _dense(layer: Layer, inputs: list[Array]) -> list[Array]:
    return [_weighted(layer.weight[j], inputs, layer.bias[j]) for j in range(layer.weight.shape[0])]


@unrolled.defjvp
def _unrolled_jvp(
    pointwise: Pointwise,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    block: int,
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
) -> tuple[Array, Array]:
    def apply(network: Network, context: Array, seen: PyTree) -> Array:
        return tiled(pointwise, network, context, Observed(seen, shape, axes), block)

    return jax.jvp(apply, primals, tangents)
