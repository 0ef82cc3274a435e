"""Level shifts and damping by the decisions of an actor."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, Scalar

from ._history import empty
from ._learned_accelerator import FEATURES, LearnedState, features
from ._norms import largest
from ._switching import Switching
from .base import AbstractAccelerator, Matrices, Signal


_HISTORY = 8
_CHOICES = ((0.0, 0.0), (0.1, 0.0), (0.3, 0.0), (1.0, 0.0), (0.0, 0.3), (0.0, 0.6))


class Steered(AbstractAccelerator[LearnedState]):
    r"""Shift and damp what a base accelerator proposes, by one of a few choices in each cycle.

    $$\tilde F = (1 - d_a) \left(F_\text{base} + \sigma_a (1 - P)\right) + d_a \, \tilde F_\text{last}, \qquad
      a = \mathrm{actor}(z)$$

    with the features $z$ of a [`metaopt.scf.LearnedAccelerator`][]: those of the residual, the energy, the gap between
    orbitals and the age. The actor is a function of them, such as a [`metaopt.rl.Actor`][] that was trained by
    reinforcement learning. Without one, choice 0 is taken always, which by default changes nothing.

    **Attributes:**

    - `base`: the accelerator.
    - `actor`: from `features` numbers to the number of a choice.
    - `choices`: pairs of a shift $\sigma_a$ in hartree and a damping $d_a$.
    """

    base: AbstractAccelerator[Any]
    actor: Callable[[Array], Array] | None
    choices: Float[Array, "choices 2"]

    def __init__(
        self,
        base: AbstractAccelerator[Any] | None = None,
        actor: Callable[[Array], Array] | None = None,
        choices: Float[Array, "choices 2"] | None = None,
    ):
        """**Arguments:**

        - `base`: the accelerator; by default [`metaopt.scf.Switching`][] from ADIIS to CDIIS.
        - `actor`: what decides.
        - `choices`: what there is to choose from; by default shifts of 0.1, 0.3 and 1, dampings of 0.3 and 0.6, and
            neither.

        **Raises:**

        - `ValueError`: if `choices` is not a list of pairs.
        """
        self.choices = jnp.asarray(_CHOICES) if choices is None else choices
        if self.choices.ndim != 2 or self.choices.shape[1] != 2:
            raise ValueError(
                "`choices` must be pairs of a shift and a damping, but an array of shape "
                f"{self.choices.shape} was given."
            )
        self.base, self.actor = Switching() if base is None else base, actor

    @property
    def features(self) -> int:
        """How many numbers the actor is given."""
        return FEATURES

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> LearnedState:
        far = jnp.asarray(jnp.inf, params.dtype)
        past = empty((params, params, params), _HISTORY)
        return LearnedState(self.base.init(params, key=key), past, params, far, far, jnp.zeros((), jnp.int32))

    def observe(self, state: LearnedState, params: Matrices, grads: Signal) -> Float[Array, " features"]:
        """What the actor is given at a Fock matrix."""
        return features(state, state.past.add((params, grads.residual, grads.density)), params, grads)

    def act(
        self,
        state: LearnedState,
        params: Matrices,
        grads: Signal,
        action: Int[Array, ""],
        *,
        value: Scalar | None = None,
    ) -> tuple[LearnedState, Matrices]:
        """One step with a given choice, for who trains an actor."""
        base, proposed = self.base.step(state.base, params, grads, value=value)
        shift, damping = self.choices.astype(params.dtype)[action]
        identity = jnp.eye(params.shape[-1], dtype=params.dtype)[None]
        proposed = proposed + shift * (identity - grads.density)
        proposed = proposed + jnp.where(state.age > 0, damping, 0) * (state.last - proposed)
        past = state.past.add((params, grads.residual, grads.density))
        energy = grads.energy.astype(params.dtype)
        return LearnedState(base, past, proposed, largest(grads.residual), energy, state.age + 1), proposed

    def step(
        self, state: LearnedState, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[LearnedState, Matrices]:
        none = jnp.zeros((), jnp.int32)
        action = none if self.actor is None else self.actor(self.observe(state, params, grads)).astype(jnp.int32)
        return self.act(state, params, grads, action, value=value)
