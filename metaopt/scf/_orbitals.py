"""Orbitals, and the densities that they make, in an orthonormal basis."""

import functools as ft
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import Matrices


def symmetric(matrix: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    return 0.5 * (matrix + jnp.swapaxes(matrix, -1, -2))


def dagger(matrix: Float[Array, "*batch n m"]) -> Float[Array, "*batch m n"]:
    return jnp.swapaxes(matrix, -1, -2)


def occupied(n: int, counts: tuple[int, ...]) -> Float[Array, "spin n"]:
    """Which orbitals have an electron, by spin."""
    return (jnp.arange(n)[None] < jnp.asarray(counts)[:, None]).astype(jnp.result_type(float))


@ft.partial(jax.custom_jvp, nondiff_argnums=(1,))
def occupy(fock: Matrices, counts: tuple[int, ...]) -> Matrices:
    r"""The projectors onto the lowest orbitals of Fock matrices.

    Their derivative is that of perturbation theory,

    $$\dot P = \sum_{ai} \frac{c_a^\top \dot F c_i}{\epsilon_i - \epsilon_a} (c_a c_i^\top + c_i c_a^\top)$$

    which is finite where occupied orbitals are degenerate; that of the orbitals themselves is not.
    """
    _, orbitals = jnp.linalg.eigh(fock)
    return fill(orbitals, counts)


@occupy.defjvp
def _(counts: tuple[int, ...], primals: Any, tangents: Any) -> tuple[Matrices, Matrices]:
    (fock,), (change,) = primals, tangents
    energies, orbitals = jnp.linalg.eigh(fock)
    filled = occupied(fock.shape[-1], counts)
    across = filled[:, :, None] - filled[:, None, :]
    gaps = energies[:, :, None] - energies[:, None, :]
    ratio = jnp.where(across != 0, across / jnp.where(across * gaps < 0, gaps, -jnp.finfo(gaps.dtype).eps * across), 0)
    inner = dagger(orbitals) @ symmetric(change) @ orbitals
    return fill(orbitals, counts), orbitals @ (ratio * inner) @ dagger(orbitals)


def fill(orbitals: Matrices, counts: tuple[int, ...]) -> Matrices:
    """The projectors onto the first orbitals."""
    chosen = orbitals * occupied(orbitals.shape[-1], counts)[:, None, :]
    return chosen @ dagger(chosen)


def commutator(fock: Matrices, density: Matrices) -> Matrices:
    product = fock @ density
    return product - dagger(product)


def separated(fock: Matrices, density: Matrices) -> tuple[Matrices, Float[Array, " spin"]]:
    """A Fock matrix without its blocks between occupied and virtual orbitals, which are lifted above the others, and
    by how much."""
    empty = jnp.eye(fock.shape[-1], dtype=fock.dtype)[None] - density
    # Twice a bound on all orbital energies.
    lift = 1 + 2 * jnp.linalg.norm(fock, axis=(-2, -1))
    lifted = lift[:, None, None] * empty
    return symmetric(density @ fock @ density + empty @ fock @ empty) + lifted, lift


def semicanonical(
    fock: Matrices, density: Matrices, counts: tuple[int, ...]
) -> tuple[Matrices, Float[Array, "spin n"]]:
    """Orbitals that span the density, occupied ones first, in which both diagonal blocks of the Fock matrix are
    diagonal; and their energies."""
    matrix, lift = separated(fock, density)
    energies, orbitals = jnp.linalg.eigh(matrix)
    return orbitals, energies - lift[:, None] * (1 - occupied(fock.shape[-1], counts))


def between(n: int, counts: tuple[int, ...]) -> Float[Array, "spin n n"]:
    """One where the row is a virtual and the column an occupied orbital."""
    filled = occupied(n, counts)
    return (1 - filled)[:, :, None] * filled[:, None, :]


def rotated(orbitals: Matrices, rotation: Matrices) -> Matrices:
    """Orbitals turned by the Cayley transform of an antisymmetric matrix, of which `rotation` is the lower block."""
    half = 0.5 * (rotation - dagger(rotation))
    identity = jnp.eye(rotation.shape[-1], dtype=rotation.dtype)[None]
    return orbitals @ jnp.linalg.solve(identity - half, identity + half)


def counts_of(density: Matrices) -> Float[Array, " spin"]:
    return jnp.trace(density, axis1=-2, axis2=-1)
