"""Newton-like steps with the Hessian of another geometry."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from ..accelerators._cdiis import smallest_residual
from ..accelerators._history import History, check_history, combined, empty, products
from ..base import AbstractAccelerator, Matrices, Signal
from ..drivers._results import Solution
from ..guesses._grassmann import coordinates, nearest_orbitals, span
from ..systems._checks import require_double
from ..systems._geometry import centered, fitting_turn, turning
from ..systems._operator import loewdin
from ..systems._orbitals import semicanonical, separated
from ..systems._system import System
from ._learned_guess import described


# No direction is taken to be softer than this, in hartree.
_SOFTEST = 0.05


class LearnedResponse(AbstractAccelerator[History]):
    r"""Rotate orbitals by what a solved geometry of the same molecule says of how Fock matrices respond.

    Orbitals are described by $X$, where $C_o + C_v X$ spans the occupied ones and $C$ are the orbitals of the
    reference, turned onto the molecule. With $G$ the block of the Fock matrix between virtual and occupied orbitals
    and $H_0$ the derivative of $G$ by rotations at the reference,

    $$Y_t = -H_0^{-1} G_t, \qquad X_{t+1} = \sum_i c_i (X_i + Y_i), \qquad
      c = \arg\min_{\sum_i c_i = 1} \Big\lVert \sum_i c_i Y_i \Big\rVert^2$$

    In the symmetrically orthonormalized basis $H_0$ hardly depends on the geometry, so that each step leaves about a
    tenth of the error, where CDIIS leaves a third. It is one product with a matrix over rotations, which costs less
    than a Fock build. Wrap it in [`metaopt.scf.Guarded`][] where geometries may be far from the reference.

    **Attributes:**

    - `reference`: where the atoms are in the reference.
    - `orbitals`: its orbitals in the symmetrically orthonormalized basis, occupied ones first.
    - `inverse`: $H_0^{-1}$.
    - `history`: how many steps are remembered.
    """

    reference: Float[Array, "atoms 3"]
    orbitals: Matrices
    inverse: Float[Array, "rotations rotations"]
    history: int = eqx.field(static=True, default=6)

    def __check_init__(self) -> None:
        check_history(self.history)

    @classmethod
    def fit(cls, system: System, solution: Solution, *, history: int = 6) -> "LearnedResponse":
        """Learn from one solved geometry, which takes as many Fock builds as there are rotations.

        **Arguments:**

        - `system`, `solution`: in the middle of the family.
        - `history`: how many steps are remembered.

        **Raises:**

        - `ValueError`: in single precision, or without a geometry.
        """
        require_double()
        check_history(history)
        orbitals, inverse = eqx.filter_jit(_learn)(system, solution)
        return cls(centered(described(system).positions), orbitals, inverse, history)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> History:
        del key
        empty_vector = jnp.zeros(self.inverse.shape[0], params.dtype)
        return empty((empty_vector, empty_vector), self.history)

    def step(
        self, state: History, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[History, Matrices]:
        del value
        system: Any = grads.operator.system
        geometry = described(system)
        turn = fitting_turn(geometry.positions, self.reference)
        orbitals = turning(geometry.shells, turn).T[None] @ self.orbitals
        counts = system.counts
        halves = [(c[:, :k], c[:, k:]) for c, k in zip(orbitals, counts, strict=True)]
        at = [coordinates(d, *half) for d, half in zip(grads.density, halves, strict=True)]
        force = []
        for x, fock, half in zip(at, params, halves, strict=True):
            occupied, virtual = nearest_orbitals(x, *half)
            force.append((virtual.T @ fock @ occupied).ravel())
        state = state.add((_flat(at), -self.inverse @ jnp.concatenate(force)))
        places, steps = state.entries
        reached = combined(smallest_residual(products(steps, steps), state.valid), places + steps)
        density = jnp.stack([span(x, *half) for x, half in zip(_parts(reached, at), halves, strict=True)])
        return state, separated(params, density)[0]


def _flat(parts: list[Array]) -> Float[Array, " rotations"]:
    return jnp.concatenate([part.ravel() for part in parts])


def _parts(flat: Float[Array, " rotations"], like: list[Array]) -> list[Array]:
    found, start = [], 0
    for part in like:
        found.append(flat[start : start + part.size].reshape(part.shape))
        start += part.size
    return found


def _learn(system: System, solution: Solution) -> tuple[Matrices, Float[Array, "rotations rotations"]]:
    operator, root, _ = loewdin(system)
    fock, density = operator.into(solution.fock), root @ solution.density @ root
    orbitals, energies = semicanonical(fock, density, system.counts)
    halves = [(c[:, :k], c[:, k:]) for c, k in zip(orbitals, system.counts, strict=True)]
    gaps = [(e[k:, None] - e[None, :k]) for e, k in zip(energies, system.counts, strict=True)]

    def product(flat: Float[Array, " rotations"]) -> Float[Array, " rotations"]:
        parts = _parts(flat, gaps)
        half = jnp.stack([v @ x @ o.T for x, (o, v) in zip(parts, halves, strict=True)])
        response = operator.response(density, half + jnp.swapaxes(half, -1, -2))
        found = [v.T @ f @ o + gap * x for f, x, gap, (o, v) in zip(response, parts, gaps, halves, strict=True)]
        return _flat(found)

    size = sum(gap.size for gap in gaps)
    hessian = jax.lax.map(product, jnp.eye(size, dtype=density.dtype), batch_size=32)
    values, vectors = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
    return orbitals, (vectors / jnp.maximum(values, _SOFTEST)[None]) @ vectors.T
