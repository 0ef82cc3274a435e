"""Environments of gymnax, on one that follows its protocol: a walk between walls."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from metaopt import rl


class _Params(NamedTuple):
    width: int = 3
    max_steps_in_episode: int = 5


class _Walk(NamedTuple):
    place: Any
    time: Any


class _Space(NamedTuple):
    shape: tuple[int, ...] = ()
    n: int | None = None
    low: Any = None
    high: Any = None


class _Environment:
    def __init__(self, actions: _Space):
        self.actions = actions

    @property
    def default_params(self) -> _Params:
        return _Params()

    def action_space(self, params: _Params) -> _Space:
        return self.actions

    def observation_space(self, params: _Params) -> _Space:
        return _Space((2, 1))

    def reset_env(self, key: jax.Array, params: _Params) -> tuple[Any, _Walk]:
        # Numbers of Python in the state, as gymnax has them.
        return jnp.zeros((2, 1), jnp.int32), _Walk(0, 0)

    def step_env(self, key: jax.Array, state: _Walk, action: Any, params: _Params) -> Any:
        # Integers and fractions are added, which the strict settings forbid.
        place = state.place + jnp.asarray(action - 1, jnp.int8) * 1
        new = _Walk(place, state.time + 1)
        observation = jnp.stack([place, new.time])[:, None]
        return observation, new, 1.5 * place + jnp.int32(0), jnp.abs(place) >= params.width, {}

    def is_truncated(self, state: _Walk, params: _Params) -> Any:
        return state.time >= params.max_steps_in_episode


def test_an_environment_of_gymnax_is_one_of_ours() -> None:
    environment = rl.Gymnax(_Environment(_Space(n=3)))
    assert environment.space == rl.Discrete(3)
    assert (environment.observation_size, environment.horizon) == (2, 5)
    state, observation = environment.reset(key=jr.key(0))
    assert observation.tolist() == [0, 0] and observation.dtype == jnp.float32

    def body(state: Any, action: jax.Array) -> tuple[Any, rl.Timestep]:
        return environment.step(state, action, key=jr.key(1))

    _, told = jax.jit(lambda state: jax.lax.scan(body, state, jnp.asarray([2, 2, 2, 1, 0])))(state)
    assert told.reward.tolist() == [1.5, 3.0, 4.5, 4.5, 3.0]
    np.testing.assert_array_equal(told.observation[:, 0], [1, 2, 3, 3, 2])
    # It does not begin anew by itself.
    np.testing.assert_array_equal(told.observation[:, 1], [1, 2, 3, 4, 5])
    assert told.terminated.tolist() == [False, False, True, True, False]
    assert told.truncated.tolist() == [False] * 4 + [True]


def test_spaces_of_actions() -> None:
    box = _Space((2,), low=np.full(2, -2.0), high=np.full(2, 3.0))
    assert rl.Gymnax(_Environment(box)).space == rl.Box(2, -2.0, 3.0)
    uneven = _Space((2,), low=np.asarray([-2.0, 0.0]), high=np.full(2, 3.0))
    with pytest.raises(ValueError, match="within one range"):
        rl.Gymnax(_Environment(uneven))
    with pytest.raises(ValueError, match="environment of gymnax"):
        rl.Gymnax("CartPole-v1")


def test_agents_act_in_it() -> None:
    environment = rl.Gymnax(_Environment(_Space(n=3)), _Params(width=10))
    right = rl.returns(lambda x: jnp.asarray(2, jnp.int32), environment, episodes=2, key=jr.key(0))
    assert right.tolist() == [1.5 * 15] * 2
