"""A learned policy as an algorithm."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar, ScalarLike

from .._core import AbstractAlgorithm, AbstractLossReader, AbstractPlanner
from .._core._algorithm import ASSUMED_HORIZON, horizon_leaf
from .._core.arrays._numbers import COUNT, check_counts
from .._core.arrays._trees import select
from ._spaces import Actor, Network
from .base import AbstractControl
from .environments._controls import RateMultipliers
from .environments._progress import Progress


P = TypeVar("P")


class _PolicyState(NamedTuple):
    control: PyTree
    seen: PyTree
    clock: Int[Array, ""]


class Policy(AbstractAlgorithm[_PolicyState, Any, Any], AbstractPlanner, AbstractLossReader):
    """An inner algorithm that a learned policy controls: what reinforcement learning is for.

    It decides `decisions` times in a run, at equal distances, by what it has seen of the losses and the gradients, and
    the control does to the inner algorithm what was decided. It plans ahead: tell it the budget with
    [`metaopt.with_horizon`][]. [`metaopt.rl.OptimizationEnvironment.policy`][] makes one that fits what an agent was
    trained in.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{daniel2016learning,
          title={Learning Step Size Controllers for Robust Neural Network Training},
          author={Daniel, Christian and Taylor, Jonathan and Nowozin, Sebastian},
          booktitle={AAAI}, year={2016}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    actor: Actor
    control: AbstractControl[Any]
    progress: Progress
    horizon: Int[Array, ""]
    decisions: int = eqx.field(static=True)

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        actor: Actor | None = None,
        *,
        control: AbstractControl[Any] | None = None,
        progress: Progress | None = None,
        decisions: int = 20,
        horizon: ScalarLike = ASSUMED_HORIZON,
    ):
        """**Arguments:**

        - `inner`: the algorithm that is controlled.
        - `actor`: what decides; by default one that has learned nothing and takes action 0 always.
        - `control`: what its actions do; by default [`metaopt.rl.RateMultipliers`][].
        - `progress`: what it sees.
        - `decisions`: how often it decides in a run.
        - `horizon`: how many steps a run has; drivers set it.

        **Raises:**

        - `ValueError`: if `decisions` is below 1, or the actor has another number of actions than the control.
        """
        COUNT.check(horizon=horizon, decisions=decisions)
        check_counts(decisions=decisions)
        self.inner, self.decisions = inner, decisions
        self.control = RateMultipliers() if control is None else control
        self.progress = Progress() if progress is None else progress
        space = self.control.space
        if actor is None:
            actor = Actor(Network((self.progress.size, space.outputs), 0.0, key=jr.key(0)), space)
        if actor.space != space:
            raise ValueError(f"The actor chooses from {actor.space}, but the control acts on {space}.")
        self.actor = actor
        self.horizon = horizon_leaf(horizon)

    @property
    def without_value(self) -> str:
        return "takes all losses to be 1"

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _PolicyState:
        return _PolicyState(
            self.control.init(self.inner, params, key=key), self.progress.init(), jnp.zeros((), jnp.int32)
        )

    def step(
        self, state: _PolicyState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_PolicyState, P]:
        every = jnp.maximum(self.horizon // self.decisions, 1)
        due = state.clock % every == 0
        dtype = state.seen.sums.dtype
        time = state.clock.astype(dtype) / self.horizon.astype(dtype)
        seen, observation = self.progress.observe(state.seen, time, self.control.setting(state.control))
        acted = self.control.act(state.control, self.inner, params, self.actor(observation))
        control, seen = select(due, (acted, seen), (state.control, state.seen))
        seen = self.progress.see(seen, value, grads)
        control, params = self.control.step(control, self.inner, params, grads, value=value)
        return _PolicyState(control, seen, state.clock + 1), params
