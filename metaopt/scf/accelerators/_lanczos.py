"""The second derivative of the energy in a few directions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..base import AbstractOperator, Matrices
from ..systems._orbitals import dagger


# Gaps between orbitals that the second derivative is scaled by are at least this, in hartree.
_LEAST_GAP = 1e-2


def scaling(energies: Float[Array, "spin n"], mask: Matrices) -> Matrices:
    r"""$\Delta^{-1/2}$ for rotations, with $\Delta_{ai} = |\epsilon_a - \epsilon_i|$, and zero where there are none."""
    gaps = jnp.abs(energies[:, :, None] - energies[:, None, :])
    return mask / jnp.sqrt(jnp.where(mask > 0, jnp.maximum(gaps, _LEAST_GAP), 1.0))


def curvature(
    operator: AbstractOperator,
    density: Matrices,
    orbitals: Matrices,
    energies: Float[Array, "spin n"],
    scale: Matrices,
) -> Callable[[Matrices], Matrices]:
    r"""Products with $\Delta^{-1/2} H \Delta^{-1/2}$. Each needs one Fock build.

    $H$ is the derivative of the block $F_{ai}$ of semicanonical orbitals by their rotations, a half or a quarter of the
    second derivative of the energy.
    """
    gaps = energies[:, :, None] - energies[:, None, :]

    def product(vector: Matrices) -> Matrices:
        rotation = scale * vector
        both = orbitals @ (rotation + dagger(rotation)) @ dagger(orbitals)
        response = dagger(orbitals) @ operator.response(density, both) @ orbitals
        return scale * (gaps * rotation + response)

    return product


def lanczos(
    product: Callable[[Matrices], Matrices], start: Matrices, steps: int
) -> tuple[Float[Array, "steps spin n n"], Float[Array, "steps steps"]]:
    """Orthonormal vectors that span the powers of a symmetric operator on a vector, and the operator between them.

    Where the powers are exhausted, vectors are zero, and the operator has a large number on the diagonal.
    """

    def body(carry: Any, index: Int[Array, ""]) -> tuple[Any, None]:
        vectors, matrix = carry
        image = product(vectors[index])
        row = jnp.tensordot(vectors, image, 3)
        rest = image
        # Twice, against rounding.
        for _ in range(2):
            rest = rest - jnp.tensordot(jnp.tensordot(vectors, rest, 3), vectors, 1)
        length = jnp.linalg.norm(rest)
        going = length > 1e-10 * jnp.linalg.norm(image)
        following = jnp.where(going, rest / jnp.where(going, length, 1.0), 0.0)
        return (vectors.at[index + 1].set(following), matrix.at[index].set(row[:steps])), None

    length = jnp.linalg.norm(start)
    vectors = jnp.zeros((steps + 1, *start.shape), start.dtype)
    vectors = vectors.at[0].set(start / jnp.where(length > 0, length, 1.0))
    (vectors, matrix), _ = jax.lax.scan(body, (vectors, jnp.zeros((steps, steps), start.dtype)), jnp.arange(steps))
    vectors = vectors[:steps]
    empty = jnp.sum(vectors**2, axis=(1, 2, 3)) < 0.5
    # A row was made when later vectors were not there yet.
    matrix = jnp.tril(matrix) + jnp.tril(matrix, -1).T
    return vectors, matrix + 1e3 * jnp.diag(empty.astype(start.dtype))


def trusted(
    matrix: Float[Array, "m m"], gradient: Float[Array, " m"], radius: Float[Array, ""]
) -> tuple[Float[Array, " m"], Float[Array, ""]]:
    r"""Minimize $g^\top x + \frac{1}{2} x^\top A x$ over $\lVert x \rVert \le$ `radius`, and the value there."""
    values, vectors = jnp.linalg.eigh(matrix)
    force = vectors.T @ gradient
    lowest = jnp.maximum(0.0, -values[0])

    def solved(shift: Float[Array, ""]) -> Float[Array, " m"]:
        below = values + shift
        return -force / jnp.where(below > 1e-12, below, 1e-12)

    def narrow(_: Int[Array, ""], interval: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = interval
        middle = 0.5 * (low + high)
        long = jnp.linalg.norm(solved(middle)) > radius
        return jnp.where(long, middle, low), jnp.where(long, high, middle)

    bounds = lowest, lowest + jnp.linalg.norm(gradient) / radius + 1e-12
    _, high = jax.lax.fori_loop(0, 60, narrow, bounds)
    free = (values[0] > 0) & (jnp.linalg.norm(solved(jnp.zeros_like(high))) <= radius)
    x = solved(jnp.where(free, 0.0, high))
    # Where there is no force along the negative curvature, either way is as good.
    left = jnp.sqrt(jnp.maximum(radius**2 - jnp.sum(x**2), 0.0))
    x = x.at[0].add(jnp.where(values[0] < 0, jnp.where(force[0] > 0, -left, left), 0.0))
    return vectors @ x, force @ x + 0.5 * jnp.sum(values * x**2)
