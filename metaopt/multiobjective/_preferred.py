"""Problems with several objectives, with a preference among them."""

from typing import Any

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._core import AbstractTask, AbstractTaskFamily
from ._gramian import Gradients


class PreferredTask(AbstractTask[PyTree, Gradients]):
    r"""Minimize $w^\top f(\theta)$.

    The signal holds all gradients, the values and $w$; the value, also that of `measure`, is $w^\top f$.

    **Arguments:**

    - `task`: a task whose signal is [`metaopt.multiobjective.Gradients`][] with values, such as a
        [`metaopt.multiobjective.Problem`][].
    - `weights`: $w$.
    """

    task: AbstractTask[Any, Gradients]
    weights: Float[Array, " m"]

    def init(self, *, key: PRNGKeyArray) -> PyTree:
        return self.task.init(key=key)

    def evaluate(self, params: PyTree, *, key: PRNGKeyArray) -> tuple[Float[Array, ""], Gradients]:
        _, signal = self.task.evaluate(params, key=key)
        if signal.values is None:
            raise ValueError(
                f"The signal of `{type(self.task).__name__}` has no values, but a preference weighs them. "
                "Return `metaopt.multiobjective.Gradients(gradients, values)` from its `evaluate`."
            )
        return self.weights @ signal.values, Gradients(signal.gradients, signal.values, self.weights)

    def measure(self, params: PyTree, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.evaluate(params, key=key)[0]


class Preferred(AbstractTaskFamily):
    """Draw a problem with several objectives, and a preference, uniform on the simplex, with it.

    **Arguments:**

    - `inner`: the family of problems; their signals are [`metaopt.multiobjective.Gradients`][] with values.
    - `objectives`: how many objectives they have.
    """

    inner: AbstractTaskFamily
    objectives: int = 2

    def sample(self, *, key: PRNGKeyArray) -> PreferredTask:
        keys = jr.split(key)
        return PreferredTask(self.inner.sample(key=keys[0]), jr.dirichlet(keys[1], jnp.ones(self.objectives)))
