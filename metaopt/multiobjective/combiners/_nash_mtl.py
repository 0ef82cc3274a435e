"""Multi-task learning as a bargaining game."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import LIMIT, number
from ..base import AbstractCombiner
from ._gramian import normalized


_ITERATIONS = 100


class _Newton(eqx.Module):
    point: Float[Array, " m"]
    count: Int[Array, ""]
    met: Bool[Array, ""]


class NashMTL(AbstractCombiner):
    r"""Step on the Nash bargaining solution, where each objective's share of the direction is inverse to its weight.

    $$g = J^\top \alpha, \qquad G \alpha = 1 / \alpha$$

    That is the minimizer of $\frac{1}{2} \alpha^\top G \alpha - \sum_i \log \alpha_i$, found by damped Newton steps.
    Multiples of single gradients do not change the direction. A ridge of some rounding errors keeps it finite at
    Pareto stationary points, where $g$ vanishes. The norm of $g$ is limited, as published.

    **Arguments:**

    - `inner`: the algorithm that steps on $g$.
    - `max_norm`: the norm of $g$.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{navon2022multi,
          title={Multi-Task Learning as a Bargaining Game},
          author={Navon, Aviv and Shamsian, Aviv and Achituve, Idan and Maron, Haggai and Kawaguchi, Kenji and
                  Chechik, Gal and Fetaya, Ethan},
          booktitle={ICML}, year={2022}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    max_norm: Float[Array, ""] = eqx.field(converter=number, default=1.0)

    def __check_init__(self) -> None:
        LIMIT.check(max_norm=self.max_norm)

    @property
    def random(self) -> bool:
        return False

    def weigh(
        self, gramian: Float[Array, "m m"], values: Float[Array, " m"] | None, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " m"]:
        del values, key
        m, dtype = gramian.shape[0], gramian.dtype
        scaled, trace = normalized(gramian)
        eye = jnp.eye(m, dtype=dtype)
        matrix = scaled + 4 * m * jnp.finfo(dtype).eps * eye
        fixed = jax.lax.stop_gradient(matrix)

        def newton(x: Float[Array, " m"], matrix: Float[Array, "m m"]) -> tuple[Float[Array, " m"], Float[Array, ""]]:
            """The step, and its length in the metric of the Hessian. In units of `x`: weights differ in magnitude."""
            gradient = x * (matrix @ x) - 1
            hessian = jax.lax.stop_gradient(x[:, None] * matrix * x[None] + eye)
            step = -jnp.linalg.solve(hessian, gradient)
            return x * step, jnp.sqrt(jnp.maximum(-gradient @ step, 0))

        def body(state: _Newton) -> _Newton:
            step, length = newton(state.point, fixed)
            # The objective x'Mx / 2 - sum(log x) is self-concordant: steps of 1 / (1 + length) always lower it, and
            # from a length l < 1 a whole one leads to at most (l / (1 - l))^2, which is 1/9 for 1/4 (Nesterov and
            # Nemirovskii, Interior-Point Polynomial Algorithms in Convex Programming).
            damping = jnp.where(length > 0.25, 1 / (1 + length), 1)
            met = length < 16 * m * jnp.finfo(dtype).eps
            return _Newton(state.point + damping * step, state.count + 1, met)

        start = 1 / jnp.sqrt(jnp.diagonal(fixed))
        start = start * jnp.sqrt(m / jnp.maximum(start @ fixed @ start, jnp.finfo(dtype).tiny))
        loop = _Newton(start, jnp.asarray(0, jnp.int32), jnp.asarray(False))
        point = jax.lax.while_loop(lambda s: ~s.met & (s.count < _ITERATIONS), body, loop).point
        point = jax.lax.stop_gradient(point)
        point = point + newton(point, matrix)[0]
        alpha = point / jnp.sqrt(jnp.where(trace > 0, trace, 1))
        square = jnp.maximum(point @ scaled @ point, 0)
        length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        limit = self.max_norm.astype(dtype)
        return alpha * jnp.where(length > limit, limit / jnp.where(length > limit, length, 1), 1)
