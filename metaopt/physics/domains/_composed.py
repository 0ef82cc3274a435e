"""Domains made of others: unions, differences, space and time."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..._core.arrays._numbers import REAL, number
from ..base import AbstractDomain, AbstractSampler, Points
from ..sampling._rejection import accepted, rejection
from ._domains import Box, check_interior


def _check_pair(kind: str, first: AbstractDomain, second: AbstractDomain) -> None:
    if first.dimension != second.dimension or first.transient or second.transient:
        raise ValueError(
            f"`{kind}` joins domains of space with the same number of coordinates, but {first.dimension} and "
            f"{second.dimension} were given. Join them first, and put `SpaceTime` around."
        )


def _joined_boundary(
    whole: AbstractDomain,
    parts: tuple[Points, Points],
    keep: tuple[Bool[Array, " n"], Bool[Array, " n"]],
    count: int,
) -> Points:
    # Interleaved, so that each part of the boundary has its share of what is kept.
    def mix(a: Array, b: Array) -> Array:
        return jnp.stack([a, b], axis=1).reshape(-1, *a.shape[1:])

    index = accepted(mix(*keep), count, f"`{type(whole).__name__}` has no boundary: its parts cover each other.")
    x, normals = mix(parts[0].x, parts[1].x), mix(_outward(parts[0]), _outward(parts[1]))
    return Points(x[index], normals[index])


def _outward(points: Points) -> Float[Array, "n d"]:
    """The normals, which points of a boundary have."""
    assert points.normals is not None
    return points.normals


class Union(AbstractDomain):
    """The points of either of two domains."""

    first: AbstractDomain
    second: AbstractDomain

    def __check_init__(self) -> None:
        _check_pair("Union", self.first, self.second)

    @property
    def dimension(self) -> int:
        return self.first.dimension

    @property
    def transient(self) -> bool:
        return False

    def bounds(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        (a, b), (c, d) = self.first.bounds(), self.second.bounds()
        return jnp.minimum(a, c), jnp.maximum(b, d)

    def level(self, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        return jnp.minimum(self.first.level(points), self.second.level(points))

    def sample(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Float[Array, "{count} d"]:
        return rejection(self, count, key=key, sampler=sampler)

    def boundary(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        a, b = _two_boundaries(self.first, self.second, count, key, sampler)
        return _joined_boundary(self, (a, b), (self.second.level(a.x) > 0, self.first.level(b.x) > 0), count)


class Difference(AbstractDomain):
    """The points of a domain that are not in another."""

    first: AbstractDomain
    second: AbstractDomain

    def __check_init__(self) -> None:
        _check_pair("Difference", self.first, self.second)

    @property
    def dimension(self) -> int:
        return self.first.dimension

    @property
    def transient(self) -> bool:
        return False

    def bounds(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        return self.first.bounds()

    def level(self, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        return jnp.maximum(self.first.level(points), -self.second.level(points))

    def sample(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Float[Array, "{count} d"]:
        return rejection(self, count, key=key, sampler=sampler)

    def boundary(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        a, b = _two_boundaries(self.first, self.second, count, key, sampler)
        hole = Points(b.x, -_outward(b))
        return _joined_boundary(self, (a, hole), (self.second.level(a.x) > 0, self.first.level(b.x) < 0), count)


def _two_boundaries(
    first: AbstractDomain, second: AbstractDomain, count: int, key: PRNGKeyArray, sampler: AbstractSampler
) -> tuple[Points, Points]:
    keys = jr.split(key)
    return (
        first.boundary(4 * count + 16, key=keys[0], sampler=sampler),
        second.boundary(4 * count + 16, key=keys[1], sampler=sampler),
    )


class SpaceTime(AbstractDomain):
    """A domain of space during a time. Time is the last coordinate; the boundary is that of space, at all times.

    **Arguments:**

    - `space`: the domain of space.
    - `start`, `end`: the times.

    **Raises:**

    - `ValueError`: if the end is not after the start.
    """

    space: AbstractDomain
    start: Float[Array, ""] = eqx.field(converter=number, default=0.0)
    end: Float[Array, ""] = eqx.field(converter=number, default=1.0)

    def __check_init__(self) -> None:
        REAL.check(start=self.start, end=self.end)
        if self.space.transient:
            raise ValueError("`SpaceTime` was given a domain that has time already; give it one of space.")
        check_interior(self, self.start, self.end)

    @property
    def dimension(self) -> int:
        return self.space.dimension + 1

    @property
    def transient(self) -> bool:
        return True

    def bounds(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        lower, upper = self.space.bounds()
        return jnp.append(lower, self.start), jnp.append(upper, self.end)

    def level(self, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        outside = jnp.maximum(self.start - points[:, -1], points[:, -1] - self.end)
        return jnp.maximum(self.space.level(points[:, :-1]), outside)

    def sample(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Float[Array, "{count} d"]:
        if isinstance(self.space, Box):
            return Box(*self.bounds()).sample(count, key=key, sampler=sampler)
        lower, _ = self.bounds()
        del lower
        return rejection(self, count, key=key, sampler=sampler)

    def boundary(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        space_key, time_key = jr.split(key)
        walls = self.space.boundary(count, key=space_key, sampler=sampler)
        times = self.start + sampler.unit(count, 1, key=time_key).astype(walls.x.dtype) * (self.end - self.start)
        normals = walls.normals
        if normals is not None:
            normals = jnp.concatenate([normals, jnp.zeros_like(times)], axis=1)
        return Points(jnp.concatenate([walls.x, times], axis=1), normals)

    def initial(self, count: int, *, key: PRNGKeyArray, sampler: AbstractSampler) -> Points:
        """Draw points at the start."""
        x = self.space.sample(count, key=key, sampler=sampler)
        return Points(jnp.concatenate([x, jnp.full((count, 1), self.start, x.dtype)], axis=1))


def has_time(domain: Any) -> bool:
    """Whether a domain has time."""
    return isinstance(domain, SpaceTime)
