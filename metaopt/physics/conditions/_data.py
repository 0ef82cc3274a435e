"""Measured values."""

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core.arrays._numbers import REAL, number
from ..base import AbstractDomain, AbstractSampler, AbstractTerm, Evaluate, Points
from ._common import chosen


class Data(AbstractTerm):
    """Measured values at given points.

    **Arguments:**

    - `points`: where.
    - `targets`: what was measured, one row for each point.
    - `components`: of which unknown functions; by default of all.
    - `label`: what errors call it.

    **Raises:**

    - `ValueError`: if there are not as many targets as points.
    """

    points: Float[Array, "n d"] = eqx.field(converter=number)
    targets: Float[Array, "n m"] = eqx.field(
        converter=lambda x: number(x)[:, None] if number(x).ndim == 1 else number(x)
    )
    components: tuple[int, ...] | None = eqx.field(static=True, default=None)
    label: str = eqx.field(static=True, default="data")

    @property
    def name(self) -> str:
        return self.label

    def __check_init__(self) -> None:
        REAL.check(points=self.points, targets=self.targets)
        if self.points.shape[0] != self.targets.shape[0]:
            raise ValueError(
                f"term `{self.name}`: {self.points.shape[0]} points need as many targets, but {self.targets.shape[0]} "
                "were given."
            )

    def draw(self, domain: AbstractDomain, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        del domain, count, key, sampler
        return Points(self.points, targets=self.targets)

    def residual(self, u: Evaluate, points: Points) -> Float[Array, "n k"]:
        assert points.targets is not None
        found = chosen(u(points.x).value, self.components)
        if found.shape != points.targets.shape:
            raise ValueError(f"the targets have shape {points.targets.shape}, but {found.shape} was wanted")
        return found - points.targets.astype(found.dtype)
