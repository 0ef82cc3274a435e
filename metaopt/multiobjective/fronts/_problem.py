"""Problems with several objectives, and constraints."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractTask
from ..combiners._gramian import Gradients


def nothing(x: Float[Array, " n"]) -> Float[Array, " 0"]:
    """No constraints."""
    return jnp.zeros(0, x.dtype)


def evaluate_objectives(
    objectives: Callable[..., Float[Array, " m"]], params: Float[Array, " n"]
) -> tuple[Float[Array, ""], Gradients]:
    """The mean of the objectives at a point; and the gradients of all, with their values."""
    values, pull = jax.vjp(objectives, params)
    (gradients,) = jax.vmap(pull)(jnp.eye(values.shape[0], dtype=values.dtype))
    return jnp.mean(values), Gradients(gradients, values)


class Problem(AbstractTask[Float[Array, " n"], Gradients]):
    r"""Minimize several objectives over a box, under constraints.

    $$\min_{l \le x \le u} (f_1(x), \dots, f_m(x)) \quad \text{with} \quad g(x) \le 0$$

    As a task, its signal is the stacked gradients with the values, for combiners, and its value the mean of the
    objectives; bounds and constraints are for [`metaopt.multiobjective.pareto_front`][].

    **Arguments:**

    - `objectives`: $f$, a function of a vector.
    - `lower`, `upper`: $l$ and $u$.
    - `constraints`: $g$.
    - `ideal`, `nadir`: the best and the worst of each objective on the front, where they are known. Fronts are measured
        in these units.
    """

    objectives: Callable[[Float[Array, " n"]], Float[Array, " m"]] = eqx.field(static=True)
    lower: Float[Array, " n"]
    upper: Float[Array, " n"]
    constraints: Callable[[Float[Array, " n"]], Float[Array, " c"]] = eqx.field(static=True, default=nothing)
    ideal: Float[Array, " m"] | None = None
    nadir: Float[Array, " m"] | None = None

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        return jr.uniform(key, self.lower.shape, self.lower.dtype, self.lower, self.upper)

    def evaluate(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> tuple[Float[Array, ""], Gradients]:
        del key
        return evaluate_objectives(self.objectives, params)

    def measure(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.mean(self.objectives(params))
