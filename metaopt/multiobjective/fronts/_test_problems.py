"""Problems whose fronts are known, that solvers are compared on."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core.arrays._numbers import number
from ._problem import Problem


Vector = Float[Array, " n"]


def _root(x: Array) -> Array:
    """The square root, with a derivative of zero at zero."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


def _zdt(x: Vector, front: Callable[[Array, Array], Array]) -> Float[Array, " 2"]:
    g = 1 + 9 * jnp.mean(x[1:])
    return jnp.stack([x[0], g * front(x[0] / g, x[0])])


def _zdt1(x: Vector) -> Float[Array, " 2"]:
    return _zdt(x, lambda ratio, _: 1 - _root(ratio))


def _zdt2(x: Vector) -> Float[Array, " 2"]:
    return _zdt(x, lambda ratio, _: 1 - ratio**2)


def _zdt3(x: Vector) -> Float[Array, " 2"]:
    return _zdt(x, lambda ratio, first: 1 - _root(ratio) - ratio * jnp.sin(10 * math.pi * first))


def _zdt4(x: Vector) -> Float[Array, " 2"]:
    rest = x[1:]
    g = 1 + jnp.sum(10 + rest**2 - 10 * jnp.cos(4 * math.pi * rest))
    return jnp.stack([x[0], g * (1 - _root(x[0] / g))])


def _zdt6(x: Vector) -> Float[Array, " 2"]:
    first = 1 - jnp.exp(-4 * x[0]) * jnp.sin(6 * math.pi * x[0]) ** 6
    mean = jnp.mean(x[1:])
    g = 1 + 9 * _root(_root(mean))
    return jnp.stack([first, g * (1 - (first / g) ** 2)])


def _dtlz2(x: Vector) -> Float[Array, " 3"]:
    g = jnp.sum((x[2:] - 0.5) ** 2)
    a, b = 0.5 * math.pi * x[0], 0.5 * math.pi * x[1]
    return (1 + g) * jnp.stack([jnp.cos(a) * jnp.cos(b), jnp.cos(a) * jnp.sin(b), jnp.sin(a)])


def _dtlz7(x: Vector) -> Float[Array, " 3"]:
    g = 1 + 9 * jnp.mean(x[2:])
    first = x[:2]
    h = 3 - jnp.sum(first / (1 + g) * (1 + jnp.sin(3 * math.pi * first)))
    return jnp.append(first, (1 + g) * h)


def _bnh(x: Vector) -> Float[Array, " 2"]:
    return jnp.stack([4 * jnp.sum(x**2), jnp.sum((x - 5) ** 2)])


def _bnh_bounds(x: Vector) -> Float[Array, " 2"]:
    return jnp.stack([((x[0] - 5) ** 2 + x[1] ** 2 - 25) / 25, (7.7 - (x[0] - 8) ** 2 - (x[1] + 3) ** 2) / 7.7])


def _srn(x: Vector) -> Float[Array, " 2"]:
    return jnp.stack([2 + (x[0] - 2) ** 2 + (x[1] - 1) ** 2, 9 * x[0] - (x[1] - 1) ** 2])


def _srn_bounds(x: Vector) -> Float[Array, " 2"]:
    return jnp.stack([(jnp.sum(x**2) - 225) / 225, (x[0] - 3 * x[1] + 10) / 10])


def _tnk(x: Vector) -> Float[Array, " 2"]:
    return x


def _tnk_bounds(x: Vector) -> Float[Array, " 2"]:
    wave = 0.1 * jnp.cos(16 * jnp.arctan2(x[0], x[1]))
    return jnp.stack([1 + wave - jnp.sum(x**2), 2 * jnp.sum((x - 0.5) ** 2) - 1])


def _osy(x: Vector) -> Float[Array, " 2"]:
    centers, factors = jnp.asarray([2.0, 2.0, 1.0, 4.0, 1.0], x.dtype), jnp.asarray([25.0, 1, 1, 1, 1], x.dtype)
    return jnp.stack([-jnp.sum(factors * (x[:5] - centers) ** 2), jnp.sum(x**2)])


def _osy_bounds(x: Vector) -> Float[Array, " 6"]:
    return -jnp.stack(
        [
            (x[0] + x[1] - 2) / 2,
            (6 - x[0] - x[1]) / 6,
            (2 - x[1] + x[0]) / 2,
            (2 - x[0] + 3 * x[1]) / 2,
            (4 - (x[2] - 3) ** 2 - x[3]) / 4,
            ((x[4] - 3) ** 2 + x[5] - 4) / 4,
        ]
    )


def _c2_bounds(x: Vector) -> Float[Array, " 1"]:
    f, r = _dtlz2(x), 0.4
    corners = (f - 1) ** 2 + jnp.sum(f**2) - f**2 - r**2
    center = jnp.sum((f - 1 / math.sqrt(3)) ** 2) - r**2
    return jnp.minimum(jnp.min(corners), center)[None]


# The smallest value of the first objective of ZDT6.
_ZDT6_FIRST = 0.2807753191
# Where the front of DTLZ7 ends in its first two objectives, and what the third is least.
_DTLZ7_FIRST, _DTLZ7_LAST = 0.8594008566, 2.6140088


def _unit(n: int) -> tuple[Any, Any]:
    return (0.0,) * n, (1.0,) * n


_TABLE: dict[str, tuple[Any, ...]] = {
    "zdt1": (_zdt1, _unit(30), (0, 0), (1, 1)),
    "zdt2": (_zdt2, _unit(30), (0, 0), (1, 1)),
    "zdt3": (_zdt3, _unit(30), (0, 0), (1, 1)),
    "zdt4": (_zdt4, ((0.0,) + (-5.0,) * 9, (1.0,) + (5.0,) * 9), (0, 0), (1, 1)),
    "zdt6": (_zdt6, _unit(10), (0, 0), (1, 1)),
    "dtlz2": (_dtlz2, _unit(12), (0, 0, 0), (1, 1, 1)),
    "dtlz7": (_dtlz7, _unit(22), (0, 0, _DTLZ7_LAST), (_DTLZ7_FIRST, _DTLZ7_FIRST, 6)),
    "bnh": (_bnh, ((0.0, 0.0), (5.0, 3.0)), (0, 4), (136, 50), _bnh_bounds),
    "srn": (_srn, ((-20.0, -20.0), (20.0, 20.0)), (10.1, -217.0), (225.0, 2.6), _srn_bounds),
    "tnk": (_tnk, ((0.0, 1e-30), (math.pi, math.pi)), (0.0416, 0.0416), (1.0384, 1.0384), _tnk_bounds),
    "osy": (_osy, ((0, 0, 1, 0, 1, 0), (10, 10, 5, 6, 5, 10)), (-274, 4), (-42, 76), _osy_bounds),
    "c2dtlz2": (_dtlz2, _unit(12), (0, 0, 0), (1, 1, 1), _c2_bounds),
}


def make_problem(problem: str) -> Problem:
    """A problem of the table, with its usual number of variables.

    **Arguments:**

    - `problem`: `"zdt1"` to `"zdt4"`, `"zdt6"`, `"dtlz2"`, `"dtlz7"`; with constraints `"bnh"`, `"srn"`, `"tnk"`,
        `"osy"`, `"c2dtlz2"`.

    **Raises:**

    - `ValueError`: if there is none of that name.
    """
    if problem not in _TABLE:
        raise ValueError(f"There is no problem {problem!r}, only {', '.join(_TABLE)}.")
    objectives, (lower, upper), ideal, nadir, *constraints = _TABLE[problem]
    return Problem(objectives, number(lower), number(upper), *constraints, ideal=number(ideal), nadir=number(nadir))
