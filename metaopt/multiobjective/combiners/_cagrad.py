"""Conflict-averse gradient descent."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import NONNEGATIVE, number
from .._orthant import minimize_on_simplex
from ..base import AbstractCombiner
from ._gramian import normalized


# Below this share of the norm of all gradients, a combination counts as zero.
_STATIONARY = 1e-4
# The root lies between 1 and 1e10. Halving the logarithm leaves single precision after 28 halvings, 2e-14 after 50.
_ITERATIONS = 50


class _Bracket(eqx.Module):
    """Between `low` and `high` lies the root, and `point` is where it is looked for next."""

    low: Float[Array, ""]
    high: Float[Array, ""]
    point: Float[Array, ""]
    count: Int[Array, ""]
    met: Bool[Array, ""]


class CAGrad(AbstractCombiner):
    r"""Help the objective that improves least, within a ball around the mean gradient.

    $$g = \arg\max_{\lVert g - g_0 \rVert \le c \lVert g_0 \rVert} \min_i g_i^\top g, \qquad
      g_0 = \tfrac{1}{m} \sum_i g_i$$

    The dual minimizes $g_w^\top g_0 + c \lVert g_0 \rVert \lVert g_w \rVert$ over convex combinations $g_w$; then
    $g = g_0 + c \lVert g_0 \rVert \, g_w / \lVert g_w \rVert$. For a given norm $t$ in place of $\lVert g_w \rVert$
    the minimizer is a shortest combination, that of the vectors $g_i + t g_0 / (c \lVert g_0 \rVert)$, and $t$ is found
    by Newton's method inside of a bracket. Where $g_w$ vanishes, $g = 0$: the point is Pareto stationary.

    **Arguments:**

    - `inner`: the algorithm that steps on $g$.
    - `radius`: $c$; with 0 the mean gradient, from 1 on it converges to Pareto stationary points only.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{liu2021conflict,
          title={Conflict-Averse Gradient Descent for Multi-task Learning},
          author={Liu, Bo and Liu, Xingchao and Jin, Xiaojie and Stone, Peter and Liu, Qiang},
          booktitle={NeurIPS}, year={2021}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    radius: Float[Array, ""] = eqx.field(converter=number, default=0.5)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(radius=self.radius)

    @property
    def random(self) -> bool:
        return False

    def weigh(
        self, gramian: Float[Array, "m m"], values: Float[Array, " m"] | None, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " m"]:
        del values, key
        m, dtype = gramian.shape[0], gramian.dtype
        matrix = normalized(gramian)[0]
        mean = jnp.full(m, 1 / m, dtype)
        square = mean @ matrix @ mean
        positive = square > 0
        size = self.radius.astype(dtype) * jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)
        safe = jnp.maximum(size, jnp.finfo(dtype).tiny)

        def shortest(z: Float[Array, ""], matrix: Float[Array, "m m"], size: Float[Array, ""]) -> Float[Array, " m"]:
            """The weights for a norm of $1 / \\sqrt z$."""
            shift = jnp.eye(m, dtype=dtype) + mean[None] / (jnp.sqrt(z) * size)
            return minimize_on_simplex(shift @ matrix @ shift.T)

        def excess(z: Float[Array, ""], matrix: Float[Array, "m m"], size: Float[Array, ""]) -> Float[Array, ""]:
            """The square of the ratio of norm and assumed norm, less one. Grows with `z`, and is piecewise linear."""
            w = shortest(z, matrix, size)
            return z * (w @ matrix @ w) - 1

        def newton(z: Float[Array, ""], *rest: Array) -> Float[Array, ""]:
            value, slope = jax.jvp(lambda z: excess(z, *rest), (z,), (jnp.ones_like(z),))
            slope = jax.lax.stop_gradient(slope)
            return z - value / jnp.where(slope > 0, slope, jnp.inf)

        fixed = jax.lax.stop_gradient((matrix, safe))

        def body(state: _Bracket) -> _Bracket:
            value = excess(state.point, *fixed)
            low, high = jnp.where(value < 0, state.point, state.low), jnp.where(value < 0, state.high, state.point)
            proposed = newton(state.point, *fixed)
            inside = (proposed > low) & (proposed < high)
            point = jnp.where(inside, proposed, jnp.sqrt(low) * jnp.sqrt(high))
            met = jnp.abs(point - state.point) <= 8 * jnp.finfo(dtype).eps * state.point
            return _Bracket(low, high, point, state.count + 1, met)

        one = jnp.ones((), dtype)
        start = _Bracket(one, one / (0.1 * _STATIONARY) ** 2, one, jnp.asarray(0, jnp.int32), jnp.asarray(False))
        root = jax.lax.while_loop(lambda s: ~s.met & (s.count < _ITERATIONS), body, start).point
        # One differentiable step from the root has the derivative of the root.
        w = shortest(newton(jax.lax.stop_gradient(root), matrix, safe), matrix, safe)
        norm = w @ matrix @ w
        moving = norm > _STATIONARY**2
        weights = mean + size / jnp.sqrt(jnp.where(moving, norm, 1)) * w
        return jnp.where(moving, weights, 0)
