"""Rosenbrock's banana, in random positions."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractLossTask, AbstractTaskFamily
from .._common import check_above, check_at_least, rotation


class RosenbrockTask(AbstractLossTask):
    r"""Minimize Rosenbrock's function, rotated and shifted.

    $$f(\theta) = \sum_{i=1}^{n-1} a (z_{i+1} - z_i^2)^2 + (1 - z_i)^2, \qquad z = Q (\theta - s)$$

    The start is $\theta_0 \sim N(0, I)$, the minimum is zero. Deterministic; `measure` is the
    loss. Computed in the dtype of the task.

    **Arguments:**

    - `rotation`: $Q$.
    - `shift`: $s$.
    - `coefficient`: $a$, 100 in the original.
    """

    rotation: Float[Array, "n n"]
    shift: Float[Array, " n"]
    coefficient: Float[Array, ""]

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        return jr.normal(key, self.shift.shape, self.shift.dtype)

    def loss(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        z = self.rotation @ (params.astype(self.shift.dtype) - self.shift)
        valley = jnp.sum(jnp.square(z[1:] - jnp.square(z[:-1])))
        return self.coefficient * valley + jnp.sum(jnp.square(1 - z[:-1]))

    def measure(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)

    def minimizer(self) -> Float[Array, " n"]:
        r"""$s + Q^\top (1, \dots, 1)$, where the loss is zero."""
        return self.shift + jnp.sum(self.rotation, axis=0)


class Rosenbrock(AbstractTaskFamily):
    r"""Draw Rosenbrock functions: narrow curved valleys in random positions.

    Each task has a random rotation $Q$, a shift $s \sim N(0, I)$ and a coefficient
    $\log a \sim U[\log a_\mathrm{min}, \log a_\mathrm{max}]$ in the rule of [`metaopt.tasks.RosenbrockTask`][].

    **Arguments:**

    - `dimension`: $n$, at least 2.
    - `smallest`: $a_\mathrm{min}$.
    - `largest`: $a_\mathrm{max}$.

    **Raises:**

    - `ValueError`: if `dimension` is below 2, or not $0 < a_\mathrm{min} \le a_\mathrm{max}$.

    ??? cite "Reference"

        ```bibtex
        @article{rosenbrock1960automatic,
            title={An automatic method for finding the greatest or least value of a function},
            author={Rosenbrock, Howard H.},
            journal={The Computer Journal},
            volume={3},
            number={3},
            pages={175--184},
            year={1960},
        }
        ```
    """

    dimension: int = eqx.field(static=True, default=2)
    smallest: float = eqx.field(static=True, default=1.0)
    largest: float = eqx.field(static=True, default=100.0)

    def __check_init__(self) -> None:
        check_at_least("dimension", self.dimension, 2)
        check_above("smallest", self.smallest, 0)
        check_at_least("largest", self.largest, self.smallest)

    def sample(self, *, key: PRNGKeyArray) -> RosenbrockTask:
        rotation_key, shift_key, coefficient_key = jr.split(key, 3)
        fraction = jr.uniform(coefficient_key)
        coefficient = self.smallest * (self.largest / self.smallest) ** fraction
        return RosenbrockTask(
            rotation(self.dimension, key=rotation_key), jr.normal(shift_key, (self.dimension,)), coefficient
        )
