"""Problems with several objectives, with a preference among them."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import AbstractTask, AbstractTaskFamily
from ..._core.arrays._numbers import check_counts
from .._preferences import preferences
from ..combiners._gramian import Gradients


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


class PreferredPopulation(AbstractTask[PyTree, Gradients]):
    r"""Minimize the mean of $w_k^\top f(\theta_k)$ over a population, each member of which has a preference of its own.

    The signal holds the gradients, with axes over objectives and members, the values and the preferences; the value,
    also that of `measure`, is the mean.

    **Arguments:**

    - `task`: as that of [`metaopt.multiobjective.PreferredTask`][].
    - `weights`: $w$, a row for each member.
    """

    task: AbstractTask[Any, Gradients]
    weights: Float[Array, "n m"]

    def init(self, *, key: PRNGKeyArray) -> PyTree:
        return jax.vmap(lambda key: self.task.init(key=key))(jr.split(key, self.weights.shape[0]))

    def evaluate(self, params: PyTree, *, key: PRNGKeyArray) -> tuple[Float[Array, ""], Gradients]:
        def one(params: PyTree, weights: Float[Array, " m"]) -> tuple[Float[Array, ""], Gradients]:
            return PreferredTask(self.task, weights).evaluate(params, key=key)

        totals, signal = jax.vmap(one)(params, self.weights)
        assert signal.values is not None
        gradients = jtu.tree_map(lambda g: jnp.swapaxes(g, 0, 1), signal.gradients)
        return jnp.mean(totals), Gradients(gradients, signal.values.T, self.weights)

    def measure(self, params: PyTree, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.evaluate(params, key=key)[0]


class Preferred(AbstractTaskFamily):
    """Draw a problem with several objectives, and a preference with it, or a population with preferences.

    **Arguments:**

    - `inner`: the family of problems; their signals are [`metaopt.multiobjective.Gradients`][] with values.
    - `objectives`: how many objectives they have.
    - `members`: how many members a population has, whose preferences are evenly spread
        ([`metaopt.multiobjective.preferences`][]); by default there is none, and a preference is drawn uniformly.

    **Raises:**

    - `ValueError`: if a count is below 1.
    """

    inner: AbstractTaskFamily
    objectives: int = 2
    members: int | None = None

    def __check_init__(self) -> None:
        check_counts(objectives=self.objectives, members=self.members)

    def sample(self, *, key: PRNGKeyArray) -> PreferredTask | PreferredPopulation:
        keys = jr.split(key)
        task = self.inner.sample(key=keys[0])
        if self.members is None:
            return PreferredTask(task, jr.dirichlet(keys[1], jnp.ones(self.objectives)))
        return PreferredPopulation(task, preferences(self.objectives, self.members, key=keys[1]))
