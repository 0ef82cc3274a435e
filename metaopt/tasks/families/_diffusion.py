"""A discretized differential equation with random coefficients."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from ..._core import AbstractLossTask, AbstractTaskFamily
from .._common import check_at_least


class DiffusionTask(AbstractLossTask):
    r"""Minimize the energy of a discretized equation of diffusion and reaction.

    $$f(u) = \tfrac12 (u - u^*)^\top A (u - u^*), \qquad A u^* = b, \qquad u_0 = 0$$

    $$(A u)_i = \frac{a_{i + 1/2} (u_i - u_{i + 1}) + a_{i - 1/2} (u_i - u_{i - 1})}{h} + h c \, u_i, \qquad
      h = \frac{1}{n + 1}$$

    Up to a constant this is the energy $\frac12 u^\top A u - b^\top u$; written so, nothing cancels near the minimum,
    which is zero. Deterministic; `measure` is the loss.

    **Arguments:**

    - `diffusion`: $a$ at the midpoints, positive.
    - `reaction`: $c$, not negative.
    - `solution`: $u^*$.
    """

    diffusion: Float[Array, " midpoints"]
    reaction: Float[Array, ""]
    solution: Float[Array, " n"]

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        del key
        return jnp.zeros_like(self.solution)

    def loss(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        points, error = self.diffusion.shape[0], params - self.solution
        slopes = jnp.diff(error, prepend=0.0, append=0.0) * points
        energy = jnp.sum(self.diffusion * jnp.square(slopes)) + self.reaction * jnp.sum(jnp.square(error))
        return 0.5 * energy / points

    def measure(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)


class Diffusion(AbstractTaskFamily):
    r"""Draw equations $-(a u')' + c u = b$ on $(0, 1)$ with $u(0) = u(1) = 0$: one operator, many parameters.

    $$\log a(x) = \sigma \sum_{k=1}^4 \frac{z_k}{k} \cos(\pi k x), \qquad
      b(x) = \sum_{k=1}^4 \frac{w_k}{k} \sin(\pi k x)$$

    with $z_k$ uniform between $-\sqrt 3$ and $\sqrt 3$, so that the operators are bounded, $w_k \sim N(0, 1)$, and $c$
    uniform between 0 and `reaction`. The condition number grows as $n^2$. See [`metaopt.tasks.DiffusionTask`][] for the
    loss.

    **Arguments:**

    - `points`: $n$, how many inner grid points there are.
    - `contrast`: $\sigma$; 0 is the Laplace operator.
    - `reaction`: the largest $c$.

    **Raises:**

    - `ValueError`: if there is no point, or `contrast` or `reaction` is negative.
    """

    points: int = eqx.field(static=True, default=32)
    contrast: float = eqx.field(static=True, default=0.5)
    reaction: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        check_at_least("points", self.points, 1)
        check_at_least("contrast", self.contrast, 0)
        check_at_least("reaction", self.reaction, 0)

    def sample(self, *, key: PRNGKeyArray) -> DiffusionTask:
        field_key, forcing_key, reaction_key = jr.split(key, 3)
        modes, bound = jnp.arange(1.0, 5.0), math.sqrt(3)
        middle = jnp.arange(0.5, self.points + 1) / (self.points + 1)
        inner = jnp.arange(1.0, self.points + 1) / (self.points + 1)
        exponents = jr.uniform(field_key, modes.shape, minval=-bound, maxval=bound) / modes
        diffusion = jnp.exp(self.contrast * (jnp.cos(math.pi * middle[:, None] * modes[None]) @ exponents))
        forcing = jnp.sin(math.pi * inner[:, None] * modes[None]) @ (jr.normal(forcing_key, (4,)) / modes)
        reaction = jr.uniform(reaction_key, (), maxval=max(self.reaction, 1e-30))
        return DiffusionTask(diffusion, reaction, solve(diffusion, reaction, forcing))


def solve(diffusion: Float[Array, " midpoints"], reaction: Scalar, forcing: Float[Array, " n"]) -> Float[Array, " n"]:
    """The solution of the discretized equation."""
    h = 1 / diffusion.shape[0]
    left, right = diffusion[:-1], diffusion[1:]
    zero = jnp.zeros(1, diffusion.dtype)
    lower, upper = jnp.concatenate([zero, -left[1:]]), jnp.concatenate([-right[:-1], zero])
    return jax.lax.linalg.tridiagonal_solve(lower, left + right + h * h * reaction, upper, (h * h * forcing)[:, None])[
        :, 0
    ]
