"""Orbitals, and the densities that they make, in an orthonormal basis."""

import functools as ft
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base import Matrices


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


# Halvings of an interval that holds the chemical potential: to the last digit of a double.
_HALVINGS = 64


def _occupations(
    energies: Float[Array, "spin n"], counts: tuple[int, ...], temperature: Float[Array, ""]
) -> Float[Array, "spin n"]:
    """The Fermi-Dirac occupations that hold so many electrons of each spin."""
    wanted = jnp.asarray(counts, energies.dtype)
    reach = 50 * temperature

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        few = jnp.sum(jax.nn.sigmoid((middle[:, None] - energies) / temperature), axis=-1) < wanted
        return jnp.where(few, middle, low), jnp.where(few, high, middle)

    ends = (energies[:, 0] - reach, energies[:, -1] + reach)
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, ends)
    return jax.nn.sigmoid((0.5 * (low + high)[:, None] - energies) / temperature)


@ft.partial(jax.custom_jvp, nondiff_argnums=(1,))
def smear(fock: Matrices, counts: tuple[int, ...], temperature: Float[Array, ""]) -> Matrices:
    r"""The densities $f(F)$ of Fock matrices with the occupations of Fermi and Dirac.

    $$f(\epsilon) = \frac{1}{1 + e^{(\epsilon - \mu) / T}}, \qquad \sum_i f(\epsilon_i) = n$$

    Derivatives by the Fock matrix are those of perturbation theory, and finite where orbitals are degenerate.
    """
    energies, orbitals = jnp.linalg.eigh(fock)
    temperature = jnp.asarray(temperature)
    return (orbitals * _occupations(energies, counts, temperature)[:, None, :]) @ dagger(orbitals)


@smear.defjvp
def _(counts: tuple[int, ...], primals: Any, tangents: Any) -> tuple[Matrices, Matrices]:
    (fock, temperature), (change, warmer) = primals, tangents
    temperature = jnp.asarray(temperature)
    energies, orbitals = jnp.linalg.eigh(fock)
    filled = _occupations(energies, counts, temperature)
    slopes = -filled * (1 - filled) / temperature
    gaps = energies[:, :, None] - energies[:, None, :]
    # Near each other the divided difference is the slope between them.
    close = jnp.abs(gaps) < 1e-4 * temperature
    between_them = 0.5 * (slopes[:, :, None] + slopes[:, None, :])
    ratio = (filled[:, :, None] - filled[:, None, :]) / jnp.where(close, 1, gaps)
    ratio = jnp.where(close, between_them, ratio)
    inner = dagger(orbitals) @ symmetric(change) @ orbitals
    # What the chemical potential, and a change of the temperature, add to the occupations.
    levels = jnp.diagonal(inner, axis1=-2, axis2=-1)
    total = jnp.minimum(jnp.sum(slopes, axis=-1, keepdims=True), -jnp.finfo(slopes.dtype).tiny)
    heights = jnp.log(jnp.clip(1 - filled, 1e-300)) - jnp.log(jnp.clip(filled, 1e-300))
    levels = levels - heights * warmer
    shift = jnp.sum(slopes * levels, axis=-1, keepdims=True) / total
    more = -slopes * (heights * warmer + shift)
    moved = ratio * inner + more[:, None, :] * jnp.eye(fock.shape[-1], dtype=fock.dtype)[None]
    density = (orbitals * filled[:, None, :]) @ dagger(orbitals)
    return density, orbitals @ moved @ dagger(orbitals)


def mixing_entropy(occupations: Float[Array, "spin n"]) -> Float[Array, ""]:
    r"""$-\sum_i f_i \ln f_i + (1 - f_i) \ln(1 - f_i)$."""
    f = jnp.clip(occupations, 0, 1)
    return -jnp.sum(jax.scipy.special.xlogy(f, f) + jax.scipy.special.xlog1py(1 - f, -f))


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
