"""The same at both ends of an axis."""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..base import AbstractDomain, AbstractSampler, AbstractTerm, Evaluate, Points


class PeriodicTerm(AbstractTerm):
    """The same values, and by default the same slopes, at both ends of an axis of a box.

    **Arguments:**

    - `axis`: the axis.
    - `order`: 0 for values alone, 1 for slopes too.
    - `label`: what errors call it.
    """

    axis: int = eqx.field(static=True, default=0)
    order: Literal[0, 1] = eqx.field(static=True, default=1)
    label: str = eqx.field(static=True, default="periodic")

    @property
    def name(self) -> str:
        return self.label

    def draw(self, domain: AbstractDomain, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        lower, upper = domain.bounds()
        if not 0 <= self.axis < lower.shape[0]:
            raise ValueError(f"term `{self.name}`: the domain has no axis {self.axis}; it has {lower.shape[0]} axes.")
        x = domain.sample(count, key=key, sampler=sampler)
        hit = (jnp.arange(x.shape[1]) == self.axis)[None]
        return Points(jnp.where(hit, lower[None], x), partners=jnp.where(hit, upper[None], x))

    def residual(self, u: Evaluate, points: Points) -> Float[Array, "n k"]:
        assert points.partners is not None
        a, b = u(points.x, order=self.order), u(points.partners, order=self.order)
        parts = [a.value - b.value]
        if self.order:
            parts.append(a.along(self.axis) - b.along(self.axis))
        return jnp.concatenate(parts, axis=1)
