"""Acting in many environments side by side."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray, PyTree

from .._spaces import Actor
from ..base import AbstractEnvironment


class Running(eqx.Module):
    """Episodes that are under way."""

    state: PyTree
    observation: Float[Array, "environments features"]


class Steps(eqx.Module):
    """What happened: axes of time and of environments. `following` is observed before a new episode begins."""

    observation: Float[Array, "*axes features"]
    action: Array
    reward: Float[Array, "*axes"]
    following: Float[Array, "*axes features"]
    terminated: Bool[Array, "*axes"]
    done: Bool[Array, "*axes"]


def start(environment: AbstractEnvironment[Any], count: int, *, key: PRNGKeyArray) -> Running:
    """Begin episodes."""
    return _begin(environment, jr.split(key, count))


def _begin(environment: AbstractEnvironment[Any], keys: Key[Array, " environments"]) -> Running:
    return Running(*jax.vmap(lambda key: environment.reset(key=key))(keys))


def run(
    environment: AbstractEnvironment[Any],
    running: Running,
    choose: Callable[[Array, PRNGKeyArray], Array],
    steps: int,
    *,
    key: PRNGKeyArray,
) -> tuple[Running, Steps]:
    """Go on with episodes, and begin new ones where one has ended.

    **Arguments:**

    - `choose`: from an observation and a key to what is remembered as the action.
    """
    count = running.observation.shape[0]

    def body(running: Running, keys: Key[Array, "3 environments"]) -> tuple[Running, Steps]:
        action = jax.vmap(choose)(running.observation, keys[0])
        real = jax.vmap(environment.space.real)(action)
        state, told = jax.vmap(lambda s, a, k: environment.step(s, a, key=k))(running.state, real, keys[1])
        done = told.terminated | told.truncated
        going = Running(state, told.observation)
        # Beginning an episode may cost more than a step, and most often none has to.
        fresh = jax.lax.cond(jnp.any(done), lambda: _begin(environment, keys[2]), lambda: going)
        steps = Steps(running.observation, action, told.reward, told.observation, told.terminated, done)
        return jtu.tree_map(lambda new, old: _where(done, new, old), fresh, going), steps

    return jax.lax.scan(body, running, jr.split(key, (steps, 3, count)))


def _where(done: Bool[Array, " environments"], new: Array, old: Array) -> Array:
    shape = done.shape + (1,) * (new.ndim - 1)
    if jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
        return jax.lax.select_n(jnp.broadcast_to(done.reshape(shape), new.shape), old, new)
    return jnp.where(done.reshape(shape), new, old)


@eqx.filter_jit
def returns(
    actor: Actor | Callable[[Array], Array], environment: AbstractEnvironment[Any], *, episodes: int, key: PRNGKeyArray
) -> Float[Array, " episodes"]:
    """The sums of rewards of whole episodes, without a discount.

    **Arguments:**

    - `actor`: a function from observations to actions.
    - `environment`: where it acts.
    - `episodes`: how many.
    - `key`: draws the instances.
    """

    def one(key: PRNGKeyArray) -> Float[Array, ""]:
        reset_key, key = jr.split(key)
        state, observation = environment.reset(key=reset_key)

        def body(carry: Any, key: PRNGKeyArray) -> tuple[Any, Float[Array, ""]]:
            state, observation, alive = carry
            state, told = environment.step(state, actor(observation), key=key)
            reward = jnp.where(alive, told.reward, 0)
            return (state, told.observation, alive & ~(told.terminated | told.truncated)), reward

        keys = jr.split(key, environment.horizon)
        return jnp.sum(jax.lax.scan(body, (state, observation, jnp.asarray(True)), keys)[1])

    return jax.vmap(one)(jr.split(key, episodes))
