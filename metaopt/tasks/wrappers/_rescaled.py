"""The same tasks with larger and smaller losses."""

from typing import Any

import equinox as eqx
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import AbstractTask, AbstractTaskFamily
from .._common import check_range
from ._reparametrized import log_uniform


class RescaledTask(AbstractTask[PyTree, PyTree]):
    """A task whose signals, and values if asked for, are multiplied by a number. What it reports stays the same.

    **Arguments:**

    - `inner`: the task.
    - `scale`: the number.
    - `values`: whether values are multiplied, too.
    """

    inner: AbstractTask[Any, Any]
    scale: Float[Array, ""]
    values: bool = eqx.field(static=True, default=True)

    def init(self, *, key: PRNGKeyArray) -> PyTree:
        return self.inner.init(key=key)

    def evaluate(self, params: PyTree, *, key: PRNGKeyArray) -> tuple[Float[Array, ""], PyTree]:
        value, signal = self.inner.evaluate(params, key=key)
        scaled = jtu.tree_map(lambda x: x * self.scale.astype(x.dtype) if eqx.is_inexact_array(x) else x, signal)
        return value * self.scale.astype(value.dtype) if self.values else value, scaled

    def measure(self, params: PyTree, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.inner.measure(params, key=key)


class Rescaled(AbstractTaskFamily):
    r"""Multiply the loss by a constant per task, so that a learner does not get used to one scale of gradients.

    $$v \mapsto c v, \qquad g \mapsto c g, \qquad \log c \sim U(\log \mathrm{low}, \log \mathrm{high})$$

    `measure` stays the same. A meta-objective adds up values, and so weighs tasks by $c$; with `values=False` only
    signals are multiplied, and all tasks weigh the same.

    **Arguments:**

    - `inner`: the family.
    - `low`, `high`: the range of $c$.
    - `values`: whether values are multiplied, too.

    **Raises:**

    - `ValueError`: if not $0 < \mathrm{low} \le \mathrm{high}$.
    """

    inner: AbstractTaskFamily
    low: float = eqx.field(static=True, default=0.01)
    high: float = eqx.field(static=True, default=100.0)
    values: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        check_range(self.low, self.high)

    def sample(self, *, key: PRNGKeyArray) -> RescaledTask:
        task_key, scale_key = jr.split(key)
        scale = log_uniform((), self.low, self.high, scale_key)
        return RescaledTask(self.inner.sample(key=task_key), scale, self.values)
