"""Equations of space alone."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core.arrays._numbers import POSITIVE, REAL, number
from .._functions import Known, as_function, constant, values
from ..base import AbstractResidual
from ..fields._jets import Jet, Rows, laplacian


class Poisson(AbstractResidual):
    r"""Poisson's equation, $-\Delta u = f$.

    **Arguments:**

    - `source`: $f$, a number or a function of points.
    """

    source: Known = eqx.field(converter=as_function, default=0.0)

    def __check_init__(self) -> None:
        REAL.check(source=constant(self.source))

    def outputs(self, dimension: int) -> int:
        return 1

    def rows(self, dimension: int) -> Rows:
        return (laplacian(range(dimension)),)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        return -u.laplacian() - values(self.source, points, 1, "source")


class Laplace(AbstractResidual):
    r"""Laplace's equation, $\Delta u = 0$."""

    def outputs(self, dimension: int) -> int:
        return 1

    def rows(self, dimension: int) -> Rows:
        return (laplacian(range(dimension)),)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        return u.laplacian()


class Helmholtz(AbstractResidual):
    r"""Helmholtz's equation, $\Delta u + k^2 u = f$.

    **Arguments:**

    - `wave_number`: $k$.
    - `source`: $f$, a number or a function of points.
    """

    wave_number: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    source: Known = eqx.field(converter=as_function, default=0.0)

    def __check_init__(self) -> None:
        REAL.check(wave_number=self.wave_number, source=constant(self.source))

    def outputs(self, dimension: int) -> int:
        return 1

    def rows(self, dimension: int) -> Rows:
        return (laplacian(range(dimension)),)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        k = self.wave_number.astype(points.dtype)
        return u.laplacian() + k**2 * u.value - values(self.source, points, 1, "source")


class Darcy(AbstractResidual):
    r"""Darcy flow, $-\nabla \cdot (a \nabla u) = f$.

    **Arguments:**

    - `permeability`: $a > 0$, a number or a differentiable function of points.
    - `source`: $f$, a number or a function of points.
    """

    permeability: Known = eqx.field(converter=as_function, default=1.0)
    source: Known = eqx.field(converter=as_function, default=1.0)

    def __check_init__(self) -> None:
        POSITIVE.check(permeability=constant(self.permeability))
        REAL.check(source=constant(self.source))

    def outputs(self, dimension: int) -> int:
        return 1

    def rows(self, dimension: int) -> Rows:
        return (laplacian(range(dimension)),)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        a = Jet.seed(points).through(lambda x: values(self.permeability, x, 1, "permeability"))
        flux = jnp.sum(a.first * u.first, axis=0) + a.value * u.laplacian()
        return -flux - values(self.source, points, 1, "source")


class Eigenproblem(AbstractResidual):
    r"""The stationary Schrodinger equation $-\frac12 \Delta u + V u = E u$.

    The energy is a coefficient: name it among the `unknown` of the problem, and add a
    [`metaopt.physics.Normalization`][], without which $u = 0$ solves it.

    **Arguments:**

    - `potential`: $V$, a number or a function of points.
    - `energy`: $E$, where it starts.
    """

    potential: Known = eqx.field(converter=as_function, default=0.0)
    energy: Float[Array, ""] = eqx.field(converter=number, default=1.0)

    def __check_init__(self) -> None:
        REAL.check(potential=constant(self.potential), energy=self.energy)

    def outputs(self, dimension: int) -> int:
        return 1

    def rows(self, dimension: int) -> Rows:
        return (laplacian(range(dimension)),)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        potential = values(self.potential, points, 1, "potential")
        return -0.5 * u.laplacian() + (potential - self.energy.astype(points.dtype)) * u.value


class Equation(AbstractResidual):
    """Your own equation, as a function of the unknown functions with their derivatives.

    ```python
    from metaopt import physics

    # u_xx + u u_x = 1
    mine = physics.Equation(lambda u, x: u.mixed(0, 0) + u.value * u.along(0) - 1, second=((0, 0),))
    ```

    **Arguments:**

    - `function`: of a [`metaopt.physics.Jet`][] (`u.value`, `u.along(i)`, `u.mixed(i, j)`, `u.laplacian()`, each with
        one column for each unknown function), of the points, and of the `parameters` by name. Returns one column for
        each equation.
    - `unknowns`: how many unknown functions there are.
    - `second`: the second derivatives that it needs.
    - `parameters`: coefficients by name.
    """

    function: Callable[..., Any] = eqx.field(static=True)
    unknowns: int = eqx.field(static=True, default=1)
    second: tuple[tuple[int, int], ...] = eqx.field(static=True, default=(), converter=lambda x: tuple(map(tuple, x)))
    parameters: dict[str, Float[Array, "..."]] = eqx.field(
        default_factory=dict, converter=lambda x: {name: number(value) for name, value in x.items()}
    )

    def outputs(self, dimension: int) -> int:
        return self.unknowns

    def rows(self, dimension: int) -> Rows:
        return tuple((pair,) for pair in self.second)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        found = jnp.asarray(self.function(u, points, **self.parameters))
        if found.ndim == 1:
            found = found[:, None]
        if found.ndim != 2 or found.shape[0] != points.shape[0]:
            raise ValueError(
                f"the equation returns shape {found.shape} for {points.shape[0]} points; "
                "return one row for each point and one column for each equation"
            )
        return found
