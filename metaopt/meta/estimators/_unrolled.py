"""Backpropagation through whole inner loops."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, Key, PRNGKeyArray

from ..._core import Learner
from ..._core.arrays._numbers import LIMIT
from ..._core.arrays._trees import global_norm
from ..base import AbstractEstimator, MetaGradient, MetaProblem
from ._batches import over_tasks
from ._devices import task_indices, task_keys
from ._episode import advance, begin, plan
from ._partition import average, mean_of_sums, partition


class Unrolled(AbstractEstimator[None]):
    r"""The exact gradient of the meta-objective on a batch of tasks, by backpropagation through the whole inner loop.

    $$\hat g = \frac1N \sum_{i=1}^N \nabla_\phi \sum_{t=1}^{H} c_t(\phi; \tau_i)$$

    Unbiased. Its variance grows quickly with the horizon where inner loops are chaotic; with `max_norm` the gradient
    of each task is scaled down to that norm before the mean, so that no single task dominates, and tasks that diverged
    are left out of it.

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

        if self.max_norm is not None:
            return None, _clipped(one, trained, keys, self.max_norm, problem)

        def loss(trained: Learner) -> tuple[Float[Array, ""], Float[Array, " tasks"]]:
            losses, values = over_tasks(lambda key: one(trained, key), problem, keys)
            return jnp.sum(losses), values

        (_, values), grads = eqx.filter_value_and_grad(loss, has_aux=True)(trained)
        return None, mean_of_sums(grads, values, jnp.ones_like(values), ~jnp.isfinite(values), 1.0, trained, problem)


def _clipped(
    one: Callable[[Learner, PRNGKeyArray], tuple[Array, Array]],
    trained: Learner,
    keys: Key[Array, " tasks"],
    max_norm: float,
    problem: MetaProblem,
) -> MetaGradient:
    """The mean of the tasks' gradients, each scaled down to a norm and left out if the task diverged."""

    def clipped(key: PRNGKeyArray) -> tuple[Learner, Array, Array]:
        (_, value), grads = eqx.filter_value_and_grad(one, has_aux=True)(trained, key)
        norm = global_norm(grads)
        # A gradient whose square is no number any more is that of a task that diverged: its direction says nothing.
        known = norm < jnp.finfo(norm.dtype).max ** 0.5
        scale = jnp.where(known, max_norm / jnp.maximum(norm, max_norm), 0.0)

        def scaled(g: Array) -> Array:
            return jnp.where(known, g * scale.astype(g.dtype), jnp.zeros_like(g))

        return jtu.tree_map(scaled, grads), value, known & jnp.isfinite(value)

    grads, values, finite = over_tasks(clipped, problem, keys)
    return average(grads, values, finite, 1.0, trained, problem)
