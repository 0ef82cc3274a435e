"""What an accelerator sees and is, and where integrals come from."""

import abc
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from .._core import AbstractAlgorithm
from ..backend import AbstractPartialBackend


S = TypeVar("S")

Matrices = Float[Array, "spin n n"]
"""One matrix for each spin, in the basis of a system."""


class AbstractInteraction(eqx.Module):
    """The repulsion of electrons: what a Fock matrix is built of."""

    @abc.abstractmethod
    def coulomb(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        r"""$J_{ij} = \sum_{kl} (ij|kl) D_{kl}$ of a symmetric density."""

    @abc.abstractmethod
    def exchange(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        r"""$K_{ij} = \sum_{kl} (ik|jl) D_{kl}$ of a symmetric density."""

    @abc.abstractmethod
    def closed_shells(self, density: Float[Array, "n n"], share: float) -> Float[Array, "n n"]:
        r"""$2 J - s K$ of the symmetric density of one of two spins that are alike, with a share $s$ of exchange."""

    @abc.abstractmethod
    def leading(self, share: float) -> Float[Array, "few pairs"]:
        r"""Few factors $B^P_{ij}$, with pairs packed, for which $\sum_P B^P_{ij} B^P_{kl}$ is close to $(ij|kl)$:
        so many for each function that repels anything."""


Field = Float[Array, " points"]


class AbstractFunctional(eqx.Module):
    """An energy of exchange and correlation."""

    @property
    @abc.abstractmethod
    def exact_exchange(self) -> float:
        """How much of the exchange of Hartree-Fock it has."""

    @abc.abstractmethod
    def energy(self, up: Field, down: Field, up_slope: Field, down_slope: Field, slope: Field) -> Field:
        """The energy per volume of densities of spin up and down. Slopes are the squares of the gradients of the
        density of each spin and of their sum."""


class AbstractGuess(eqx.Module):
    """A rule that finds densities to begin with."""

    @abc.abstractmethod
    def projectors(self, operator: Any, root: Float[Array, "n n"]) -> Matrices:
        """The projectors onto the orbitals to begin with, in the orthonormal basis of a [`metaopt.scf.Operator`][],
        whose overlap has the square root `root`."""


class AbstractOperator(eqx.Module):
    """The mean field of a system in an orthonormal basis, for accelerators that build Fock matrices of their own."""

    system: eqx.AbstractVar[Any]
    """The [`metaopt.scf.System`][]."""

    @abc.abstractmethod
    def fock(self, density: Matrices) -> tuple[Matrices, Float[Array, ""]]:
        """The Fock matrices of densities, and the energy."""

    @abc.abstractmethod
    def response(self, density: Matrices, change: Matrices) -> Matrices:
        """How the Fock matrices change with the densities, to first order."""


class Signal(eqx.Module):
    r"""What is known at a Fock matrix. All matrices are in one orthonormal basis, one per spin.

    - `residual`: $FP - PF$, which is zero where the density is that of the Fock matrix.
    - `density`: the projectors $P$ onto the occupied orbitals from which the Fock matrix was built.
    - `energy`: the energy of this density.
    - `weight`: electrons per orbital: 2 for restricted, 1 for unrestricted systems. The density of all electrons is
        `weight` times the sum of `density`.
    - `operator`: builds further Fock matrices. Who calls it counts the calls in a [`metaopt.scf.FockBuilds`][].
    """

    residual: Matrices
    density: Matrices
    energy: Float[Array, ""]
    weight: Float[Array, ""]
    operator: AbstractOperator


class FockBuilds(NamedTuple):
    """A counter of Fock builds for the state of an accelerator. [`metaopt.scf.solve`][] adds them up."""

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]


def hidden_builds(state: PyTree[Any]) -> Int[Array, ""]:
    """The sum of all [`metaopt.scf.FockBuilds`][] in a state."""
    nodes = jtu.tree_leaves(state, is_leaf=lambda x: isinstance(x, FockBuilds))
    counts = [node.count for node in nodes if isinstance(node, FockBuilds)]
    return jnp.sum(jnp.stack(counts), dtype=jnp.int32) if counts else jnp.zeros((), jnp.int32)


class AbstractAccelerator(AbstractAlgorithm[S, Matrices, Signal]):
    """An algorithm whose parameters are Fock matrices and whose signal is a [`metaopt.scf.Signal`][].

    `params` are the Fock matrices of the density in the signal. What `step` returns is diagonalized, and its lowest
    orbitals make the next density. `value` is the energy.
    """


class Geometries(NamedTuple):
    """What a provider says of many geometries of one molecule, each array with a leading axis.

    - `overlap`, `core`, `nuclear_energy`, `positions`: as in a [`metaopt.scf.Molecule`][].
    - `repulsion`: $(ij|kl)$ with $i \\ge j$, $k \\ge l$ and $ij \\ge kl$, pairs of pairs packed row by row.
    - `electrons`, `guess`, `elements`, `shells`: what is the same for all; a guess that is a sum of atoms is.
    """

    overlap: Float[np.ndarray, "geometries n n"]
    core: Float[np.ndarray, "geometries n n"]
    repulsion: Float[np.ndarray, "geometries packed"]
    nuclear_energy: Float[np.ndarray, " geometries"]
    positions: Float[np.ndarray, "geometries atoms 3"]
    electrons: tuple[int, int]
    guess: Float[np.ndarray, "n n"]
    elements: tuple[str, ...]
    shells: tuple[tuple[int, int], ...]


class Molecule(NamedTuple):
    """What a provider says of a molecule, in atomic units.

    - `overlap`, `core`: one-electron matrices.
    - `repulsion`: $(ij|kl)$ with $i \\ge j$, $k \\ge l$, pairs packed row by row; or the factors $B^P_{ij}$ of density
        fitting, $(ij|kl) = \\sum_P B^P_{ij} B^P_{kl}$, pairs packed.
    - `fitted`: whether these are factors.
    - `nuclear_energy`, `electrons`: of spin up and down.
    - `guess`: a density of all electrons to begin with.
    - `weights`, `orbitals`: of a grid, the volumes of its points, and the functions there with their derivatives.
    - `positions`, `elements`, `shells`: what a [`metaopt.scf.Geometry`][] is made of, if functions are spherical.
    """

    overlap: Float[np.ndarray, "n n"]
    core: Float[np.ndarray, "n n"]
    repulsion: Float[np.ndarray, "rows pairs"]
    fitted: bool
    nuclear_energy: float
    electrons: tuple[int, int]
    guess: Float[np.ndarray, "n n"] | None
    weights: Float[np.ndarray, " points"] | None = None
    orbitals: Float[np.ndarray, "4 points n"] | None = None
    positions: Float[np.ndarray, "atoms 3"] | None = None
    elements: tuple[str, ...] = ()
    shells: tuple[tuple[int, int], ...] = ()


class AbstractIntegrals(AbstractPartialBackend):
    """A backend that computes molecular integrals on the host."""

    @abc.abstractmethod
    def molecule(
        self,
        atoms: Any,
        *,
        basis: Any,
        charge: int,
        spin: int | None,
        unit: str,
        restricted: bool | None,
        fitted: bool | str,
        guess: str | None,
        grid: int | None,
        limit: float,
    ) -> Molecule:
        """Compute what a calculation needs.

        **Arguments:** those of [`metaopt.scf.System.from_pyscf`][], with `grid` the level of the grid if there shall be
        one, and `limit` the bytes that integrals, and the functions on the grid, may take.

        **Returns:** the [`metaopt.scf.Molecule`][].

        **Raises:**

        - `ValueError`: for a molecule that makes no sense or is too large.
        """

    @abc.abstractmethod
    def geometries(
        self,
        atoms: Any,
        positions: Float[np.ndarray, "geometries atoms 3"],
        *,
        basis: Any,
        charge: int,
        spin: int | None,
        unit: str,
        restricted: bool | None,
        limit: float,
    ) -> Geometries:
        """Compute what calculations of many geometries need.

        **Arguments:** those of [`metaopt.scf.System.geometries`][], with `limit` the bytes that integrals may take.

        **Returns:** the [`metaopt.scf.Geometries`][].

        **Raises:**

        - `ValueError`: for a molecule that makes no sense or is too large, or functions that are not spherical.
        """
