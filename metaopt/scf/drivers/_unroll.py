"""A fixed number of cycles, to look at and to differentiate."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import check_counts
from ..base import AbstractGuess, hidden_builds
from ..guesses._guess import initial
from ..systems._checks import require_double
from ..systems._operator import loewdin
from ..systems._system import System
from ._results import Solution
from ._solve import look, signal


class Trajectory(eqx.Module):
    """What was seen at each Fock matrix, that of the guess first.

    - `energies`: the energies.
    - `gradient_norms`: the norms of the derivatives by rotations of orbitals, as [`metaopt.scf.solve`][] defines them.
    - `fock_builds`: how many Fock matrices were built up to each.
    - `density`: the last density of each spin.
    """

    energies: Float[Array, " cycles"]
    gradient_norms: Float[Array, " cycles"]
    fock_builds: Int[Array, " cycles"]
    density: Float[Array, "spin n n"]


def unroll(
    system: System,
    accelerator: AbstractAlgorithm[Any, Any, Any],
    *,
    cycles: int,
    guess: str | AbstractGuess | Solution | Float[Array, "..."] | None = None,
) -> Trajectory:
    """Run a fixed number of cycles, whether or not they converge.

    All of it is differentiable, by integrals, by a density to begin with, and by the numbers in the accelerator: this
    is what learned guesses and accelerators are trained through.

    **Arguments:**

    - `system`, `accelerator`, `guess`: as those of [`metaopt.scf.solve`][].
    - `cycles`: how many, at least 1.

    **Returns:**

    A [`metaopt.scf.Trajectory`][] of `cycles + 1` points.

    **Raises:**

    - `ValueError`: in single precision, or if `cycles` is below 1.
    """
    require_double()
    check_counts(cycles=cycles)
    operator, root, _ = loewdin(system)
    first = look(operator, initial(operator, root, guess))
    state = accelerator.init(first.fock)
    dynamic, static = eqx.partition((first, state), eqx.is_array)

    def body(dynamic: Any, _: None) -> tuple[Any, Any]:
        old, state = eqx.combine(dynamic, static)
        state, fock = accelerator.step(state, old.fock, signal(operator, old), value=old.energy)
        point = look(operator, system.occupy(fock))
        seen = point.energy, point.gradient_norm, hidden_builds(state)
        return eqx.filter((point, state), eqx.is_array), seen

    dynamic, seen = jax.lax.scan(body, dynamic, length=cycles)
    energies, norms, hidden = seen
    last, _ = eqx.combine(dynamic, static)
    built = jnp.arange(1, cycles + 1, dtype=hidden.dtype) + hidden
    return Trajectory(
        energies=jnp.concatenate([first.energy[None], energies]),
        gradient_norms=jnp.concatenate([first.gradient_norm[None], norms]),
        fock_builds=1 + jnp.concatenate([jnp.zeros(1, built.dtype), built]),
        density=operator.out_of(last.density),
    )
