"""What to do in each cycle by the decisions of an actor."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, Scalar

from ..._core.arrays._numbers import check_counts
from ..._core.arrays._trees import select
from ..accelerators._cdiis import CDIIS
from ..accelerators._history import empty
from ..accelerators._norms import largest
from ..accelerators._surrogate import REACH, modelled
from ..accelerators._switching import Switching
from ..base import AbstractAccelerator, Matrices, Signal
from ._learned_accelerator import FEATURES, LearnedState, features


_HISTORY = 8
_ITERATIONS, _VECTORS = 8, 1.0
_COLUMNS = 4
_CHOICES = (
    (0, 0.0, 0.0, 0.0),
    (0, REACH, 0.0, 0.0),
    (0, 4 * REACH, 0.0, 0.0),
    (1, 2 * REACH, 0.0, 0.0),
    (0, REACH, 0.0, 0.3),
    (0, 2 * REACH, 0.1, 0.0),
)


class SteeredState(NamedTuple):
    """What a [`metaopt.scf.LearnedAccelerator`][] remembers, all that was seen in the first cycle, the choice that was
    made last, and the cycle."""

    learned: LearnedState
    first: tuple[Matrices, Matrices, Matrices, Float[Array, ""]]
    action: Int[Array, ""]
    clock: Int[Array, ""]


class Steered(AbstractAccelerator[SteeredState]):
    r"""Take one of a few choices, again and again: whose proposal, how far a model of the field is followed from there,
    a level shift and damping.

    $$\tilde F = (1 - d_a) \left(F_a + \sigma_a (1 - P)\right) + d_a \, \tilde F_\text{last}, \qquad
      a = \mathrm{actor}(z)$$

    where $F_a$ is the proposal of one of the bases, or the solution of the model of a [`metaopt.scf.Surrogate`][] from
    there if it is within a reach $r_a > 0$. The features $z$ are those of a [`metaopt.scf.LearnedAccelerator`][]: of
    the residual, the energy, the gap between orbitals and the age. The actor is a function of them, such as a
    [`metaopt.rl.Actor`][] that was trained by reinforcement learning. It decides in every cycle whose number is a
    multiple of `every`. Without one, choice 0 is taken always.

    What has not converged after `patience` cycles begins anew from the first Fock matrix, and takes choice 0 from then
    on. So where choice 0 converges from the beginning, this does, at most `patience` cycles later.

    **Attributes:**

    - `bases`: accelerators. All see every Fock matrix.
    - `actor`: from `features` numbers to the number of a choice.
    - `choices`: rows of the number of a base, a reach $r_a$, a shift $\sigma_a$ in hartree and a damping $d_a$.
    - `every`: for how many cycles a decision holds.
    - `patience`: for how many cycles the actor is trusted.
    """

    bases: tuple[AbstractAccelerator[Any], ...]
    actor: Callable[[Array], Array] | None
    choices: Float[Array, "choices 4"]
    every: int = eqx.field(static=True)
    patience: int = eqx.field(static=True)

    def __init__(
        self,
        bases: tuple[AbstractAccelerator[Any], ...] | None = None,
        actor: Callable[[Array], Array] | None = None,
        choices: Float[Array, "..."] | None = None,
        *,
        every: int = 5,
        patience: int = 30,
    ):
        """**Arguments:**

        - `bases`: by default [`metaopt.scf.Switching`][] from ADIIS to CDIIS, and [`metaopt.scf.CDIIS`][] alone.
        - `actor`: what decides.
        - `choices`: what there is to choose from; by default the first base, with the model to two distances, the
            second one with it, and the first one with the model damped or shifted.
        - `every`: for how many cycles a decision holds.
        - `patience`: for how many cycles the actor is trusted.

        **Raises:**

        - `ValueError`: if `choices` is not a list of rows of four numbers, or a count is below 1.
        """
        self.choices = jnp.asarray(_CHOICES) if choices is None else choices
        if self.choices.ndim != 2 or self.choices.shape[1] != _COLUMNS:
            raise ValueError(
                "`choices` must be rows of the number of a base, a reach, a shift and a damping, but an array of shape "
                f"{self.choices.shape} was given."
            )
        check_counts(every=every, patience=patience)
        self.bases, self.actor = (Switching(), CDIIS()) if bases is None else tuple(bases), actor
        self.every, self.patience = every, patience

    @property
    def features(self) -> int:
        """How many numbers the actor is given."""
        return FEATURES

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> SteeredState:
        far, zero = jnp.asarray(jnp.inf, params.dtype), jnp.zeros((), jnp.int32)
        past = empty((params, params, params), _HISTORY)
        bases = tuple(base.init(params, key=key) for base in self.bases)
        first = (params, jnp.zeros_like(params), jnp.zeros_like(params), jnp.zeros((), params.dtype))
        return SteeredState(LearnedState(bases, past, params, far, far, zero), first, zero, zero)

    def observe(self, state: SteeredState, params: Matrices, grads: Signal) -> Float[Array, " features"]:
        """What the actor is given at a Fock matrix."""
        past = state.learned.past.add((params, grads.residual, grads.density))
        return features(state.learned, past, params, grads)

    def act(
        self, state: SteeredState, params: Matrices, grads: Signal, action: Int[Array, ""]
    ) -> tuple[SteeredState, Matrices]:
        """One step with a given choice, for who trains an actor."""
        seen = (params, grads.residual, grads.density, grads.energy.astype(params.dtype))
        first = select(state.clock == 0, seen, state.first)
        anew = state.clock == self.patience
        params, residual, density, energy = select(anew, first, seen)
        old = select(anew, self.init(params).learned, state.learned)
        grads = Signal(residual, density, energy, grads.weight, grads.operator)
        number, reach, shift, damping = self.choices.astype(params.dtype)[
            jnp.where(state.clock < self.patience, action, 0)
        ]
        steps = [b.step(s, params, grads, value=energy) for b, s in zip(self.bases, old.base, strict=True)]
        past = old.past.add((params, residual, density))
        plain = jnp.stack([proposed for _, proposed in steps])[jnp.round(number).astype(jnp.int32)]
        one = jnp.ones((), params.dtype)

        def model() -> Matrices:
            return modelled(past, grads, plain, one, one, reach, _ITERATIONS, _VECTORS)

        proposed = jax.lax.cond(reach > 0, model, lambda: plain)
        identity = jnp.eye(params.shape[-1], dtype=params.dtype)[None]
        proposed = proposed + shift * (identity - density)
        proposed = proposed + jnp.where(old.age > 0, damping, 0) * (old.last - proposed)
        bases = tuple(base for base, _ in steps)
        learned = LearnedState(bases, past, proposed, largest(residual), energy, old.age + 1)
        return SteeredState(learned, first, action, state.clock + 1), proposed

    def step(
        self, state: SteeredState, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[SteeredState, Matrices]:
        del value
        actor = self.actor
        if actor is None:
            return self.act(state, params, grads, jnp.zeros((), jnp.int32))
        action = jax.lax.cond(
            state.clock % self.every == 0,
            lambda: actor(self.observe(state, params, grads)).astype(jnp.int32),
            lambda: state.action,
        )
        return self.act(state, params, grads, action)
