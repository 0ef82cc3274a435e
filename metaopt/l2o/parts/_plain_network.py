"""A network per parameter, written as its formula says."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...backend import Network


def normalized(x: Float[Array, "*p"], epsilon: float) -> Float[Array, "*p"]:
    """An array divided by its root mean square over its last two axes."""
    axes = tuple(range(max(x.ndim - 2, 0), x.ndim))
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=axes, keepdims=True) + epsilon)


def plain_network(
    network: Network, features: Sequence[Float[Array, "..."]], shape: tuple[int, ...], epsilon: float
) -> list[Float[Array, "..."]]:
    """Apply a network to features that are each normalized over the last two axes.

    **Arguments:**

    - `network`: the network.
    - `features`: broadcastable to the shape.
    - `shape`: that of the tensor.
    - `epsilon`: is added to mean squares.
    """
    full = [jnp.broadcast_to(value, shape) for value in features]
    x = jnp.stack([normalized(value, epsilon) if value.size else value for value in full])
    cast = jax.tree_util.tree_map(lambda leaf: leaf.astype(x.dtype), network)
    return [output.reshape(shape) for output in cast(x.reshape(x.shape[0], -1))]
