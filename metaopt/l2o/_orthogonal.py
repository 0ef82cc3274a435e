"""Orthogonalization of matrices."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


# Of the odd polynomial of degree five whose iteration sends singular values in (0, 1] near 1 fastest (Jordan, 2024).
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def newton_schulz(x: Float[Array, "m n"], iterations: int = 5) -> Float[Array, "m n"]:
    r"""The nearest matrix with orthonormal rows or columns, roughly: singular values come to lie near 1.

    $$X \leftarrow a X + (b A + c A^2) X, \qquad A = X X^\top$$

    from $X / \lVert X \rVert_F$; products of matrices only.
    """
    a, b, c = _COEFFICIENTS
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    # The inner `where` keeps the derivative finite where the matrix is zero.
    square = jnp.sum(jnp.square(x))
    x = x * jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


def orthogonalize(x: Float[Array, "*p"], iterations: int = 5) -> Float[Array, "*p"]:
    """As `newton_schulz`, with all axes but the last taken together, and a root mean square of about 1."""
    matrix = x.reshape(-1, x.shape[-1])
    return math.sqrt(max(matrix.shape)) * newton_schulz(matrix, iterations).reshape(x.shape)
