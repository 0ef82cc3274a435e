"""The abstract parts of reinforcement learning, and the values that pass between them."""

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Scalar

from .._core import AbstractAlgorithm
from .._core.arrays._buffers import owning_init
from ._spaces import Actor, Box, Discrete


S = TypeVar("S")


class Timestep(eqx.Module):
    """What an environment answers to an action.

    - `observation`: of the state that follows.
    - `reward`: for the action.
    - `terminated`: whether there is nothing left to gain, so that the value of what follows is zero.
    - `truncated`: whether the episode is cut off here although it could go on.
    """

    observation: Float[Array, " features"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class AbstractEnvironment(eqx.Module, Generic[S]):
    """A problem of repeated decisions. Both of its functions are pure, and run inside `jax.lax.scan` and `jax.vmap`.

    `reset` draws an instance of the problem, so an environment is a distribution over instances; what is held out is
    an environment of its own.
    """

    horizon: eqx.AbstractVar[int]
    """After how many steps an episode ends at the latest."""

    @property
    @abc.abstractmethod
    def space(self) -> Discrete | Box:
        """The actions."""

    @property
    @abc.abstractmethod
    def observation_size(self) -> int:
        """How many numbers an observation has."""

    @abc.abstractmethod
    def reset(self, *, key: PRNGKeyArray) -> tuple[S, Float[Array, " features"]]:
        """Start an episode: its state and the first observation."""

    @abc.abstractmethod
    def step(self, state: S, action: Array, *, key: PRNGKeyArray) -> tuple[S, Timestep]:
        """Act once."""


class AbstractAgent(eqx.Module, Generic[S]):
    """A way to learn how to act.

    ```python
    state = agent.init(environment, key=key)
    for key in keys:
        state, metrics = agent.update(state, environment, progress, key=key)
    actor = agent.actor(state, environment)
    ```

    A fresh state owns its arrays, as those of algorithms do.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        owning_init(cls)

    @abc.abstractmethod
    def init(self, environment: AbstractEnvironment[Any], *, key: PRNGKeyArray) -> S:
        """Start learning: networks, the state of their optimizer, and running episodes."""

    @abc.abstractmethod
    def update(
        self, state: S, environment: AbstractEnvironment[Any], progress: Float[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[S, dict[str, Float[Array, ""]]]:
        """Act for a while and learn from it. Pure.

        **Arguments:**

        - `state`: from `init` or the update before.
        - `environment`: where to act.
        - `progress`: which share of the training is done, from 0 to 1, for exploration that ends.
        - `key`: draws instances and actions.

        **Returns:**

        The new state, and numbers to watch: `reward` is the mean reward of a step.
        """

    @abc.abstractmethod
    def actor(self, state: S, environment: AbstractEnvironment[Any]) -> Actor:
        """What was learned, acting without exploration."""


class AbstractReward(eqx.Module):
    """What a good step of an optimization is."""

    @abc.abstractmethod
    def reward(
        self,
        first: Float[Array, ""],
        before: Float[Array, ""],
        after: Float[Array, ""],
        last: Bool[Array, ""],
    ) -> Float[Array, ""]:
        """The reward of a decision.

        **Arguments:**

        - `first`, `before`, `after`: the loss at the start of the episode, before the decision, and after it.
        - `last`: whether it was the last one.
        """


class AbstractControl(eqx.Module, Generic[S]):
    """What an action does to an algorithm that is running."""

    @property
    @abc.abstractmethod
    def space(self) -> Discrete | Box:
        """The actions."""

    @abc.abstractmethod
    def init(self, inner: AbstractAlgorithm[Any, Any, Any], params: PyTree, *, key: PRNGKeyArray | None) -> S:
        """The state of the controlled algorithm."""

    @abc.abstractmethod
    def act(self, state: S, inner: AbstractAlgorithm[Any, Any, Any], params: PyTree, action: Array) -> S:
        """Take an action, which holds for the steps that follow."""

    @abc.abstractmethod
    def step(
        self,
        state: S,
        inner: AbstractAlgorithm[Any, Any, Any],
        params: PyTree,
        grads: PyTree,
        *,
        value: Scalar | None = None,
    ) -> tuple[S, PyTree]:
        """One step of the controlled algorithm."""

    @abc.abstractmethod
    def setting(self, state: S) -> Float[Array, ""]:
        """The present setting as a number of order one, to be observed."""
