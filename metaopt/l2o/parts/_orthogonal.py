"""Orthogonalization of matrices."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..rules._learnable_adam import safe_sqrt


# Of the odd polynomial of degree five whose iteration brings singular values in (0, 1] near 1 fastest.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def newton_schulz(x: Float[Array, "*lead rows cols"], iterations: int = 5) -> Float[Array, "*lead rows cols"]:
    r"""Matrices whose singular values are drawn towards 1, by iterations of Newton and Schulz.

    $$X \leftarrow X / \|X\|, \qquad X \leftarrow a X + (b X X^\top + c (X X^\top)^2) X$$
    """
    if x.shape[-2] > x.shape[-1]:
        return jnp.matrix_transpose(newton_schulz(jnp.matrix_transpose(x), iterations))
    norm = safe_sqrt(jnp.sum(jnp.square(x), axis=(-2, -1), keepdims=True))
    x = x / (norm + 1e-8)
    a, b, c = _COEFFICIENTS

    def once(_: Any, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        gram = x @ jnp.matrix_transpose(x)
        return a * x + (b * gram + c * gram @ gram) @ x

    # A loop rather than written out: a fifth of what compiling a rule costs is saved, and it is as fast.
    return jax.lax.fori_loop(0, iterations, once, x)


def unit_orthogonal(x: Float[Array, "*p"], iterations: int = 5) -> Float[Array, "*p"]:
    """As `newton_schulz`, with all axes but the last taken together, and a root mean square of about 1."""
    matrix = x.reshape(-1, x.shape[-1])
    return math.sqrt(max(matrix.shape)) * newton_schulz(matrix, iterations).reshape(x.shape)
