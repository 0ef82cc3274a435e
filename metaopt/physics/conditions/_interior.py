"""The equation inside a domain."""

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ..base import AbstractDomain, AbstractResidual, AbstractSampler, AbstractTerm, Evaluate, Points


class Interior(AbstractTerm):
    """The equation itself, at interior points.

    **Arguments:**

    - `equation`: what must vanish.
    - `label`: what errors call it.
    """

    equation: AbstractResidual
    label: str = eqx.field(static=True, default="physics")

    @property
    def name(self) -> str:
        return self.label

    def draw(self, domain: AbstractDomain, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        return Points(domain.sample(count, key=key, sampler=sampler))

    def residual(self, u: Evaluate, points: Points) -> Float[Array, "n k"]:
        rows = self.equation.rows(points.x.shape[1])
        return self.equation.residual(u(points.x, order=1, rows=rows), points.x)
