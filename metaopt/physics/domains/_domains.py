"""Domains with closed forms: boxes, balls, polygons."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core.arrays._numbers import POSITIVE, REAL, number
from ..base import AbstractDomain, AbstractSampler, Points
from ..sampling._rejection import rejection


def _row(x: Any) -> Float[Array, " d"]:
    return jnp.atleast_1d(number(x))


class Box(AbstractDomain):
    """An interval, a rectangle or a box: all points between two corners.

    **Arguments:**

    - `lower`, `upper`: the corners, one number for each coordinate.

    **Raises:**

    - `ValueError`: if the box has no interior.
    """

    lower: Float[Array, " d"] = eqx.field(converter=_row, default=(0.0, 0.0))
    upper: Float[Array, " d"] = eqx.field(converter=_row, default=(1.0, 1.0))

    def __check_init__(self) -> None:
        REAL.check(lower=self.lower, upper=self.upper)
        if self.lower.shape != self.upper.shape:
            raise ValueError(
                f"`lower` has {self.lower.shape[0]} coordinates and `upper` {self.upper.shape[0]}; "
                "give as many of both."
            )
        check_interior(self, self.lower, self.upper)

    @property
    def dimension(self) -> int:
        return self.lower.shape[0]

    @property
    def transient(self) -> bool:
        return False

    def bounds(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        return self.lower, self.upper

    def level(self, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        return jnp.max(jnp.maximum(self.lower[None] - points, points - self.upper[None]), axis=1)

    def sample(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Float[Array, "{count} d"]:
        unit = sampler.unit(count, self.dimension, key=key)
        return self.lower[None] + unit * (self.upper - self.lower)[None]

    def boundary(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        d = self.dimension
        inner = self.sample(count, key=key, sampler=sampler)
        # Each face has its share of the points by area, spread evenly: no face is left out by chance.
        sides = self.upper - self.lower
        areas = jnp.repeat(jnp.prod(sides) / sides, 2)
        ends = jnp.cumsum(areas) / jnp.sum(areas)
        # An irrational stride decorrelates the face from the place on it.
        places = (jnp.arange(count, dtype=inner.dtype) * 0.6180339887498949 + 0.5 / count) % 1.0
        face = jnp.sum(places[:, None] >= ends[None, :-1], axis=1)
        axis, upper = face // 2, face % 2 == 1
        hit = axis[:, None] == jnp.arange(d)[None]
        wall = jnp.where(upper[:, None], self.upper[None], self.lower[None])
        sign = jnp.where(upper, 1.0, -1.0).astype(inner.dtype)
        return Points(jnp.where(hit, wall, inner), jnp.where(hit, sign[:, None], 0.0).astype(inner.dtype))


def interval(lower: float = 0.0, upper: float = 1.0) -> Box:
    """An interval."""
    return Box((lower,), (upper,))


def rectangle(lower: Sequence[float] = (0.0, 0.0), upper: Sequence[float] = (1.0, 1.0)) -> Box:
    """A rectangle with sides along the axes."""
    if len(lower) != 2 or len(upper) != 2:
        raise ValueError(f"A rectangle has corners of two coordinates, but {lower!r} and {upper!r} were given.")
    return Box(tuple(lower), tuple(upper))


class Disk(AbstractDomain):
    """A disk, or a ball in any dimension.

    **Arguments:**

    - `center`: one number for each coordinate.
    - `radius`: a positive number.

    **Raises:**

    - `ValueError`: if the disk has no interior.
    """

    center: Float[Array, " d"] = eqx.field(converter=_row, default=(0.0, 0.0))
    radius: Float[Array, ""] = eqx.field(converter=number, default=1.0)

    def __check_init__(self) -> None:
        REAL.check(center=self.center)
        POSITIVE.check(radius=self.radius)
        check_interior(self, jnp.zeros_like(self.radius), self.radius)

    @property
    def dimension(self) -> int:
        return self.center.shape[0]

    @property
    def transient(self) -> bool:
        return False

    def bounds(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        return self.center - self.radius, self.center + self.radius

    def level(self, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        return jnp.linalg.norm(points - self.center[None], axis=1) - self.radius

    def sample(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Float[Array, "{count} d"]:
        return rejection(self, count, key=key, sampler=sampler)

    def boundary(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        if self.dimension == 2:
            angle = 2 * math.pi * sampler.unit(count, 1, key=key)
            normals = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1)
        else:
            normals = jr.normal(key, (count, self.dimension))
            normals = normals / jnp.linalg.norm(normals, axis=1, keepdims=True)
        return Points(self.center[None] + self.radius * normals, normals)


class Polygon(AbstractDomain):
    """A polygon without holes.

    **Arguments:**

    - `corners`: in order, either way round.

    **Raises:**

    - `ValueError`: if there are fewer than three corners, or the polygon has no interior.
    """

    corners: tuple[tuple[float, float], ...] = eqx.field(
        static=True, converter=lambda x: tuple((float(a), float(b)) for a, b in x)
    )

    def __check_init__(self) -> None:
        REAL.check(corners=self.corners)
        if len(self.corners) < 3:
            raise ValueError(f"A polygon has at least three corners, but {len(self.corners)} were given.")
        if abs(self._area()) == 0:
            raise ValueError("`Polygon` has no interior: its corners lie on a line. Give corners that enclose an area.")

    @property
    def dimension(self) -> int:
        return 2

    @property
    def transient(self) -> bool:
        return False

    def _area(self) -> float:
        a, b = np.asarray(self.corners), np.roll(np.asarray(self.corners), -1, axis=0)
        return float(np.sum(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2)

    def _edges(self) -> tuple[Float[Array, "e 2"], Float[Array, "e 2"]]:
        start = np.asarray(self.corners)
        return number(start), number(np.roll(start, -1, axis=0) - start)

    def bounds(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        corners = np.asarray(self.corners)
        return number(corners.min(axis=0)), number(corners.max(axis=0))

    def level(self, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        start, side = (x.astype(points.dtype) for x in self._edges())
        away = points[:, None] - start[None]
        along = jnp.sum(away * side[None], axis=2) / jnp.sum(side**2, axis=1)[None]
        nearest = away - jnp.clip(along, 0, 1)[:, :, None] * side[None]
        distance = jnp.sqrt(jnp.min(jnp.sum(nearest**2, axis=2), axis=1))
        # A ray to the right crosses the boundary an odd number of times from inside.
        low, high = start[None, :, 1], (start + side)[None, :, 1]
        crosses = (low > points[:, None, 1]) != (high > points[:, None, 1])
        safe = jnp.where(side[:, 1] == 0, 1.0, side[:, 1]).astype(points.dtype)
        at = start[None, :, 0] + (points[:, None, 1] - low) / safe[None] * side[None, :, 0]
        inside = jnp.sum(crosses & (points[:, None, 0] < at), axis=1) % 2 == 1
        return jnp.where(inside, -distance, distance)

    def sample(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Float[Array, "{count} d"]:
        return rejection(self, count, key=key, sampler=sampler)

    def boundary(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        start, side = self._edges()
        lengths = jnp.sqrt(jnp.sum(side**2, axis=1))
        ends = jnp.cumsum(lengths)
        place = sampler.unit(count, 1, key=key)[:, 0].astype(start.dtype) * ends[-1]
        edge = jnp.sum(place[:, None] >= ends[None, :-1], axis=1)
        along = (place - (ends - lengths)[edge]) / lengths[edge]
        turn = 1.0 if self._area() > 0 else -1.0
        outward = turn * jnp.stack([side[:, 1], -side[:, 0]], axis=1) / lengths[:, None]
        return Points(start[edge] + along[:, None] * side[edge], outward[edge])


def l_shape() -> Polygon:
    """The square from -1 to 1 without its lower right quarter."""
    return Polygon(((-1, -1), (0, -1), (0, 0), (1, 0), (1, 1), (-1, 1)))


def check_interior(domain: AbstractDomain, lower: Array, upper: Array) -> None:
    """Check that bounds are in order, if they are known."""
    try:
        known = np.asarray(lower), np.asarray(upper)
    except Exception as error:
        if isinstance(error, TypeError | ValueError) or "Tracer" in type(error).__name__:
            return
        raise
    if not np.all(known[0] < known[1]):
        raise ValueError(
            f"`{type(domain).__name__}` has no interior: it reaches from {known[0].tolist()} to {known[1].tolist()}. "
            "Each upper bound must be above the lower one."
        )
