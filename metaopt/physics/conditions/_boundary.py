"""Conditions on the boundary: values, slopes, and both."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core.arrays._numbers import REAL, number
from .._functions import Known, as_function, constant, values
from ..base import AbstractDomain, AbstractSampler, AbstractTerm, Evaluate, Points, Pointwise
from ..sampling._rejection import OVERSAMPLING, accepted
from ._common import chosen


def _draw_boundary(
    term: AbstractTerm,
    where: Pointwise | None,
    at: Float[Array, "n d"] | None,
    domain: AbstractDomain,
    count: int,
    key: PRNGKeyArray,
    sampler: AbstractSampler,
) -> Points:
    if at is not None:
        scale = jnp.max(domain.bounds()[1] - domain.bounds()[0])
        away = jnp.abs(domain.level(at))
        message = f"term `{term.name}`: points in `at` are not on the boundary. Move them there, or use `Data`."
        return Points(eqx.error_if(at, away > 1e-4 * scale, message))
    if where is None:
        return domain.boundary(count, key=key, sampler=sampler)
    drawn = domain.boundary(OVERSAMPLING * count, key=key, sampler=sampler)
    message = f"term `{term.name}`: no point of the boundary is where `where` wants it."
    index = accepted(jnp.asarray(where(drawn.x), bool), count, message)
    return Points(drawn.x[index], None if drawn.normals is None else drawn.normals[index])


class Dirichlet(AbstractTerm):
    r"""Values on the boundary, $u = g$ on the boundary.

    **Arguments:**

    - `value`: $g$, a number or a function of points.
    - `where`: a function of points that says on which part; by default everywhere.
    - `at`: the points, instead of random ones. They must lie on the boundary.
    - `components`: of which unknown functions; by default of all.
    - `label`: what errors call it.

    **Raises:**

    - `ValueError`: if `value` has another shape.
    """

    value: Known = eqx.field(converter=as_function, default=0.0)
    where: Pointwise | None = eqx.field(static=True, default=None)
    at: Float[Array, "n d"] | None = None
    components: tuple[int, ...] | None = eqx.field(static=True, default=None)
    label: str = eqx.field(static=True, default="dirichlet")

    def __check_init__(self) -> None:
        REAL.check(value=constant(self.value), at=self.at)

    @property
    def name(self) -> str:
        return self.label

    def draw(self, domain: AbstractDomain, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        return _draw_boundary(self, self.where, self.at, domain, count, key, sampler)

    def residual(self, u: Evaluate, points: Points) -> Float[Array, "n k"]:
        found = chosen(u(points.x).value, self.components)
        return found - values(self.value, points.x, found.shape[1], "value")


def _normal_derivative(u: Evaluate, points: Points, name: str) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
    if points.normals is None:
        raise ValueError(f"term `{name}`: its points have no normals. Leave `at` out, and say where with `where`.")
    jet = u(points.x, order=1)
    normals = points.normals.astype(jet.stack.dtype)
    return jet.value, jnp.sum(normals.T[:, :, None] * jet.first, axis=0)


class Neumann(AbstractTerm):
    r"""Slopes on the boundary, $\partial_n u = g$ on the boundary, along the outward normal.

    **Arguments:**

    - `value`: $g$, a number or a function of points.
    - `where`: a function of points that says on which part; by default everywhere.
    - `components`: of which unknown functions; by default of all.
    - `label`: what errors call it.
    """

    value: Known = eqx.field(converter=as_function, default=0.0)
    where: Pointwise | None = eqx.field(static=True, default=None)
    components: tuple[int, ...] | None = eqx.field(static=True, default=None)
    label: str = eqx.field(static=True, default="neumann")

    def __check_init__(self) -> None:
        REAL.check(value=constant(self.value))

    @property
    def name(self) -> str:
        return self.label

    def draw(self, domain: AbstractDomain, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        return _draw_boundary(self, self.where, None, domain, count, key, sampler)

    def residual(self, u: Evaluate, points: Points) -> Float[Array, "n k"]:
        slope = chosen(_normal_derivative(u, points, self.name)[1], self.components)
        return slope - values(self.value, points.x, slope.shape[1], "value")


class Robin(AbstractTerm):
    r"""Values and slopes on the boundary, $\alpha u + \beta \, \partial_n u = g$ on the boundary.

    **Arguments:**

    - `value`: $g$, a number or a function of points.
    - `alpha`, `beta`: the weights.
    - `where`: a function of points that says on which part; by default everywhere.
    - `components`: of which unknown functions; by default of all.
    - `label`: what errors call it.
    """

    value: Known = eqx.field(converter=as_function, default=0.0)
    alpha: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    beta: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    where: Pointwise | None = eqx.field(static=True, default=None)
    components: tuple[int, ...] | None = eqx.field(static=True, default=None)
    label: str = eqx.field(static=True, default="robin")

    def __check_init__(self) -> None:
        REAL.check(alpha=self.alpha, beta=self.beta, value=constant(self.value))

    @property
    def name(self) -> str:
        return self.label

    def draw(self, domain: AbstractDomain, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        return _draw_boundary(self, self.where, None, domain, count, key, sampler)

    def residual(self, u: Evaluate, points: Points) -> Float[Array, "n k"]:
        value, slope = (chosen(x, self.components) for x in _normal_derivative(u, points, self.name))
        mixed = self.alpha.astype(value.dtype) * value + self.beta.astype(value.dtype) * slope
        return mixed - values(self.value, points.x, mixed.shape[1], "value")
