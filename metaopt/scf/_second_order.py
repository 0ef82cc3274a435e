"""Newton's method on rotations of orbitals."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Scalar

from .._core._trees import select
from ._norms import positive
from ._orbitals import counts_of, dagger, rotated, separated
from .base import AbstractAccelerator, FockBuilds, Matrices, Signal


# Steps that lower the energy by less than this of what the model says are too long.
_POOR, _GOOD = 0.25, 0.75
# Energies are known to so many digits.
_NOISE = 1e-13


class SecondOrderState(eqx.Module):
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

    With $F_{ai}$ between virtual and occupied orbitals, rotations $\kappa_{ai}$ solve

    $$F_{ab} \kappa_{bi} - \kappa_{aj} F_{ji} + F_{ai}[\kappa] = -F_{ai}$$

    by at most `iterations` of preconditioned conjugate gradients. Each needs one Fock build for $F[\kappa]$, and one
    more foretells the energy; all are counted. Where that leads up, the preconditioned gradient is followed. Steps are
    no longer than a radius that follows how well energies were foretold, and one that raised the energy is taken back.

    **Attributes:**

    - `iterations`: of conjugate gradients, per step.
    - `radius`: the longest first step, as the norm of $\kappa$.

    ??? cite "Reference"

        ```bibtex
        @article{bacskay1981quadratically,
          title={A quadratically convergent {Hartree--Fock} ({QC-SCF}) method. {Application} to closed shell systems},
          author={Bacskay, George B.},
          journal={Chemical Physics}, volume={61}, pages={385--404}, year={1981}
        }
        ```
    """

    iterations: int = eqx.field(static=True, default=6)
    radius: Float[Array, ""] = eqx.field(converter=positive, default=0.5)

    def __check_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"`iterations` must be at least 1, but {self.iterations} was given.")

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
        filled = jnp.arange(fock.shape[-1]) < jnp.round(counts_of(density))[:, None]
        filled = filled.astype(fock.dtype)
        mask = (1 - filled)[:, :, None] * filled[:, None, :]
        energies = energies - lift[:, None] * (1 - filled)
        rotation, promised, used = self._rotation(grads, orbitals, energies, mask, fock, density, radius)

        turned = rotated(orbitals, rotation)
        chosen = turned * filled[:, None, :]
        new = chosen @ dagger(chosen)
        proposed, _ = separated(fock, new)
        builds = FockBuilds(state.builds.count + used)
        return SecondOrderState(fock, density, energy, promised, radius, jnp.asarray(True), builds), proposed

    def _rotation(
        self,
        grads: Signal,
        orbitals: Matrices,
        energies: Float[Array, "spin n"],
        mask: Matrices,
        fock: Matrices,
        density: Matrices,
        radius: Float[Array, ""],
    ) -> tuple[Matrices, Float[Array, ""], Any]:
        gaps = energies[:, :, None] - energies[:, None, :]
        gradient = mask * (dagger(orbitals) @ fock @ orbitals)

        def hessian(rotation: Matrices) -> Matrices:
            rotation = mask * rotation
            both = orbitals @ (rotation + dagger(rotation)) @ dagger(orbitals)
            response = dagger(orbitals) @ grads.operator.response(density, both) @ orbitals
            return mask * (gaps * rotation + response)

        structure = jax.eval_shape(lambda: fock)
        steep = jnp.where(mask > 0, jnp.maximum(gaps, 0.2), 1.0)
        tag = lx.positive_semidefinite_tag
        operator = lx.FunctionLinearOperator(lambda x: hessian(x) + (1 - mask) * x, structure, tag)
        rough = lx.FunctionLinearOperator(lambda x: x / steep, structure, tag)
        solver = lx.CG(rtol=1e-2, atol=1e-10, max_steps=self.iterations)
        solved = lx.linear_solve(operator, -gradient, solver, options={"preconditioner": rough}, throw=False)
        newton = mask * solved.value
        # Conjugate gradients on a saddle may go anywhere: up, or to where the model goes down less than along the
        # preconditioned gradient.
        plain = -gradient / steep
        good = jnp.all(jnp.isfinite(newton)) & (jnp.sum(newton * gradient) < -0.1 * jnp.abs(jnp.sum(plain * gradient)))
        rotation = jnp.where(good, newton, plain)
        length = jnp.linalg.norm(rotation)
        rotation = rotation * jnp.minimum(1.0, radius / jnp.where(length > 0, length, 1.0))
        slope = jnp.sum(gradient * rotation)
        curvature = jnp.sum(rotation * hessian(rotation))
        promised = 2 * grads.weight * (slope + 0.5 * curvature)
        used = jnp.asarray(solved.stats["num_steps"], jnp.int32) + 1
        return rotation, promised, used
