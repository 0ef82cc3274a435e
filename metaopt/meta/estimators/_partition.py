"""Which leaves of a learner are trained, and the mean of the tasks' gradients with respect to them."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from ..._core import Learner
from ..._core.arrays._trees import global_norm
from ..base import MetaGradient, MetaProblem
from ._devices import total


def only(where: Callable[[Learner], Any | Sequence[Any]]) -> Callable[[Learner], PyTree[bool]]:
    """Train only a part of a learner; for `MetaProblem.trainable`.

    ```python
    problem = MetaProblem(family, objective, horizon, trainable=only(lambda learner: learner.initial))
    ```

    **Arguments:**

    - `where`: picks a node, or a sequence of nodes, of the learner.

    **Returns:**

    A function from a learner to a matching pytree of booleans.
    """

    def mask(learner: Learner) -> PyTree[bool]:
        nothing = jtu.tree_map(lambda _: False, learner)
        return eqx.tree_at(where, nothing, replace_fn=lambda node: jtu.tree_map(lambda _: True, node))

    return mask


def partition(learner: Learner, problem: MetaProblem) -> tuple[Learner, Learner]:
    """Split a learner into what is trained and the rest.

    **Raises:**

    - `ValueError`: if nothing is left to train.
    """
    mask = jtu.tree_map(lambda _: True, learner) if problem.trainable is None else problem.trainable(learner)
    mask = jtu.tree_map(lambda leaf, on: bool(on) and eqx.is_inexact_array(leaf), learner, mask)
    if not any(jtu.tree_leaves(mask)):
        raise ValueError(
            "The learner has nothing to train: no inexact array is selected. Give it a learnable algorithm, an "
            "`initial`, or another `trainable`."
        )
    return eqx.partition(learner, mask)


def penalize(grads: PyTree, trained: Learner, problem: MetaProblem) -> PyTree:
    """Add the exact gradient of the weight penalty to an estimate."""
    if not problem.weight_penalty:
        return grads
    return jtu.tree_map(lambda g, w: g + 2.0 * problem.weight_penalty * w, grads, trained)


def average(
    grads: PyTree, values: Array, finite: Array, scale: float, trained: Learner, problem: MetaProblem
) -> MetaGradient:
    """The mean over the tasks that stayed finite, of gradients with a leading axis of tasks."""

    def added(g: Array) -> Array:
        counted = finite.reshape(finite.shape + (1,) * (g.ndim - 1))
        return jnp.sum(jnp.where(counted, g, jnp.zeros_like(g)), 0)

    values = jnp.where(finite, values, 0.0)
    squares = jnp.where(finite, _squares(grads, values), 0.0)
    # Counts are floating-point numbers, so that all sums go into one all-reduce.
    seen = [jnp.sum(x.astype(values.dtype)) for x in (values, finite, ~finite, squares)]
    grads, (value, count, lost, square) = total((jtu.tree_map(added, grads), seen), problem)
    value = jnp.where(count > 0, value / jnp.maximum(count, 1), jnp.nan)
    grads = jtu.tree_map(lambda g: scale * g / jnp.maximum(count, 1).astype(g.dtype), grads)
    # Of one task nothing can be said. Rounding may make what is left of the difference negative.
    spread = scale**2 * square / jnp.maximum(count, 1) - jnp.square(global_norm(grads)).astype(square.dtype)
    variance = jnp.where(count > 1, jnp.maximum(spread, 0.0) / jnp.maximum(count - 1, 1), jnp.nan)
    return MetaGradient(penalize(grads, trained, problem), value, lost.astype(jnp.int32), variance)


def _squares(grads: PyTree, values: Array) -> Array:
    """The squared norm of each task's gradient."""
    summed = [jnp.sum(jnp.square(g.astype(values.dtype)), range(1, g.ndim)) for g in jtu.tree_leaves(grads)]
    return jnp.sum(jnp.stack(summed), 0)
