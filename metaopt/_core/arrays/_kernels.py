"""Kernels: how alike two points are."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def correlations(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    r"""The squared-exponential kernel $\exp(-\frac12 \lVert a_i - b_j \rVert^2)$."""
    # Not by the product of both, which cancels for points that are near each other.
    return jnp.exp(-0.5 * jnp.sum(jnp.square(a[:, None, :] - b[None, :, :]), axis=-1))
