"""Gradients of the policy from whole episodes."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import COUNT, FRACTION, NONNEGATIVE, check_counts, number
from .._spaces import Actor
from ..base import AbstractAgent, AbstractEnvironment
from ._common import adam
from ._policy_gradient import ActorCritic, LearnerState, begin, draw, judged, normalized
from ._rollout import Steps


class REINFORCE(AbstractAgent[LearnerState]):
    r"""Make what turned out well more probable, compared with a learned baseline.

    With the sums of rewards $G_t = \sum_{k \ge t} \gamma^{k - t} r_k$ to the end of an episode,

    $$L = -\frac1T \sum_t \log \pi(a_t \mid x_t) \, \hat A_t + \tfrac12 (v(x_t) - G_t)^2 - c H(\pi(\cdot \mid x_t)),
      \qquad \hat A_t = \text{normalized } G_t - v(x_t)$$

    Each update runs the environments for as many steps as an episode has at most; where an episode does not end with
    them, the value of what follows stands for its rest.

    ??? cite "Reference"

        ```bibtex
        @article{williams1992simple,
          title={Simple statistical gradient-following algorithms for connectionist reinforcement learning},
          author={Williams, Ronald J},
          journal={Machine Learning}, volume={8}, pages={229--256}, year={1992}
        }
        ```
    """

    outer: AbstractAlgorithm[Any, Any, Any]
    hidden: tuple[int, ...] = eqx.field(static=True)
    environments: int = eqx.field(static=True)
    discount: Float[Array, ""]
    entropy: Float[Array, ""]

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        learning_rate: float = 1e-3,
        *,
        environments: int = 64,
        discount: float = 0.99,
        entropy: float = 0.01,
        outer: AbstractAlgorithm[Any, Any, Any] | None = None,
    ):
        r"""**Arguments:**

        - `hidden`: the sizes of hidden layers.
        - `learning_rate`: of Adam, which learns if no other algorithm is given.
        - `environments`: how many episodes run side by side.
        - `discount`: $\gamma$.
        - `entropy`: $c$.
        - `outer`: any algorithm.

        **Raises:**

        - `ValueError`: if `environments` is below 1.
        """
        COUNT.check(hidden=hidden)
        NONNEGATIVE.check(learning_rate=learning_rate, entropy=entropy)
        FRACTION.check(discount=discount)
        check_counts(environments=environments)
        self.hidden, self.environments = tuple(hidden), environments
        self.discount, self.entropy = number(discount), number(entropy)
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
        running, steps = draw(environment, state.running, state.model, environment.horizon, key=key)

        def loss(model: ActorCritic, steps: Steps) -> Float[Array, ""]:
            now = judged(model, environment.space, steps, self.discount, jnp.ones(()))
            gain, values = jax.lax.stop_gradient((now.gains, now.values))
            critic = jnp.square(now.values - (gain + values)) / 2
            return jnp.mean(-now.logs * normalized(gain) + critic - self.entropy * now.entropies)

        value, grads = eqx.filter_value_and_grad(loss)(state.model, steps)
        outer, model = self.outer.step(state.outer, state.model, grads, value=value)
        return LearnerState(model, outer, running), {"reward": jnp.mean(steps.reward), "loss": value}

    def actor(self, state: LearnerState, environment: AbstractEnvironment[Any]) -> Actor:
        return Actor(state.model.policy, environment.space)
