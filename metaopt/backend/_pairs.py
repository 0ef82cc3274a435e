"""Symmetric matrices as vectors of pairs, and what integrals over pairs do to them."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def pairs(n: int) -> int:
    """The number of pairs of `n` functions."""
    return n * (n + 1) // 2


def functions(pairs: int) -> int | None:
    """The number of functions that have so many pairs, if there is one."""
    n = (math.isqrt(8 * pairs + 1) - 1) // 2
    return n if n * (n + 1) // 2 == pairs else None


def positions(n: int) -> np.ndarray:
    """Where in a packed vector each element of a symmetric matrix is found."""
    found = np.zeros((n, n), np.int32)
    rows, columns = np.tril_indices(n)
    found[rows, columns] = found[columns, rows] = np.arange(rows.size)
    return found


def pack(matrix: Float[Array, "*batch n n"]) -> Float[Array, "*batch pairs"]:
    rows, columns = np.tril_indices(matrix.shape[-1])
    return matrix[..., rows, columns]


def unpack(packed: Float[Array, "*batch pairs"]) -> Float[Array, "*batch n n"]:
    n = functions(packed.shape[-1])
    assert n is not None
    return packed[..., positions(n)]


def squares(pairs: int) -> np.ndarray:
    """Where in a packed vector the diagonal of a matrix is found."""
    n = functions(pairs)
    assert n is not None
    return np.cumsum(np.arange(1, n + 1)) - 1


def doubled(n: int) -> np.ndarray:
    """How often an element of the lower triangle stands in the whole matrix."""
    rows, columns = np.tril_indices(n)
    return np.where(rows == columns, 1.0, 2.0)


def contract(integrals: Float[Array, "pairs pairs"], density: Float[Array, "n n"]) -> Float[Array, "n n"]:
    r"""$V_{ij} = \sum_{kl} (ij|kl) D_{kl}$ of a symmetric density, with pairs $i \ge j$ packed row by row."""
    return unpack(integrals @ (pack(density) * doubled(density.shape[-1])))


def exchange(factors: Float[Array, "auxiliary pairs"], density: Float[Array, "n n"]) -> Float[Array, "n n"]:
    r"""$K_{ij} = \sum_{Pkl} B^P_{ik} B^P_{jl} D_{kl}$ of a symmetric density."""
    full = unpack(factors)
    return jnp.einsum("pik,pjk->ij", full @ density, full)
