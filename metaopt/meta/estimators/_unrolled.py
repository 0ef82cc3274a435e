"""Backpropagation through whole inner loops."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import Learner
from ..._core.arrays._numbers import LIMIT
from ..._core.arrays._trees import all_finite, global_norm
from ..base import AbstractSpreadEstimator, MetaGradient, MetaProblem
from ._batches import over_tasks
from ._devices import task_indices, task_keys
from ._episode import advance, begin, plan
from ._partition import average, partition


class Unrolled(AbstractSpreadEstimator[None]):
    r"""The exact gradient of the meta-objective on a batch of tasks, by backpropagation through the whole inner loop.

    $$\hat g = \frac1N \sum_{i=1}^N \nabla_\phi \sum_{t=1}^{H} c_t(\phi; \tau_i)$$

    Unbiased. Its variance grows quickly with the horizon where inner loops are chaotic; with `max_norm` the gradient
    of each task is scaled down to that norm before the mean, so that no single task dominates. Tasks whose value or
    gradient is not finite are left out of the mean, and counted.

    **Arguments:**

    - `remat`: recompute inner steps in the backward pass: memory falls from all intermediates of each step to its
        carry, for about a third more work.
    - `max_norm`: the largest norm of one task's gradient; none by default, which is the exact gradient.

    **Raises:**

    - `ValueError`: if `max_norm` is not positive.
    """

    remat: bool = eqx.field(static=True, default=False)
    max_norm: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        LIMIT.check(max_norm=self.max_norm)

    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> None:
        del key
        partition(learner, problem)

    def estimate(
        self, state: None, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[None, MetaGradient]:
        trained, rest = partition(learner, problem)
        keys = task_keys(key, task_indices(problem))

        def one(trained: Learner, key: PRNGKeyArray) -> tuple[Float[Array, ""], Float[Array, ""]]:
            learner = eqx.combine(trained, rest)
            plan_key, start_key, run_key = jr.split(key, 3)
            drawn = plan(problem, key=plan_key)
            progress = begin(learner, problem, drawn, key=start_key)
            clock, steps = jnp.zeros((), jnp.int32), problem.horizon.longest
            _, outcome = advance(learner, problem, drawn, progress, clock, steps=steps, key=run_key, remat=self.remat)
            return outcome.contribution, outcome.value

        def each(key: PRNGKeyArray) -> tuple[Learner, Array, Array]:
            (_, value), grads = eqx.filter_value_and_grad(one, has_aux=True)(trained, key)
            return (grads, value, all_finite(grads)) if self.max_norm is None else _clipped(grads, value, self.max_norm)

        # Each task has a gradient of its own, so that one without a gradient does not spoil the mean of the others.
        grads, values, known = over_tasks(each, problem, keys)
        return None, average(grads, values, known & jnp.isfinite(values), 1.0, trained, problem)


def _clipped(grads: Learner, value: Array, max_norm: float) -> tuple[Learner, Array, Array]:
    """The gradient of a task scaled down to a norm, and whether the task has one."""
    norm = global_norm(grads)
    # A gradient whose square is no number any more is that of a task that diverged: its direction says nothing.
    known = norm < jnp.finfo(norm.dtype).max ** 0.5
    scale = jnp.where(known, max_norm / jnp.maximum(norm, max_norm), 0.0)
    return jtu.tree_map(lambda g: g * scale.astype(g.dtype), grads), value, known
