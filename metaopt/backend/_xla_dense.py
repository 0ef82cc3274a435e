"""Many small tensors as one matrix `[features, n]`: few large operations instead of many small ones."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._network import Layer, Network
from ._observed import Observed
from .base import EPSILON, Pointwise


def fold(network: Network, context: Float[Array, " context"]) -> Network:
    """Fold inputs that are the same everywhere into the bias of the first layer."""
    first, *others = network.layers
    inputs = first.weight.shape[1] - context.shape[0]
    bias = first.bias + first.weight[:, inputs:] @ context
    return Network((Layer(first.weight[:, :inputs], bias), *others))


def dense(
    pointwise: Pointwise, network: Network, context: Float[Array, " context"], tensors: Sequence[Observed]
) -> list[Float[Array, "..."]]:
    """The network of `network_update`, applied as its definition says, over all tensors at once."""
    columns = []
    for tensor in tensors:
        values = [feature.value for feature in pointwise.features(tensor.seen)]
        x = jnp.stack([jnp.broadcast_to(value, tensor.shape).reshape(-1) for value in values])
        scale = jax.lax.rsqrt(tensor.everywhere(jnp.mean(jnp.square(x), axis=1)) + EPSILON)
        columns.append(x * scale[:, None])
    outputs = fold(network, context)(jnp.concatenate(columns, axis=1))
    results, start = [], 0
    for tensor, x in zip(tensors, columns, strict=True):
        stop = start + x.shape[1]
        own = [output[start:stop].reshape(tensor.shape) for output in outputs]
        results.append(pointwise.finish(tensor.seen, own))
        start = stop
    return results
