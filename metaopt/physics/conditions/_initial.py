"""Values and rates at the start."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core.arrays._numbers import REAL
from .._functions import Known, as_function, constant, values
from ..base import AbstractDomain, AbstractSampler, AbstractTerm, Evaluate, Points
from ..domains._composed import SpaceTime


class Initial(AbstractTerm):
    r"""Values at the start, $u = g$, and if a rate is given $u_t = h$, at the start.

    **Arguments:**

    - `value`: $g$, a number or a function of points (of space and time).
    - `rate`: $h$, the same; for equations of second order in time.
    - `label`: what errors call it.
    """

    value: Known = eqx.field(converter=as_function, default=0.0)
    rate: Known | None = eqx.field(converter=lambda x: None if x is None else as_function(x), default=None)
    label: str = eqx.field(static=True, default="initial")

    def __check_init__(self) -> None:
        REAL.check(value=constant(self.value), rate=constant(self.rate))

    @property
    def name(self) -> str:
        return self.label

    def draw(self, domain: AbstractDomain, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        if not isinstance(domain, SpaceTime):
            raise ValueError(f"term `{self.name}`: the domain has no time. Put `SpaceTime` around it.")
        return domain.initial(count, key=key, sampler=sampler)

    def residual(self, u: Evaluate, points: Points) -> Float[Array, "n k"]:
        jet = u(points.x, order=0 if self.rate is None else 1)
        parts = [jet.value - values(self.value, points.x, jet.value.shape[1], "value")]
        if self.rate is not None:
            parts.append(jet.along(jet.axes - 1) - values(self.rate, points.x, jet.value.shape[1], "rate"))
        return jnp.concatenate(parts, axis=1)
