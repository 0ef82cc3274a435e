"""The mean field of a system in an orthonormal basis."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base import AbstractOperator, Matrices
from ._orbitals import symmetric
from ._system import System


class Operator(AbstractOperator):
    """A system, and orthonormal functions to describe it with: the columns of `basis`."""

    system: System
    basis: Float[Array, "n n"]

    def fock(self, density: Matrices) -> tuple[Matrices, Float[Array, ""]]:
        fock, energy = self.system.fock(self.out_of(density))
        return self.into(fock), energy

    def response(self, density: Matrices, change: Matrices) -> Matrices:
        return self.into(self.system.response(self.out_of(density), self.out_of(change)))

    def into(self, matrix: Matrices) -> Matrices:
        """A matrix of integrals in the orthonormal basis."""
        return symmetric(self.basis.T @ matrix @ self.basis)

    def out_of(self, density: Matrices) -> Matrices:
        """A density in the basis of the system."""
        return self.basis @ density @ self.basis.T


def loewdin(system: System) -> tuple[Operator, Float[Array, "n n"], Float[Array, ""]]:
    """The operator in the symmetrically orthonormalized basis, the square root of the overlap, and the smallest
    eigenvalue of the overlap."""
    values, vectors = jnp.linalg.eigh(system.overlap)
    roots = jnp.sqrt(jnp.maximum(values, jnp.finfo(values.dtype).eps))
    basis, root = (vectors / roots[None]) @ vectors.T, (vectors * roots[None]) @ vectors.T
    return Operator(system, basis), root, values[0]
