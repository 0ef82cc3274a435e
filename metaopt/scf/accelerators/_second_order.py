"""Newton's method on rotations of orbitals."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Scalar

from ..._core.arrays._numbers import POSITIVE, check_counts, number
from ..._core.arrays._trees import select
from ..base import AbstractAccelerator, FockBuilds, Matrices, Signal
from ..systems._orbitals import counts_of, dagger, rotated, separated
from ._lanczos import curvature, lanczos, scaling, trusted


# Steps that lower the energy by less than the first of these, of what the model says, are too long. After those that
# lower it by more than the second, steps may be longer. These are the thresholds of Nocedal and Wright, Numerical
# Optimization, algorithm 4.1.
_POOR, _GOOD = 0.25, 0.75
# Energies are known to so many digits.
_NOISE = 1e-13


class SecondOrderState(NamedTuple):
    """Where the last step began, what it promised, how long steps may be, and the Fock builds of its own."""

    fock: Matrices
    density: Matrices
    energy: Float[Array, ""]
    promised: Float[Array, ""]
    radius: Float[Array, ""]
    started: Bool[Array, ""]
    builds: FockBuilds


class SecondOrder(AbstractAccelerator[SecondOrderState]):
    r"""Minimize the energy over rotations of orbitals by Newton's method in a trust region.

    With $F_{ai}$ between virtual and occupied orbitals and its derivative $H$ by rotations, a step minimizes

    $$\langle F, \kappa \rangle + \tfrac{1}{2} \langle \kappa, H \kappa \rangle
          \quad \text{where} \quad \lVert \Delta^{1/2} \kappa \rVert \le r, \; \Delta_{ai} = \epsilon_a - \epsilon_i$$

    within the span of `iterations` Lanczos vectors, each of which needs a Fock build of its own; these are counted.
    Negative curvature is followed down. The radius follows how well energies were foretold, and a step that raised the
    energy is taken back.

    **Attributes:**

    - `iterations`: how many Lanczos vectors per step.
    - `radius`: $r$ of the first step.

    ??? cite "Reference"

        ```bibtex
        @article{gould1999solving,
          title={Solving the trust-region subproblem using the {Lanczos} method},
          author={Gould, Nicholas I. M. and Lucidi, Stefano and Roma, Massimo and Toint, Philippe L.},
          journal={SIAM Journal on Optimization}, volume={9}, pages={504--525}, year={1999}
        }

        @article{bacskay1981quadratically,
          title={A quadratically convergent {Hartree--Fock} ({QC-SCF}) method. {Application} to closed shell systems},
          author={Bacskay, George B.},
          journal={Chemical Physics}, volume={61}, pages={385--404}, year={1981}
        }
        ```
    """

    iterations: int = eqx.field(static=True, default=8)
    radius: Float[Array, ""] = eqx.field(converter=number, default=0.5)

    def __check_init__(self) -> None:
        POSITIVE.check(radius=self.radius)
        check_counts(iterations=self.iterations)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> SecondOrderState:
        del key
        zero = jnp.zeros((), params.dtype)
        radius = self.radius.astype(params.dtype)
        builds = FockBuilds(jnp.zeros((), jnp.int32))
        nothing = jnp.zeros_like(params)
        return SecondOrderState(nothing, nothing, zero, zero, radius, jnp.asarray(False), builds)

    def step(
        self, state: SecondOrderState, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[SecondOrderState, Matrices]:
        del value
        change = grads.energy - state.energy
        noise = _NOISE * jnp.abs(grads.energy)
        hopeful = state.promised < 0
        agreement = jnp.where(hopeful, (change - noise) / jnp.where(hopeful, state.promised, 1), 1)
        worse = state.started & (change > noise)
        radius = jnp.where(agreement > _GOOD, 2 * state.radius, state.radius)
        radius = jnp.where(agreement < _POOR, 0.5 * state.radius, radius)
        radius = jnp.where(worse, 0.25 * state.radius, radius)
        radius = jnp.where(state.started, jnp.clip(radius, 1e-4, 2.0), state.radius)
        fock, density, energy = select(
            worse, (state.fock, state.density, state.energy), (params, grads.density, grads.energy)
        )

        matrix, lift = separated(fock, density)
        energies, orbitals = jnp.linalg.eigh(matrix)
        # Where a density has no whole number of electrons, as a guess may, they are rounded.
        filled = jnp.arange(fock.shape[-1], dtype=fock.dtype)[None] < jnp.round(counts_of(density))[:, None]
        filled = filled.astype(fock.dtype)
        mask = (1 - filled)[:, :, None] * filled[:, None, :]
        energies = energies - lift[:, None] * (1 - filled)
        scale = scaling(energies, mask)
        gradient = scale * (dagger(orbitals) @ fock @ orbitals)
        product = curvature(grads.operator, density, orbitals, energies, scale)
        vectors, matrix = lanczos(product, gradient, self.iterations)
        force = jnp.tensordot(vectors, gradient, 3)
        steps, lower = trusted(matrix, force, radius)
        rotation = scale * jnp.tensordot(steps, vectors, 1)

        turned = rotated(orbitals, rotation)
        chosen = turned * filled[:, None, :]
        proposed, _ = separated(fock, chosen @ dagger(chosen))
        builds = FockBuilds(state.builds.count + self.iterations)
        promised = 2 * grads.weight * lower
        return SecondOrderState(fock, density, energy, promised, radius, jnp.asarray(True), builds), proposed
