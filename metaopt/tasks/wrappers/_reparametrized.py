"""The same tasks in other units."""

import math
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import AbstractTask, AbstractTaskFamily
from ..._core.arrays._trees import compute_dtype, is_none
from .._common import check_choice, check_range


Level = Literal["global", "tensor", "parameter"]


class ReparametrizedTask(AbstractTask[PyTree, PyTree]):
    r"""A task in the parameters $\phi = \theta / c$.

    Starts, values and measures are those of the task at $\theta = c \phi$; the signal is $c \, \nabla_\theta$.

    **Arguments:**

    - `inner`: the task, whose signal is a gradient.
    - `scales`: $c$, a tree like the parameters, with `None` for what is not trained.
    """

    inner: AbstractTask[Any, Any]
    scales: PyTree

    def init(self, *, key: PRNGKeyArray) -> PyTree:
        return _multiply(self.inner.init(key=key), self.scales, -1)

    def evaluate(self, params: PyTree, *, key: PRNGKeyArray) -> tuple[Float[Array, ""], PyTree]:
        value, grads = self.inner.evaluate(self.original(params), key=key)
        return value, _multiply(grads, self.scales)

    def measure(self, params: PyTree, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.inner.measure(self.original(params), key=key)

    def original(self, params: PyTree) -> PyTree:
        r"""$\theta$, the parameters of the task inside."""
        return _multiply(params, self.scales)


class Reparametrized(AbstractTaskFamily):
    r"""Train in rescaled parameters $\phi = \theta / c$, so that learners do not get used to one scale of parameters.

    $$\log c \sim U(\log \mathrm{low}, \log \mathrm{high})$$

    is drawn per task: one for all parameters, one per tensor, or one per parameter. The function stays the same and so
    does what `measure` reports; steps of size one become steps of size $c$, and gradients are multiplied by $c$.

    **Arguments:**

    - `inner`: the family. Its signals are gradients.
    - `level`: `"global"`, `"tensor"` or `"parameter"`.
    - `low`, `high`: the range of $c$.

    **Raises:**

    - `ValueError`: if `level` is another word, or not $0 < \mathrm{low} \le \mathrm{high}$.

    ??? cite "Reference"

        ```bibtex
        @article{metz2022velo,
          title={{VeLO}: Training Versatile Learned Optimizers by Scaling Up},
          author={Metz, Luke and Harrison, James and Freeman, C. Daniel and Merchant, Amil and Beyer, Lucas and
                  Bradbury, James and Agrawal, Naman and Poole, Ben and Mordatch, Igor and Roberts, Adam and
                  Sohl-Dickstein, Jascha},
          journal={arXiv:2211.09760}, year={2022}
        }
        ```
    """

    inner: AbstractTaskFamily
    level: Level = eqx.field(static=True, default="global")
    low: float = eqx.field(static=True, default=0.01)
    high: float = eqx.field(static=True, default=100.0)

    def __check_init__(self) -> None:
        check_choice("level", self.level, Level)
        check_range(self.low, self.high)

    def sample(self, *, key: PRNGKeyArray) -> ReparametrizedTask:
        task_key, scale_key = jr.split(key)
        task = self.inner.sample(key=task_key)
        shapes, structure = jtu.tree_flatten(eqx.filter_eval_shape(lambda key: task.init(key=key), task_key))
        scales = []
        for i, leaf in enumerate(shapes):
            if not (isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.inexact)):
                scales.append(None)
                continue
            leaf_key = scale_key if self.level == "global" else jr.fold_in(scale_key, i)
            scales.append(log_uniform(leaf.shape if self.level == "parameter" else (), self.low, self.high, leaf_key))
        return ReparametrizedTask(task, jtu.tree_unflatten(structure, scales))


def log_uniform(shape: tuple[int, ...], low: float, high: float, key: PRNGKeyArray) -> Float[Array, "..."]:
    return jnp.exp(jr.uniform(key, shape, minval=math.log(low), maxval=math.log(high)))


def _multiply(tree: PyTree, scales: PyTree, power: int = 1) -> PyTree:
    """A tree times (or over) its scales, rounded once."""

    def one(scale: Any, x: Any) -> Any:
        if scale is None or not eqx.is_inexact_array(x):
            return x
        dtype = compute_dtype(x.dtype)
        factor = scale if power == 1 else 1 / scale
        factor = jnp.broadcast_to(factor.astype(jnp.finfo(dtype).dtype), x.shape).astype(dtype)
        return (x.astype(dtype) * factor).astype(x.dtype)

    return jtu.tree_map(one, scales, tree, is_leaf=is_none)
