"""Equations of space and time. Time is the last coordinate."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core.arrays._numbers import NONNEGATIVE, REAL, number
from .._functions import Known, as_function, constant, values
from ..base import AbstractResidual
from ..fields._jets import Jet, Rows, laplacian


def _space(dimension: int) -> range:
    if dimension < 2:
        raise ValueError("an equation of space and time needs a domain of both; put `SpaceTime` around that of space")
    return range(dimension - 1)


def _time(u: Jet) -> Float[Array, "n m"]:
    return u.along(u.axes - 1)


def _diffusion(u: Jet) -> Float[Array, "n m"]:
    return u.laplacian(_space(u.axes))


class Heat(AbstractResidual):
    r"""The heat equation, $u_t - \kappa \Delta u = f$.

    **Arguments:**

    - `diffusivity`: $\kappa$.
    - `source`: $f$, a number or a function of points.
    """

    diffusivity: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    source: Known = eqx.field(converter=as_function, default=0.0)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(diffusivity=self.diffusivity)
        REAL.check(source=constant(self.source))

    def outputs(self, dimension: int) -> int:
        return 1

    def rows(self, dimension: int) -> Rows:
        return (laplacian(_space(dimension)),)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        kappa = self.diffusivity.astype(points.dtype)
        return _time(u) - kappa * _diffusion(u) - values(self.source, points, 1, "source")


class Wave(AbstractResidual):
    r"""The wave equation, $u_{tt} - c^2 \Delta u = f$.

    **Arguments:**

    - `speed`: $c$.
    - `source`: $f$, a number or a function of points.
    """

    speed: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    source: Known = eqx.field(converter=as_function, default=0.0)

    def __check_init__(self) -> None:
        REAL.check(speed=self.speed, source=constant(self.source))

    def outputs(self, dimension: int) -> int:
        return 1

    def rows(self, dimension: int) -> Rows:
        return (laplacian(_space(dimension)), ((dimension - 1, dimension - 1),))

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        last = u.axes - 1
        speed = self.speed.astype(points.dtype)
        return u.mixed(last, last) - speed**2 * _diffusion(u) - values(self.source, points, 1, "source")


class AdvectionDiffusion(AbstractResidual):
    r"""Advection and diffusion, $u_t + v \cdot \nabla u - \kappa \Delta u = f$.

    **Arguments:**

    - `velocity`: $v$, one number for each axis of space, or a function of points.
    - `diffusivity`: $\kappa$.
    - `source`: $f$, a number or a function of points.
    """

    velocity: Known | tuple[float, ...] = eqx.field(converter=as_function, default=1.0)
    diffusivity: Float[Array, ""] = eqx.field(converter=number, default=0.1)
    source: Known = eqx.field(converter=as_function, default=0.0)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(diffusivity=self.diffusivity)
        REAL.check(velocity=constant(self.velocity), source=constant(self.source))

    def outputs(self, dimension: int) -> int:
        return 1

    def rows(self, dimension: int) -> Rows:
        return (laplacian(_space(dimension)),)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        velocity = values(self.velocity, points, len(_space(u.axes)), "velocity")
        carried = jnp.sum(velocity.T[:, :, None] * u.first[:-1], axis=0)
        kappa = self.diffusivity.astype(points.dtype)
        return _time(u) + carried - kappa * _diffusion(u) - values(self.source, points, 1, "source")


class Burgers(AbstractResidual):
    r"""Burgers' equation, $u_t + (u \cdot \nabla) u - \nu \Delta u = f$, with as many components as space has axes.

    **Arguments:**

    - `viscosity`: $\nu$.
    - `source`: $f$, a number or a function of points.
    """

    viscosity: Float[Array, ""] = eqx.field(converter=number, default=0.01)
    source: Known = eqx.field(converter=as_function, default=0.0)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(viscosity=self.viscosity)
        REAL.check(source=constant(self.source))

    def outputs(self, dimension: int) -> int:
        return len(_space(dimension))

    def rows(self, dimension: int) -> Rows:
        return (laplacian(_space(dimension)),)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        carried = jnp.sum(u.value.T[:, :, None] * u.first[:-1], axis=0)
        viscosity = self.viscosity.astype(points.dtype)
        source = values(self.source, points, self.outputs(u.axes), "source")
        return _time(u) + carried - viscosity * _diffusion(u) - source


class AllenCahn(AbstractResidual):
    r"""The Allen-Cahn equation, $u_t - \kappa \Delta u + \rho (u^3 - u) = f$.

    **Arguments:**

    - `diffusivity`: $\kappa$.
    - `reaction`: $\rho$.
    - `source`: $f$, a number or a function of points.
    """

    diffusivity: Float[Array, ""] = eqx.field(converter=number, default=0.001)
    reaction: Float[Array, ""] = eqx.field(converter=number, default=5.0)
    source: Known = eqx.field(converter=as_function, default=0.0)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(diffusivity=self.diffusivity)
        REAL.check(reaction=self.reaction, source=constant(self.source))

    def outputs(self, dimension: int) -> int:
        return 1

    def rows(self, dimension: int) -> Rows:
        return (laplacian(_space(dimension)),)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        kappa, rho = self.diffusivity.astype(points.dtype), self.reaction.astype(points.dtype)
        reaction = rho * (u.value**3 - u.value)
        return _time(u) - kappa * _diffusion(u) + reaction - values(self.source, points, 1, "source")


class Schrodinger(AbstractResidual):
    r"""The Schrodinger equation, $i \psi_t + \frac12 \Delta \psi - V \psi + g |\psi|^2 \psi = f$, where
    $\psi = u_0 + i u_1$.

    **Arguments:**

    - `potential`: $V$, a number or a function of points.
    - `nonlinearity`: $g$.
    - `source`: the real and the imaginary part of $f$: a number, or a function of points with two columns.
    """

    potential: Known = eqx.field(converter=as_function, default=0.0)
    nonlinearity: Float[Array, ""] = eqx.field(converter=number, default=0.0)
    source: Known = eqx.field(converter=as_function, default=0.0)

    def __check_init__(self) -> None:
        REAL.check(potential=constant(self.potential), nonlinearity=self.nonlinearity, source=constant(self.source))

    def outputs(self, dimension: int) -> int:
        return 2

    def rows(self, dimension: int) -> Rows:
        return (laplacian(_space(dimension)),)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        change = _time(u)
        turned = jnp.stack([-change[:, 1], change[:, 0]], axis=1)
        density = jnp.sum(u.value**2, axis=1, keepdims=True)
        force = self.nonlinearity.astype(points.dtype) * density - values(self.potential, points, 1, "potential")
        return turned + 0.5 * _diffusion(u) + force * u.value - values(self.source, points, 2, "source")
