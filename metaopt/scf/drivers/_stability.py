"""Whether a solution is a minimum, and the way down where it is not."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import check_counts
from ..accelerators._lanczos import curvature, lanczos, scaling
from ..accelerators._second_order import SecondOrder
from ..base import Matrices
from ..systems._checks import require_double
from ..systems._operator import loewdin
from ..systems._orbitals import between, fill, rotated, semicanonical
from ..systems._system import System
from ._results import RESULTS, Solution
from ._solve import solve


# Angles at which the way down is looked along.
_ANGLES = (0.1, 0.3, 0.6, 1.0)


class Stability(eqx.Module):
    """What the second derivative of the energy by rotations of orbitals says of a solution.

    - `eigenvalue`: the lowest eigenvalue of the second derivative, relative to what it would be without the response of
        the mean field; negative if the solution is not a minimum.
    - `stable`: whether it is a minimum, up to rounding, and no lower energy was seen further along that way.
    - `density`: of each spin, some way down, to begin a new calculation with.
    - `energy`: of that density.
    - `fock_builds`: how many Fock matrices this took.
    """

    eigenvalue: Float[Array, ""]
    stable: Bool[Array, ""]
    density: Matrices
    energy: Float[Array, ""]
    fock_builds: Int[Array, ""]


def stability(
    system: System,
    solution: Solution,
    *,
    unrestricted: bool = False,
    iterations: int = 40,
    tolerance: float = 1e-4,
) -> Stability:
    r"""Look for a rotation of orbitals that lowers the energy.

    Lanczos iterations from a random vector, which has all symmetries, for the lowest eigenvalue of

    $$\Delta^{-1/2} H \Delta^{-1/2}, \qquad \Delta_{ai} = \epsilon_a - \epsilon_i$$

    with the second derivative $H$ by rotations of orbitals. Its sign is that of the lowest eigenvalue of $H$, and one
    that is negative is found within few iterations. The energy is then looked at along its vector.

    **Arguments:**

    - `system`: the system.
    - `solution`: a solution of it.
    - `unrestricted`: for a restricted system, whether rotations may differ between spins. The density found then
        belongs to `system.unrestricted()`.
    - `iterations`: how many at most, each with one Fock build.
    - `tolerance`: how far below zero the eigenvalue of a minimum may seem to be.

    **Returns:**

    A [`metaopt.scf.Stability`][].

    **Raises:**

    - `ValueError`: if `iterations` is below 1.
    """
    require_double()
    check_counts(iterations=iterations)
    density = solution.density
    if unrestricted and system.restricted:
        system = system.unrestricted()
        density = jnp.broadcast_to(density, (2, *density.shape[1:]))
    operator, root, _ = loewdin(system)
    density = root @ density @ root
    fock, energy = operator.fock(density)
    orbitals, energies = semicanonical(fock, density, system.counts)
    mask = between(system.functions, system.counts)
    size = sum(count * (system.functions - count) for count in system.counts)
    steps = min(iterations, size)
    if steps == 0:  # no virtual orbitals, or no occupied ones
        found = jnp.asarray(jnp.inf), operator.out_of(density)
        return Stability(found[0], jnp.asarray(True), found[1], energy, jnp.asarray(1, jnp.int32))
    scale = scaling(energies, mask)
    start = mask * jr.normal(jr.key(0), mask.shape, mask.dtype)
    vectors, matrix = lanczos(curvature(operator, density, orbitals, energies, scale), start, steps)
    values, coefficients = jnp.linalg.eigh(matrix)
    way = scale * jnp.tensordot(coefficients[:, 0], vectors, 1)
    way = way / jnp.max(jnp.abs(way))

    def along(angle: Float[Array, ""]) -> tuple[Float[Array, ""], Matrices]:
        turned = fill(rotated(orbitals, angle * way), system.counts)
        return operator.fock(turned)[1], operator.out_of(turned)

    angles = jnp.asarray([sign * angle for angle in _ANGLES for sign in (1, -1)])
    seen, densities = jax.lax.map(along, angles)
    best = jnp.argmin(seen)
    # A lower energy far along the way is another valley, and as good a reason to go there.
    stable = (values[0] > -tolerance) & (seen[best] > energy - tolerance)
    builds = jnp.asarray(1 + steps + angles.size, jnp.int32)
    return Stability(values[0], stable, densities[best], seen[best], builds)


class Followed(eqx.Module):
    """What [`metaopt.scf.follow`][] found.

    - `solution`: the lowest solution.
    - `stability`: what is known of it.
    - `fock_builds`: of all calculations and analyses together.
    - `descents`: how often a lower solution was found.
    """

    solution: Solution
    stability: Stability
    fock_builds: Int[Array, ""]
    descents: Int[Array, ""]


def follow(
    system: System,
    solution: Solution | None = None,
    accelerator: AbstractAlgorithm[Any, Any, Any] | None = None,
    *,
    attempts: int = 5,
    max_cycles: int = 100,
    energy_tolerance: float = 1e-9,
    gradient_tolerance: float = 1e-5,
) -> Followed:
    """Go down from solutions that are not minima, until one is.

    Where [`metaopt.scf.stability`][] finds a way down, a calculation begins there. It runs on the host, over compiled
    programs, so it cannot be inside of `jax.jit` itself.

    **Arguments:**

    - `system`: the system.
    - `solution`: where to begin; by default what [`metaopt.scf.solve`][] finds.
    - `accelerator`: for calculations that go on from a way down; by default [`metaopt.scf.SecondOrder`][], which goes
        down. What it leaves unfinished, the default of [`metaopt.scf.solve`][] finishes.
    - `attempts`: how often to look for a way down, at least 1.
    - `max_cycles`, `energy_tolerance`, `gradient_tolerance`: as those of [`metaopt.scf.solve`][].

    **Returns:**

    A [`metaopt.scf.Followed`][].

    **Raises:**

    - `ValueError`: if `attempts` is below 1.
    """
    check_counts(attempts=attempts)
    accelerator = SecondOrder(iterations=16) if accelerator is None else accelerator
    options: dict[str, Any] = dict(
        max_cycles=max_cycles, energy_tolerance=energy_tolerance, gradient_tolerance=gradient_tolerance
    )
    if solution is None:
        solution = _solve(system, None, None, **options)
    builds, descents = solution.fock_builds, 0
    found = _stability(system, solution)
    builds = builds + found.fock_builds
    for _ in range(attempts):
        if bool(found.stable):
            break
        lower = _solve(system, accelerator, found.density, **options)
        builds = builds + lower.fock_builds
        if bool(lower.result == RESULTS.max_cycles):
            lower = _solve(system, None, lower, **options)
            builds = builds + lower.fock_builds
        if not (bool(lower.result == RESULTS.converged) and float(lower.energy) < float(solution.energy) - 1e-9):
            break
        solution, descents = lower, descents + 1
        found = _stability(system, solution)
        builds = builds + found.fock_builds
    return Followed(solution, found, builds, jnp.asarray(descents, jnp.int32))


@eqx.filter_jit
def _solve(system: System, accelerator: Any, guess: Any, **options: Any) -> Solution:
    return solve(system, accelerator, guess=guess, **options)


_stability = eqx.filter_jit(stability)
