"""Densities to begin with."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base import AbstractGuess, Matrices
from ..drivers._results import Solution
from ..systems._operator import Operator
from ..systems._orbitals import occupy


GUESSES = ("natural", "superposition", "core")


def initial(
    operator: Operator, root: Float[Array, "n n"], guess: str | AbstractGuess | Solution | Float[Array, "..."] | None
) -> Matrices:
    """Densities in the orthonormal basis of an operator, whose overlap has the square root `root`."""
    system = operator.system
    spins, n = len(system.counts), system.functions
    if guess is None:
        # The spins of an open shell would share natural orbitals, which is far from what they are in a metal.
        guess = "core" if system.guess is None else "natural" if system.restricted else "superposition"
    if isinstance(guess, AbstractGuess):
        return guess.projectors(operator, root)
    if isinstance(guess, str):
        if guess not in GUESSES:
            names = ", ".join(f"`{name}`" for name in GUESSES)
            raise ValueError(f"There is no guess {guess!r}; there are {names}, a density, and a solution.")
        if guess == "core":
            core = operator.into(system.core[None])
            return occupy(jnp.broadcast_to(core, (spins, n, n)), system.counts)
        if system.guess is None:
            raise ValueError(f'The guess {guess!r} needs a density, but the system has none. Use `guess="core"`.')
        given = jnp.broadcast_to(system.guess[None], (spins, n, n))
        if guess == "superposition":
            # Of both spins, and not of the right numbers.
            return root @ (0.5 * given) @ root
    else:
        given = guess.density if isinstance(guess, Solution) else guess
        # A density of all electrons, or of each spin; of two spins where they share orbitals, the sum.
        if given.ndim == 2:
            given = given[None]
        if given.shape[-2:] != (n, n) or given.shape[0] not in (1, 2) or given.ndim != 3:
            raise ValueError(
                f"A density to begin with has shape {(n, n)}, or {(spins, n, n)} with one per spin, but "
                f"{given.shape} was given."
            )
        given = jnp.sum(given, 0, keepdims=True) if spins < given.shape[0] else given
        given = jnp.broadcast_to(given, (spins, n, n))
    return natural(root @ given @ root, system.counts)


def natural(density: Matrices, counts: tuple[int, ...]) -> Matrices:
    """The projectors onto the natural orbitals of an orthonormal basis that hold most electrons: what is closest to a
    density among those of a single determinant."""
    return occupy(-density, counts)
