"""Parameters that are held near where they began, each as much as it matters."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm, Learner
from ..._core.arrays._numbers import NONNEGATIVE, check_counts, number
from ..._core.arrays._trees import add_up, pulled, trainable
from ...meta import AbstractEstimator, MetaProblem


P = TypeVar("P")


class _EWCState(NamedTuple):
    inner: PyTree
    anchor: PyTree


class EWC(AbstractAlgorithm[_EWCState, Any, Any]):
    r"""Add the gradient of a quadratic penalty, around any algorithm: elastic weight consolidation.

    $$g \leftarrow g + \lambda \, F \odot (\theta - \theta_0)$$

    where $\theta_0$ are the parameters that `init` was given: those that an earlier task has left. As the outer
    algorithm of meta-training on a new family, it anchors what was learned on earlier ones. Without weights $F$ it is a
    plain quadratic anchor. Unlike [`metaopt.meta.DecayToStart`][], whose pull does not pass through the inner
    algorithm, it is part of what is minimized.

    **Arguments:**

    - `inner`: the algorithm.
    - `rate`: $\lambda$.
    - `importance`: $F$, with the structure of the parameters and `None` where nothing is trained; see
        [`metaopt.fewshot.importance`][]. By default all ones.

    ??? cite "Reference"

        ```bibtex
        @article{kirkpatrick2017overcoming,
          title={Overcoming catastrophic forgetting in neural networks},
          author={Kirkpatrick, James and others},
          journal={Proceedings of the National Academy of Sciences}, year={2017}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    rate: Float[Array, ""] = eqx.field(converter=number, default=1e-2)
    importance: PyTree[Float[Array, "..."]] | None = None

    def __check_init__(self) -> None:
        NONNEGATIVE.check(rate=self.rate)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _EWCState:
        return _EWCState(self.inner.init(params, key=key), trainable(params))

    def step(self, state: _EWCState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[_EWCState, P]:
        seen = pulled(params, grads, state.anchor, self.rate, self.importance)
        inner, new = self.inner.step(state.inner, params, seen, value=value)
        return _EWCState(inner, state.anchor), new


@eqx.filter_jit
def importance(
    learner: Learner,
    problem: MetaProblem,
    *,
    estimator: AbstractEstimator[Any],
    samples: int = 64,
    key: PRNGKeyArray,
) -> PyTree:
    r"""Estimate how much each parameter of a learner matters to a problem: the diagonal of the empirical Fisher matrix.

    $$F_j = \frac{1}{c \, n} \sum_{i=1}^n \hat g_{ij}^2$$

    over $n$ meta-gradients $\hat g_i$, each of `problem.tasks` tasks, with $c$ such that the mean of all $F_j$ is 1.

    **Arguments:**

    - `learner`: after it was trained on the problem.
    - `problem`: what it was trained for.
    - `estimator`: how meta-gradients are estimated.
    - `samples`: $n$.
    - `key`: draws the tasks.

    **Returns:**

    The weights, for [`metaopt.fewshot.EWC`][]; `None` where nothing is trained.

    **Raises:**

    - `ValueError`: if `samples` is below 1.
    """
    check_counts(samples=samples)

    def squares(key: PRNGKeyArray) -> PyTree:
        start_key, key = jr.split(key)
        state = estimator.init(learner, problem, key=start_key)
        _, estimate = estimator.estimate(state, learner, problem, key=key)
        return jtu.tree_map(lambda g: jnp.square(jnp.abs(g)), estimate.grads)

    means = jtu.tree_map(lambda x: jnp.mean(x, axis=0), jax.lax.map(squares, jr.split(key, samples)))
    leaves = jtu.tree_leaves(means)
    total = add_up([jnp.sum(x) for x in leaves]) / sum(x.size for x in leaves)
    return jtu.tree_map(lambda x: x / jnp.maximum(total, jnp.finfo(total.dtype).tiny).astype(x.dtype), means)
