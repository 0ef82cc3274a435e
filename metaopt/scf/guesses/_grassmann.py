"""Spans of occupied orbitals as points of a manifold, and coordinates on it."""

import jax.numpy as jnp
from jaxtyping import Array, Float


Square = Float[Array, "n n"]
Rotations = Float[Array, "virtual occupied"]


def coordinates(density: Square, occupied: Float[Array, "n occupied"], virtual: Float[Array, "n virtual"]) -> Rotations:
    """The matrix $X$ for which the columns of $C_o + C_v X$ span what a density projects on."""
    inner = occupied.T @ density @ occupied
    return jnp.linalg.solve(inner.T, (virtual.T @ density @ occupied).T).T


def span(x: Rotations, occupied: Float[Array, "n occupied"], virtual: Float[Array, "n virtual"]) -> Square:
    """The projector onto the span of $C_o + C_v X$."""
    basis, _ = jnp.linalg.qr(occupied + virtual @ x)
    return basis @ basis.T


def nearest_orbitals(
    x: Rotations, occupied: Float[Array, "n occupied"], virtual: Float[Array, "n virtual"]
) -> tuple[Float[Array, "n occupied"], Float[Array, "n virtual"]]:
    """Orthonormal orbitals of the span of $C_o + C_v X$ and of the rest, as close as may be to those given."""
    return (
        (occupied + virtual @ x) @ _inverse_root(x.T @ x),
        (virtual - occupied @ x.T) @ _inverse_root(x @ x.T),
    )


def _inverse_root(square: Float[Array, "m m"]) -> Float[Array, "m m"]:
    values, vectors = jnp.linalg.eigh(square)
    return (vectors / jnp.sqrt(1 + jnp.maximum(values, 0))[None]) @ vectors.T


def logarithm(x: Rotations) -> Rotations:
    """The tangent along which the geodesic from $C_o$ reaches the span of $C_o + C_v X$ after one unit."""
    left, tangents, right = jnp.linalg.svd(x, full_matrices=False)
    return (left * jnp.arctan(tangents)[None]) @ right


def exponential(tangent: Rotations) -> Rotations:
    """The inverse of `logarithm`."""
    left, angles, right = jnp.linalg.svd(tangent, full_matrices=False)
    # Beyond a right angle the span has no such coordinates.
    return (left * jnp.tan(jnp.clip(angles, 0, 1.5))[None]) @ right
