"""The terms of a physics-informed loss."""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core.arrays._numbers import POSITIVE, REAL, number
from .._functions import Known, as_function, constant, values
from ..base import AbstractDomain, AbstractResidual, AbstractSampler, AbstractTerm, Evaluate, Points, Pointwise
from ..domains._composed import SpaceTime
from ..sampling._rejection import OVERSAMPLING, accepted


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
        found = _chosen(u(points.x).value, self.components)
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
        slope = _chosen(_normal_derivative(u, points, self.name)[1], self.components)
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
        value, slope = (_chosen(x, self.components) for x in _normal_derivative(u, points, self.name))
        mixed = self.alpha.astype(value.dtype) * value + self.beta.astype(value.dtype) * slope
        return mixed - values(self.value, points.x, mixed.shape[1], "value")


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
        found = _chosen(u(points.x).value, self.components)
        if found.shape != points.targets.shape:
            raise ValueError(f"the targets have shape {points.targets.shape}, but {found.shape} was wanted")
        return found - points.targets.astype(found.dtype)


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


def _chosen(found: Float[Array, "n m"], components: tuple[int, ...] | None) -> Float[Array, "n k"]:
    return found if components is None else found[:, list(components)]
