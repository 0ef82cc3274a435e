"""One scale for tasks of all families."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import AbstractTask, AbstractTaskFamily
from .._common import check_at_least


class NormalizedTask(AbstractTask[PyTree, PyTree]):
    r"""A task with its values mapped to $(v - \mathrm{floor}) / \mathrm{scale}$ and its signals divided by `scale`.

    **Arguments:**

    - `inner`: the task.
    - `floor`: the value that becomes zero.
    - `scale`: the distance that becomes one.
    """

    inner: AbstractTask[Any, Any]
    floor: float = eqx.field(static=True)
    scale: Float[Array, ""]

    def init(self, *, key: PRNGKeyArray) -> PyTree:
        return self.inner.init(key=key)

    def evaluate(self, params: PyTree, *, key: PRNGKeyArray) -> tuple[Float[Array, ""], PyTree]:
        value, signal = self.inner.evaluate(params, key=key)
        return self._normalized(value), jtu.tree_map(self._divided, signal)

    def measure(self, params: PyTree, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self._normalized(self.inner.measure(params, key=key))

    def _normalized(self, value: Float[Array, ""]) -> Float[Array, ""]:
        return (value - self.floor) / self.scale.astype(value.dtype)

    def _divided(self, leaf: Any) -> Any:
        return leaf / self.scale.astype(leaf.dtype) if eqx.is_inexact_array(leaf) else leaf


class Normalized(AbstractTaskFamily):
    r"""Put the tasks of a family on one scale: 1 is where they start, 0 is as good as it gets.

    $$v \mapsto \frac{v - v_\mathrm{floor}}{v_0 - v_\mathrm{floor}}, \qquad
      g \mapsto \frac{g}{v_0 - v_\mathrm{floor}}, \qquad
      v_0 = \frac1k \sum_{j=1}^k \mathrm{measure}(\theta_0^{(j)})$$

    with $k$ fresh starts $\theta_0^{(j)}$ per task, so that tasks of several families can be mixed or compared.
    Sampling a task costs $k$ of its starts and measurements. A task that does not start above the floor has no such
    scale: its values are NaN.

    **Arguments:**

    - `inner`: the family.
    - `floor`: $v_\mathrm{floor}$, a lower bound of the values of all its tasks.
    - `starts`: $k$.

    **Raises:**

    - `ValueError`: if `floor` is not finite or `starts` is below 1.
    """

    inner: AbstractTaskFamily
    floor: float = eqx.field(static=True, default=0.0)
    starts: int = eqx.field(static=True, default=4)

    def __check_init__(self) -> None:
        check_at_least("starts", self.starts, 1)
        if not math.isfinite(self.floor):
            raise ValueError(f"`floor` must be a finite number, but {self.floor!r} was given.")

    def sample(self, *, key: PRNGKeyArray) -> NormalizedTask:
        task_key, starts_key = jr.split(key)
        task = self.inner.sample(key=task_key)

        def start(key: PRNGKeyArray) -> Float[Array, ""]:
            init_key, measure_key = jr.split(key)
            return task.measure(task.init(key=init_key), key=measure_key)

        scale = jnp.mean(jax.vmap(start)(jr.split(starts_key, self.starts))) - self.floor
        return NormalizedTask(task, self.floor, jnp.where(scale > 0, scale, jnp.nan))
