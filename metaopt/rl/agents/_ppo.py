"""Gradients of the policy, with steps that stay close."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import COUNT, FRACTION, NONNEGATIVE, POSITIVE, check_counts, number
from .._spaces import Actor
from ..base import AbstractAgent, AbstractEnvironment
from ._common import adam
from ._policy_gradient import ActorCritic, LearnerState, begin, draw, judged, normalized


class PPO(AbstractAgent[LearnerState]):
    r"""Proximal policy optimization.

    With the ratio $\rho_t = \pi(a_t \mid x_t) / \pi_{\mathrm{old}}(a_t \mid x_t)$ and generalized advantage estimates
    $\hat A_t$,

    $$L = -\min\left(\rho_t \hat A_t, \; \mathrm{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon) \hat A_t\right)
      + \tfrac12 (v(x_t) - \hat G_t)^2 - c H(\pi(\cdot \mid x_t))$$

    over several passes through the minibatches of each rollout.

    ??? cite "Reference"

        ```bibtex
        @article{schulman2017proximal,
          title={Proximal Policy Optimization Algorithms},
          author={Schulman, John and Wolski, Filip and Dhariwal, Prafulla and Radford, Alec and Klimov, Oleg},
          journal={arXiv:1707.06347}, year={2017}
        }
        ```
    """

    outer: AbstractAlgorithm[Any, Any, Any]
    hidden: tuple[int, ...] = eqx.field(static=True)
    environments: int = eqx.field(static=True)
    rollout: int = eqx.field(static=True)
    epochs: int = eqx.field(static=True)
    minibatches: int = eqx.field(static=True)
    discount: Float[Array, ""]
    trace: Float[Array, ""]
    clip: Float[Array, ""]
    entropy: Float[Array, ""]

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        learning_rate: float = 1e-3,
        *,
        environments: int = 64,
        rollout: int = 10,
        epochs: int = 4,
        minibatches: int = 4,
        discount: float = 0.99,
        trace: float = 0.95,
        clip: float = 0.2,
        entropy: float = 0.01,
        outer: AbstractAlgorithm[Any, Any, Any] | None = None,
    ):
        r"""**Arguments:**

        - `hidden`: the sizes of hidden layers.
        - `learning_rate`: of Adam, which learns if no other algorithm is given.
        - `environments`: how many episodes run side by side.
        - `rollout`: how many steps of each make an update of the agent.
        - `epochs`: how often it learns from each of them.
        - `minibatches`: into how many they are divided.
        - `discount`: $\gamma$.
        - `trace`: $\lambda$ of the advantage estimates.
        - `clip`: $\epsilon$.
        - `entropy`: $c$.
        - `outer`: any algorithm.

        **Raises:**

        - `ValueError`: if a count is below 1, or the steps of a rollout do not fill the minibatches evenly.
        """
        COUNT.check(hidden=hidden)
        NONNEGATIVE.check(learning_rate=learning_rate, entropy=entropy)
        FRACTION.check(discount=discount, trace=trace)
        POSITIVE.check(clip=clip)
        check_counts(environments=environments, rollout=rollout, epochs=epochs, minibatches=minibatches)
        if environments * rollout % minibatches:
            raise ValueError(
                f"{environments} environments with {rollout} steps each cannot be divided into {minibatches} "
                "minibatches of one size."
            )
        self.hidden, self.environments, self.rollout = tuple(hidden), environments, rollout
        self.epochs, self.minibatches = epochs, minibatches
        self.discount, self.trace = number(discount), number(trace)
        self.clip, self.entropy = number(clip), number(entropy)
        self.outer = adam(learning_rate) if outer is None else outer

    def init(self, environment: AbstractEnvironment[Any], *, key: PRNGKeyArray) -> LearnerState:
        return begin(environment, self.outer, self.hidden, self.environments, key=key)

    def update(
        self,
        state: LearnerState,
        environment: AbstractEnvironment[Any],
        progress: Float[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> tuple[LearnerState, dict[str, Float[Array, ""]]]:
        del progress
        act_key, learn_key = jr.split(key)
        running, steps = draw(environment, state.running, state.model, self.rollout, key=act_key)
        old = judged(state.model, environment.space, steps, self.discount, self.trace)
        whole = (steps.observation, steps.action, old.logs, old.gains, old.gains + old.values)
        whole = jtu.tree_map(lambda x: x.reshape(-1, *x.shape[2:]), whole)

        def loss(model: ActorCritic, batch: Any) -> Float[Array, ""]:
            observation, action, old, gain, wanted = batch
            each = jax.vmap(lambda x, a: model.judge(environment.space, x, a))
            logs, entropies, values = each(observation, action)
            ratio, gain = jnp.exp(logs - old), normalized(gain)
            clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
            surrogate = jnp.minimum(ratio * gain, clipped * gain)
            return jnp.mean(jnp.square(values - wanted) / 2 - surrogate - self.entropy * entropies)

        dynamic, static = eqx.partition((state.model, state.outer), eqx.is_array)

        def learn(dynamic: PyTree, rows: Array) -> tuple[PyTree, Float[Array, ""]]:
            model, outer = eqx.combine(dynamic, static)
            value, grads = eqx.filter_value_and_grad(loss)(model, jtu.tree_map(lambda x: x[rows], whole))
            outer, model = self.outer.step(outer, model, grads, value=value)
            return eqx.filter((model, outer), eqx.is_array), value

        size = self.environments * self.rollout
        orders = jax.vmap(lambda key: jr.permutation(key, size))(jr.split(learn_key, self.epochs))
        dynamic, losses = jax.lax.scan(learn, dynamic, orders.reshape(self.epochs * self.minibatches, -1))
        model, outer = eqx.combine(dynamic, static)
        metrics = {"reward": jnp.mean(steps.reward), "loss": jnp.mean(losses)}
        return LearnerState(model, outer, running), metrics

    def actor(self, state: LearnerState, environment: AbstractEnvironment[Any]) -> Actor:
        return Actor(state.model.policy, environment.space)
