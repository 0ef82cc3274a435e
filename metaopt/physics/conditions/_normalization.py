"""The norm of a solution."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core.arrays._numbers import POSITIVE, number
from ..base import AbstractDomain, AbstractSampler, AbstractTerm, Evaluate, Points


class Normalization(AbstractTerm):
    r"""The norm is one, $\int u^2 = 1$, by the mean over random points and the volume.

    **Arguments:**

    - `volume`: of the domain.
    - `label`: what errors call it.
    """

    volume: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    label: str = eqx.field(static=True, default="normalization")

    def __check_init__(self) -> None:
        POSITIVE.check(volume=self.volume)

    @property
    def name(self) -> str:
        return self.label

    def draw(self, domain: AbstractDomain, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        return Points(domain.sample(count, key=key, sampler=sampler))

    def residual(self, u: Evaluate, points: Points) -> Float[Array, "n k"]:
        norm = jnp.mean(jnp.sum(u(points.x).value ** 2, axis=1))
        return (self.volume.astype(norm.dtype) * norm - 1).reshape(1, 1)
