"""Backpropagation through whole inner loops."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._core import Learner
from ._episode import advance, begin, plan, task_keys
from ._partition import partition, penalize
from .base import AbstractEstimator, MetaGradient, MetaProblem


class Unrolled(AbstractEstimator[None]):
    r"""The exact gradient of the meta-objective on a batch of tasks, by backpropagation through the whole inner loop.

    $$\hat g = \frac1N \sum_{i=1}^N \nabla_\phi \sum_{t=1}^{H} c_t(\phi; \tau_i)$$

    Unbiased. Its variance grows quickly with the horizon where inner loops are chaotic.

    **Arguments:**

    - `remat`: recompute inner steps in the backward pass: memory falls from all intermediates of each step to its
        carry, for about a third more work.
    """

    remat: bool = eqx.field(static=True, default=False)

    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> None:
        del key
        partition(learner, problem)

    def estimate(
        self, state: None, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[None, MetaGradient]:
        trained, rest = partition(learner, problem)

        def one(trained: Learner, key: PRNGKeyArray) -> tuple[Float[Array, ""], Float[Array, ""]]:
            learner = eqx.combine(trained, rest)
            plan_key, start_key, run_key = jr.split(key, 3)
            drawn = plan(problem, key=plan_key)
            progress = begin(learner, problem, drawn, key=start_key)
            clock = jnp.zeros((), jnp.int32)
            steps = problem.horizon.longest
            _, outcome = advance(learner, problem, drawn, progress, clock, steps=steps, key=run_key, remat=self.remat)
            return outcome.contribution, outcome.value

        def loss(trained: Learner) -> tuple[Float[Array, ""], Float[Array, " tasks"]]:
            losses, values = jax.vmap(one, in_axes=(None, 0))(trained, task_keys(key, problem.tasks))
            return jnp.mean(losses), values

        (_, values), grads = eqx.filter_value_and_grad(loss, has_aux=True)(trained)
        nonfinite = jnp.sum(~jnp.isfinite(values)).astype(jnp.int32)
        return None, MetaGradient(penalize(grads, trained, problem), jnp.mean(values), nonfinite)
