"""Systems of one size from systems of many."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._interactions import PairPacked, pairs
from ._system import System


# In hartree: orbitals that nothing else comes near.
_FAR = 100.0


def pad(system: System, functions: int, electrons: tuple[int, int]) -> System:
    """Add functions that feel nothing of the rest, and electrons in some of them.

    Systems of different molecules become systems of one size, which [`metaopt.scf.stack`][] takes. Energies, residuals
    and the course of a calculation stay what they were.

    **Arguments:**

    - `system`: with all integrals in memory, and without a functional.
    - `functions`: how many there shall be.
    - `electrons`: how many of each spin there shall be.

    **Returns:**

    The larger system, which has no geometry.

    **Raises:**

    - `ValueError`: if there are more already, or there is no room for as many electrons.
    - `TypeError`: for density fits and density functionals.
    """
    if not isinstance(system.interaction, PairPacked) or system.functional is not None:
        raise TypeError("Only Hartree-Fock systems with all integrals (`PairPacked`) can be padded.")
    new = functions - system.functions
    added = [k - old for k, old in zip(electrons, system.electrons, strict=True)]
    if min(new, *added) < 0 or max(added) > new or (not system.restricted and added[0] != added[1]):
        raise ValueError(
            f"A system of {system.functions} functions and {system.electrons} electrons cannot be padded to "
            f"{functions} functions and {electrons} electrons. Add as many electrons of each spin, and no more "
            "than functions."
        )
    levels = jnp.where(jnp.arange(new) < added[0], -_FAR, _FAR)

    def wide(matrix: Float[Array, "n n"], diagonal: Float[Array, " new"]) -> Float[Array, "m m"]:
        place = np.arange(system.functions, functions)
        return jnp.pad(matrix, (0, new)).at[place, place].set(diagonal)

    more = (0, pairs(functions) - pairs(system.functions))
    interaction = PairPacked(jnp.pad(system.interaction.direct, more), jnp.pad(system.interaction.closed, more))
    filled = jnp.where(levels < 0, 2.0, 0.0)
    return dataclasses.replace(
        system,
        overlap=wide(system.overlap, jnp.ones(new)),
        core=wide(system.core, levels),
        interaction=interaction,
        nuclear_energy=system.nuclear_energy + _FAR * sum(added),
        guess=None if system.guess is None else wide(system.guess, filled),
        electrons=electrons,
        geometry=None,
    )
