"""A discretized differential equation with a random coefficient."""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._core import AbstractLossTask, AbstractTaskFamily
from ._common import check_at_least


class DiffusionTask(AbstractLossTask):
    r"""Minimize the energy of a discretized diffusion equation.

    $$f(u) = \tfrac12 u^\top A u - b^\top u + \tfrac12 b^\top A^{-1} b, \qquad A u = b, \qquad u_0 = 0$$

    with $(A u)_i = \left(a_{i + 1/2} (u_i - u_{i + 1}) + a_{i - 1/2} (u_i - u_{i - 1})\right) / h^2$ and $h = 1 / (n + 1)$,
    everything scaled by $h$. The minimum is zero. Deterministic; `measure` is the loss.

    **Arguments:**

    - `coefficient`: $a$ at the midpoints, positive.
    - `forcing`: $b$ without the scale $h$, at the inner points.
    """

    coefficient: Float[Array, " midpoints"]
    forcing: Float[Array, " n"]

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        del key
        return jnp.zeros_like(self.forcing)

    def loss(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        # Half the energy of the difference to the solution: written so, nothing cancels near the minimum.
        slopes = jnp.diff(params - self.minimizer(), prepend=0.0, append=0.0) * self.coefficient.shape[0]
        return 0.5 * jnp.sum(self.coefficient * jnp.square(slopes)) / self.coefficient.shape[0]

    def measure(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)

    def minimizer(self) -> Float[Array, " n"]:
        """The solution, by integrating twice."""
        points = self.coefficient.shape[0]
        # -(a u')' = b: the flux a u' is a constant minus the integral of b, and the constant makes u(1) = 0.
        integral = jnp.cumsum(jnp.concatenate([jnp.zeros(1, self.forcing.dtype), self.forcing])) / points
        constant = jnp.sum(integral / self.coefficient) / jnp.sum(1 / self.coefficient)
        return jnp.cumsum((constant - integral) / self.coefficient)[:-1] / points


class Diffusion(AbstractTaskFamily):
    r"""Draw diffusion equations $-(a u')' = b$ on $(0, 1)$ with $u(0) = u(1) = 0$: one operator, many parameters.

    $$\log a(x) = \sigma \sum_{k=1}^4 \frac{z_k}{k} \cos(\pi k x), \qquad b(x) = \sum_{k=1}^4 \frac{w_k}{k} \sin(\pi k x),
      \qquad z_k, w_k \sim N(0, 1)$$

    The condition number grows as $n^2$. See [`metaopt.tasks.DiffusionTask`][] for the loss.

    **Arguments:**

    - `points`: $n$, how many inner grid points there are.
    - `contrast`: $\sigma$; 0 is the Laplace operator.

    **Raises:**

    - `ValueError`: if there is no point, or `contrast` is negative.
    """

    points: int = eqx.field(static=True, default=32)
    contrast: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        check_at_least("points", self.points, 1)
        check_at_least("contrast", self.contrast, 0)

    def sample(self, *, key: PRNGKeyArray) -> DiffusionTask:
        modes = jnp.arange(1, 5)
        drawn = jr.normal(key, (2, 4))
        middle = (jnp.arange(self.points + 1) + 0.5) / (self.points + 1)
        inner = jnp.arange(1, self.points + 1) / (self.points + 1)
        field = jnp.cos(math.pi * middle[:, None] * modes[None]) @ (drawn[0] / modes)
        forcing = jnp.sin(math.pi * inner[:, None] * modes[None]) @ (drawn[1] / modes)
        return DiffusionTask(jnp.exp(self.contrast * field), forcing)
