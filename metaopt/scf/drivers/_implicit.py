"""Derivatives of a solution by what it is a solution of."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, Float

from ..base import Matrices
from ..systems._orbitals import between, dagger, fill
from ..systems._system import System


T = TypeVar("T")
Plain = tuple[Float[Array, ""], Matrices, Matrices]


def attached(system: System, orbitals: Matrices, energies: Float[Array, "spin n"], plain: Plain) -> Plain:
    """Energy, density and Fock matrix of a solution, with their derivatives by the system attached.

    With $F_{ai}$ the block between virtual and occupied orbitals, which vanishes at the solution, rotations of orbitals
    follow the system by $\\dot\\kappa = -H^{-1} \\dot F_{ai}$, $H$ being the derivative of $F_{ai}$ by $\\kappa$. The
    energy is stationary and needs none of it.
    """

    def moved(change: Any, system: System, orbitals: Matrices, energies: Array) -> Plain:
        arrays, rest = eqx.partition(system, eqx.is_array)

        def at(arrays: Any, rotation: Matrices) -> Plain:
            return _look(eqx.combine(arrays, rest), orbitals, rotation)

        def coupling(arrays: Any, rotation: Matrices) -> Matrices:
            return _coupling(eqx.combine(arrays, rest), orbitals, rotation)

        zero = jnp.zeros_like(orbitals)
        _, forced = jax.jvp(lambda x: coupling(x, zero), (arrays,), (change,))
        followed = _solve(lambda x: jax.jvp(lambda k: coupling(arrays, k), (zero,), (x,))[1], energies, system, -forced)
        _, (energy, _, _) = jax.jvp(lambda x: at(x, zero), (arrays,), (change,))
        _, (_, density, fock) = jax.jvp(at, (arrays, zero), (change, followed))
        return energy, density, fock

    return _attach(moved, system, orbitals, energies, plain)


def attached_warm(
    system: System, orbitals: Matrices, energies: Float[Array, "spin n"], plain: Plain, entropy: Float[Array, ""]
) -> tuple[Plain, Float[Array, ""]]:
    """The same of a solution at a temperature, and its entropy, as functions of all that the system is.

    The Fock matrix $F = G(F, s)$ in an orthonormal basis that follows the system $s$ changes by
    $\\dot F = (1 - \\partial_F G)^{-1} \\, \\partial_s G \\, \\dot s$. The entropy $S$ at $T$ changes by
    $\\dot S = \\mathrm{tr}(F \\dot P) / T$, so that $E - T S$ is stationary.
    """

    def moved(change: Any, system: System, orbitals: Matrices, energies: Array) -> tuple[Plain, Array]:
        arrays, rest = eqx.partition(system, eqx.is_array)

        def at(arrays: Any, fock: Matrices) -> tuple[Plain, Matrices, Matrices]:
            system = eqx.combine(arrays, rest)
            basis = _turned(system, orbitals, jnp.zeros_like(orbitals))
            occupied = system.occupy(fock)
            density = basis @ occupied @ dagger(basis)
            found, energy = system.fock(density)
            return (energy, density, found), occupied, dagger(basis) @ found @ basis

        fock = jax.vmap(jnp.diag)(energies)
        _, forced = jax.jvp(lambda x: at(x, fock)[2], (arrays,), (change,))
        left = lx.FunctionLinearOperator(
            lambda x: x - jax.jvp(lambda f: at(arrays, f)[2], (fock,), (x,))[1], jax.eval_shape(lambda: forced)
        )
        solver = lx.GMRES(rtol=1e-10, atol=1e-12, max_steps=500, restart=50)
        followed = lx.linear_solve(left, forced, solver, throw=False).value
        _, (out, occupied, _) = jax.jvp(at, (arrays, fock), (change, followed))
        assert system.temperature is not None
        return out, system.weight * jnp.sum(fock * occupied) / system.temperature

    return _attach(moved, system, orbitals, energies, (plain, entropy))


def _attach(
    moved: Callable[[Any, System, Matrices, Array], T], system: System, orbitals: Matrices, energies: Array, values: T
) -> T:
    """Values that have derivatives by the system alone: what they are `moved` by, given how its arrays change."""
    arrays, rest = eqx.partition(system, eqx.is_array)

    @jax.custom_jvp
    def known(arrays: Any, orbitals: Matrices, energies: Array, values: T) -> T:
        del arrays, orbitals, energies
        return values

    @known.defjvp
    def _(primals: Any, tangents: Any) -> tuple[T, T]:
        arrays, orbitals, energies, values = primals
        return values, moved(tangents[0], eqx.combine(arrays, rest), orbitals, energies)

    return known(arrays, *jtu.tree_map(jax.lax.stop_gradient, (orbitals, energies, values)))


def _turned(system: System, orbitals: Matrices, rotation: Matrices) -> Matrices:
    """Orbitals that are orthonormal in the system, and rotated, as far as first derivatives go."""
    metric = dagger(orbitals) @ system.overlap @ orbitals
    identity = jnp.eye(metric.shape[-1], dtype=metric.dtype)[None]
    return orbitals @ (identity - 0.5 * (metric - identity) + rotation - dagger(rotation))


def _look(system: System, orbitals: Matrices, rotation: Matrices) -> Plain:
    density = fill(_turned(system, orbitals, rotation), system.counts)
    fock, energy = system.fock(density)
    return energy, density, fock


def _coupling(system: System, orbitals: Matrices, rotation: Matrices) -> Matrices:
    turned = _turned(system, orbitals, rotation)
    fock, _ = system.fock(fill(turned, system.counts))
    return between(system.functions, system.counts) * (dagger(turned) @ fock @ turned)


def _solve(hessian: Any, energies: Float[Array, "spin n"], system: System, right: Matrices) -> Matrices:
    mask = between(system.functions, system.counts)
    # Where there are no rotations, the identity: the operator must have an inverse.
    gaps = jnp.where(mask > 0, jnp.maximum(energies[:, :, None] - energies[:, None, :], 0.1), 1.0)
    structure = jax.eval_shape(lambda: right)
    tags = lx.positive_semidefinite_tag
    operator = lx.FunctionLinearOperator(lambda x: hessian(mask * x) + (1 - mask) * x, structure, tags)
    rough = lx.FunctionLinearOperator(lambda x: x / gaps, structure, tags)
    solver = lx.CG(rtol=1e-10, atol=1e-12, max_steps=500)
    return lx.linear_solve(operator, right, solver, options={"preconditioner": rough}, throw=False).value
