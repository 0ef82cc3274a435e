"""Environments of gymnax."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core.arrays._numbers import usual_promotion
from .._spaces import Box, Discrete
from ..base import AbstractEnvironment, Timestep


class Gymnax(AbstractEnvironment[PyTree]):
    """An environment of [gymnax](https://github.com/RobertTLange/gymnax), from version 1 on.

    ```py
    environment = rl.Gymnax(*gymnax.make("CartPole-v1"))
    ```

    Observations are flattened. Episodes begin anew where this library does it, not inside the environment, and end
    where gymnax truncates them.

    ??? cite "Reference"

        ```bibtex
        @software{gymnax2022github,
          author={Lange, Robert Tjarko},
          title={{gymnax}: A {JAX}-based Reinforcement Learning Environment Library},
          url={http://github.com/RobertTLange/gymnax}, year={2022}
        }
        ```
    """

    environment: Any = eqx.field(static=True)
    params: PyTree
    horizon: int = eqx.field(static=True)
    actions: Discrete | Box = eqx.field(static=True)
    features: int = eqx.field(static=True)

    def __init__(self, environment: Any, params: PyTree = None):
        """**Arguments:**

        - `environment`: of gymnax.
        - `params`: its parameters, by default its own.

        **Raises:**

        - `ValueError`: for an environment without `step_env`, or whose actions are neither discrete nor a vector within
            one range.
        """
        if not callable(getattr(environment, "step_env", None)):
            raise ValueError(
                f"`Gymnax` takes an environment of gymnax, such as `gymnax.make(...)[0]`, but a "
                f"`{type(environment).__name__}` was given."
            )
        self.environment = environment
        self.params = environment.default_params if params is None else params
        self.horizon = int(self.params.max_steps_in_episode)
        self.actions = _space(environment.action_space(self.params))
        self.features = math.prod(environment.observation_space(self.params).shape)

    @property
    def space(self) -> Discrete | Box:
        """The actions."""
        return self.actions

    @property
    def observation_size(self) -> int:
        """How many numbers an observation has."""
        return self.features

    def reset(self, *, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, " features"]]:
        with usual_promotion():
            observation, state = self.environment.reset_env(key, self.params)
        return jtu.tree_map(_strong, state), _flat(observation)

    def step(self, state: PyTree, action: Array, *, key: PRNGKeyArray) -> tuple[PyTree, Timestep]:
        with usual_promotion():
            observation, new, reward, terminated, _ = self.environment.step_env(key, state, action, self.params)
            truncated = self.environment.is_truncated(new, self.params)
        new = jtu.tree_map(lambda x, old: jnp.asarray(x, old.dtype), new, state)
        reward = jnp.asarray(reward, jnp.result_type(float))
        return new, Timestep(_flat(observation), reward, jnp.asarray(terminated), jnp.asarray(truncated))


def _space(space: Any) -> Discrete | Box:
    if (count := getattr(space, "n", None)) is not None:
        return Discrete(int(count))
    lows, highs = (jnp.unique(jnp.asarray(each)) for each in (space.low, space.high))
    if lows.size != 1 or highs.size != 1 or len(space.shape) > 1:
        raise ValueError(f"Actions must be discrete or a vector within one range, but their space is {space!r}.")
    return Box(int(space.shape[0]) if space.shape else 1, float(lows[0]), float(highs[0]))


def _strong(x: Any) -> Array:
    """Numbers of Python become arrays of a dtype that stays."""
    return jax.lax.convert_element_type(x, jnp.asarray(x).dtype)


def _flat(observation: Array) -> Float[Array, " features"]:
    return jnp.ravel(observation).astype(jnp.result_type(float))
