"""One number of several objectives."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def weighted_sum(values: Float[Array, " m"], weights: Float[Array, " m"]) -> Float[Array, ""]:
    r"""$w^\top f$"""
    return weights @ values


def chebyshev(
    values: Float[Array, " m"],
    weights: Float[Array, " m"],
    ideal: Float[Array, " m"],
    augmentation: Float[Array, ""],
    smoothing: Float[Array, ""] | None = None,
) -> Float[Array, ""]:
    r"""$\max_i v_i + \rho \sum_i v_i$ with $v = w (f - z)$, or with $\mu \log \sum_i e^{v_i / \mu}$ for the maximum."""
    distances = weights * (values - ideal)
    if smoothing is None:
        largest = jnp.max(distances)
    else:
        top = jax.lax.stop_gradient(jnp.max(distances))
        largest = top + smoothing * jax.nn.logsumexp((distances - top) / smoothing)
    return largest + augmentation * jnp.sum(distances)


def boundary_intersection(
    values: Float[Array, " m"],
    weights: Float[Array, " m"],
    ideal: Float[Array, " m"],
    penalty: Float[Array, ""],
) -> Float[Array, ""]:
    r"""$d_1 + \theta d_2$: the distance along the direction of $w$, and the one from it."""
    direction = weights / jnp.linalg.norm(weights)
    moved = values - ideal
    along = moved @ direction
    square = jnp.sum(jnp.square(moved - along * direction))
    # The derivative of a root at zero is infinite.
    away = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return along + penalty * away


def epsilon_constraint(
    values: Float[Array, " m"], bounds: Float[Array, " m"], penalty: Float[Array, ""], index: int
) -> Float[Array, ""]:
    r"""$f_k + \theta \sum_{i \ne k} \max(0, f_i - \epsilon_i)$"""
    others = jnp.arange(values.shape[0]) != index
    return values[index] + penalty * jnp.sum(jnp.where(others, jnp.maximum(values - bounds, 0), 0))
