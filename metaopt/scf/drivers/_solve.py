"""The driver of self-consistent field calculations."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import check_counts
from ..._core.arrays._trees import all_finite, select
from ..accelerators._switching import Switching
from ..base import AbstractGuess, Matrices, Signal, hidden_builds
from ..guesses._guess import initial
from ..systems._checks import DEPENDENT, require_double
from ..systems._operator import Operator, loewdin
from ..systems._orbitals import commutator, dagger, mixing_entropy, occupied, semicanonical
from ..systems._system import System
from ._implicit import attached, attached_warm
from ._results import RESULTS, Solution


# So many changes of the energy in a row that go up and down in turns are an oscillation.
_TURNS = 6


class Point(eqx.Module):
    """A density, and what one Fock build says of it."""

    density: Matrices
    fock: Matrices
    energy: Float[Array, ""]
    residual: Matrices
    gradient_norm: Float[Array, ""]


class _Loop(eqx.Module):
    point: Point
    state: PyTree[Any]
    change: Float[Array, ""]
    turns: Int[Array, ""]
    cycle: Int[Array, ""]
    met: Bool[Array, ""]
    finite: Bool[Array, ""]


def solve(
    system: System,
    accelerator: AbstractAlgorithm[Any, Any, Any] | None = None,
    *,
    guess: str | AbstractGuess | Solution | Float[Array, "..."] | None = None,
    max_cycles: int = 100,
    energy_tolerance: float = 1e-9,
    gradient_tolerance: float = 1e-5,
    throw: bool = False,
    progress: bool = False,
) -> Solution:
    r"""Solve the self-consistent field equations.

    Diagonalizes a Fock matrix, fills its lowest orbitals, builds the Fock matrix of their density, and lets the
    accelerator make of it and the residual $FP - PF$ the one that is diagonalized next, until both the energy changes
    and the gradient is less than their tolerances. Each cycle has one Fock build, plus those inside of the accelerator.

    All is one compiled loop: wrap it in `eqx.filter_jit`, and in `eqx.filter_vmap` for [`metaopt.scf.stack`][]ed
    systems. Energy and density are differentiable by the integrals, by the implicit function theorem, with iterations
    of conjugate gradients for the density and none for the energy. By the hyperparameters of the accelerator their
    derivative is zero: where a calculation ends does not depend on how it gets there.

    **Arguments:**

    - `system`: what to solve, in double precision.
    - `accelerator`: any algorithm on Fock matrices and a [`metaopt.scf.Signal`][]; by default
        [`metaopt.scf.Switching`][] from ADIIS to CDIIS.
    - `guess`: where to begin: `"natural"`, the natural orbitals of the system's density that hold most electrons, which
        is the default of restricted systems that have one; `"superposition"`, that density as it is, the default of
        unrestricted ones; `"core"`, the orbitals of the one-electron Hamiltonian, the default of systems without; a
        density, an earlier solution of a system of the same size, or a rule such as a
        [`metaopt.scf.LearnedGuess`][].
    - `max_cycles`: the budget, at least 1.
    - `energy_tolerance`: of the change of the energy, in hartree.
    - `gradient_tolerance`: of the norm of the derivative by rotations of orbitals.
    - `throw`: raise on failure (a runtime error with the advice of the result) instead of reporting it.
    - `progress`: print a line for each cycle, also from inside of compiled programs.

    **Returns:**

    A [`metaopt.scf.Solution`][].

    **Raises:**

    - `ValueError`: in single precision, or if `max_cycles` is below 1, or for a guess that does not fit.
    """
    require_double()
    check_counts(max_cycles=max_cycles)
    accelerator = Switching() if accelerator is None else accelerator
    fixed = jax.lax.stop_gradient(eqx.filter(system, eqx.is_array))
    fixed = eqx.combine(fixed, system)
    numbers = jax.lax.stop_gradient(eqx.filter(accelerator, eqx.is_array))
    accelerator = eqx.combine(numbers, accelerator)
    operator, root, smallest = loewdin(fixed)
    start = initial(operator, root, guess)
    start = jax.lax.stop_gradient(start)
    loop = _run(operator, accelerator, start, max_cycles, energy_tolerance, gradient_tolerance, progress)
    solution = _conclude(system, operator, root, smallest, loop)
    return solution.result.error_if(solution, solution.result != RESULTS.converged) if throw else solution


def look(operator: Operator, density: Matrices) -> Point:
    """Build a Fock matrix."""
    fock, energy = operator.fock(density)
    residual = commutator(fock, density)
    norm = operator.system.weight * jnp.linalg.norm(residual) / jnp.sqrt(2.0)
    return Point(density, fock, energy, residual, norm)


def signal(operator: Operator, point: Point) -> Signal:
    """What an accelerator is told."""
    weight = jnp.asarray(float(operator.system.weight))
    return Signal(point.residual, point.density, point.energy, weight, operator)


def _tell(cycle: Any, bits: Any) -> None:
    energy, norm = np.ascontiguousarray(bits, np.int32).view(np.float64).ravel()
    print(f"cycle {int(cycle)}: energy {energy:.10f}, gradient {norm:.2e}", flush=True)


def _run(
    operator: Operator,
    accelerator: AbstractAlgorithm[Any, Any, Any],
    start: Matrices,
    max_cycles: int,
    energy_tolerance: float,
    gradient_tolerance: float,
    progress: bool,
) -> _Loop:
    point = look(operator, start)
    state = accelerator.init(point.fock)
    zero, false = jnp.zeros((), jnp.int32), jnp.asarray(False)
    begin = _Loop(point, state, jnp.asarray(jnp.inf), zero, zero, false, all_finite(point))
    dynamic, static = eqx.partition(begin, eqx.is_array)

    def go_on(dynamic: PyTree[Any]) -> Bool[Array, ""]:
        return ~dynamic.met & dynamic.finite & (dynamic.cycle < max_cycles)

    def body(dynamic: PyTree[Any]) -> PyTree[Any]:
        old: _Loop = eqx.combine(dynamic, static)
        seen = signal(operator, old.point)
        state, fock = accelerator.step(old.state, old.point.fock, seen, value=old.point.energy)
        point = look(operator, operator.system.occupy(fock))
        change = point.energy - old.point.energy
        finite = all_finite(point)
        met = (jnp.abs(change) < energy_tolerance) & (point.gradient_norm < gradient_tolerance)
        turns = jnp.where(change * old.change < 0, old.turns + 1, 0).astype(jnp.int32)
        cycle = old.cycle + 1
        if progress:
            # As bits: where callbacks run, double precision may not be switched on.
            bits = jax.lax.bitcast_convert_type(jnp.stack([point.energy, point.gradient_norm]), jnp.int32)
            jax.debug.callback(_tell, cycle, bits)
        new = _Loop(point, state, change, turns, cycle, met & finite, finite)
        kept = eqx.tree_at(lambda x: (x.cycle, x.finite, x.state), old, (cycle, finite, state))
        return eqx.filter(select(finite, new, kept), eqx.is_array)

    return eqx.combine(jax.lax.while_loop(go_on, body, dynamic), static)


def _conclude(
    system: System, operator: Operator, root: Float[Array, "n n"], smallest: Float[Array, ""], loop: _Loop
) -> Solution:
    point = loop.point
    result = RESULTS.where(loop.turns >= _TURNS, RESULTS.oscillating, RESULTS.max_cycles)
    result = RESULTS.where(loop.met, RESULTS.converged, result)
    result = RESULTS.where(loop.finite, result, RESULTS.diverged)
    result = RESULTS.where(smallest < DEPENDENT, RESULTS.dependent, result)
    plain = point.energy, operator.out_of(point.density), root @ point.fock @ root
    if system.temperature is None:
        orbitals, energies = semicanonical(point.fock, point.density, system.counts)
        occupations, entropy = occupied(system.functions, system.counts), jnp.zeros_like(point.energy)
        orbitals = operator.basis @ orbitals
        energy, density, fock = attached(system, orbitals, energies, plain)
    else:
        energies, orbitals = jnp.linalg.eigh(point.fock)
        occupations = jnp.diagonal(dagger(orbitals) @ point.density @ orbitals, axis1=-2, axis2=-1)
        orbitals = operator.basis @ orbitals
        entropy = system.weight * mixing_entropy(occupations)
        (energy, density, fock), entropy = attached_warm(system, orbitals, energies, plain, entropy)
    return Solution(
        energy=energy,
        density=density,
        fock=fock,
        orbitals=orbitals,
        orbital_energies=energies,
        gradient_norm=point.gradient_norm,
        energy_change=loop.change,
        cycles=loop.cycle,
        fock_builds=1 + loop.cycle + hidden_builds(loop.state),
        result=result,
        occupations=occupations,
        entropy=entropy,
    )
