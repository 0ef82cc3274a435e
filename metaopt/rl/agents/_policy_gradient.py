"""What agents that learn a policy share."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import usual_promotion
from .._spaces import Box, Discrete, Network
from ..base import AbstractEnvironment
from ._rollout import Running, Steps, run, start


class ActorCritic(eqx.Module):
    """A network for the policy, its spread if actions are continuous, and a network for the values of states."""

    policy: Network
    log_std: Float[Array, " outputs"]
    value: Network

    def __init__(self, environment: AbstractEnvironment[Any], hidden: tuple[int, ...], *, key: PRNGKeyArray):
        """**Arguments:**

        - `environment`: says how much is observed, and what there is to do.
        - `hidden`: the sizes of hidden layers.
        - `key`: draws the weights.
        """
        policy_key, value_key = jr.split(key)
        # A policy that prefers nothing at first.
        self.policy = Network((environment.observation_size, *hidden, environment.space.outputs), 0.01, key=policy_key)
        self.log_std = jnp.full(environment.space.outputs, -0.5)
        self.value = Network((environment.observation_size, *hidden, 1), key=value_key)

    def distribution(self, space: Discrete | Box, observation: Float[Array, " features"]) -> Any:
        return space.distribution(self.policy(observation), self.log_std)

    def judge(
        self, space: Discrete | Box, observation: Float[Array, " features"], action: Array
    ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
        """The logarithm of the probability of an action, the entropy of the policy, and the value of the state."""
        with usual_promotion():
            policy = self.distribution(space, observation)
            return policy.log_prob(action), policy.entropy(), self.value(observation)[0]


class LearnerState(eqx.Module):
    """What is learned, the state of its optimizer, and the episodes under way."""

    model: ActorCritic
    outer: PyTree
    running: Running


def begin(
    environment: AbstractEnvironment[Any],
    outer: AbstractAlgorithm[Any, Any, Any],
    hidden: tuple[int, ...],
    environments: int,
    *,
    key: PRNGKeyArray,
) -> LearnerState:
    model_key, start_key, outer_key = jr.split(key, 3)
    model = ActorCritic(environment, hidden, key=model_key)
    return LearnerState(model, outer.init(model, key=outer_key), start(environment, environments, key=start_key))


def draw(
    environment: AbstractEnvironment[Any], running: Running, model: ActorCritic, steps: int, *, key: PRNGKeyArray
) -> tuple[Running, Steps]:
    """Act by the policy."""

    def choose(observation: Array, key: PRNGKeyArray) -> Array:
        with usual_promotion():
            return model.distribution(environment.space, observation).sample(seed=key)

    return run(environment, running, choose, steps, key=key)


class Judged(eqx.Module):
    """What a model says about steps that were taken: of each, the logarithm of its probability, the entropy of the
    policy, the value of the state, and the advantage."""

    logs: Float[Array, "time environments"]
    entropies: Float[Array, "time environments"]
    values: Float[Array, "time environments"]
    gains: Float[Array, "time environments"]


def judged(
    model: ActorCritic, space: Discrete | Box, steps: Steps, discount: Float[Array, ""], trace: Float[Array, ""]
) -> Judged:
    """Judge the steps of a rollout."""
    each = jax.vmap(jax.vmap(lambda x, a: model.judge(space, x, a)))
    logs, entropies, values = each(steps.observation, steps.action)
    following = jax.vmap(jax.vmap(model.value))(steps.following)[..., 0]
    return Judged(logs, entropies, values, advantages(steps, values, following, discount, trace))


def advantages(
    steps: Steps,
    values: Float[Array, "time environments"],
    following: Float[Array, "time environments"],
    discount: Float[Array, ""],
    trace: Float[Array, ""],
) -> Float[Array, "time environments"]:
    r"""Generalized advantage estimates

    $$\hat A_t = \delta_t + \gamma \lambda \hat A_{t + 1}, \qquad \delta_t = r_t + \gamma v(x_{t + 1}) - v(x_t)$$

    where the sum ends with the episode, and the value that follows is zero if it was terminated.
    """
    ahead = jnp.where(steps.terminated, 0, following)
    differences = steps.reward + discount * ahead - values

    def body(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        difference, done = now
        total = difference + jnp.where(done, 0, discount * trace * later)
        return total, total

    return jax.lax.scan(body, jnp.zeros_like(differences[0]), (differences, steps.done), reverse=True)[1]


def normalized(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return (x - jnp.mean(x)) / (jnp.std(x) + 1e-6)
