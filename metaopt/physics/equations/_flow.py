"""Flow of an incompressible fluid in two dimensions."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core.arrays._numbers import NONNEGATIVE, REAL, number
from .._functions import Known, as_function, constant, values
from ..base import AbstractResidual
from ..fields._jets import Jet, Rows, laplacian


class NavierStokes(AbstractResidual):
    r"""The Navier-Stokes equations in two dimensions, for the velocity $(u, v)$ and the pressure $p$.

    $$(u_t) + (u \cdot \nabla) u + \nabla p - \nu \Delta u = f, \qquad \nabla \cdot u = 0$$

    In a domain of space the flow is steady; in one of space and time there is $u_t$.

    **Arguments:**

    - `viscosity`: $\nu$.
    - `source`: $f$ and what the divergence is: a number, or a function of points with three columns.
    """

    viscosity: Float[Array, ""] = eqx.field(converter=number, default=0.01)
    source: Known = eqx.field(converter=as_function, default=0.0)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(viscosity=self.viscosity)
        REAL.check(source=constant(self.source))

    def outputs(self, dimension: int) -> int:
        if dimension not in (2, 3):
            raise ValueError(
                f"the flow is one of two dimensions of space, with or without time, but the domain has {dimension}"
            )
        return 3

    def rows(self, dimension: int) -> Rows:
        return (laplacian((0, 1)),)

    def residual(self, u: Jet, points: Float[Array, "n d"]) -> Float[Array, "n equations"]:
        velocity, pressure = u.value[:, :2], u.first[:2, :, 2].T
        carried = velocity[:, :1] * u.along(0)[:, :2] + velocity[:, 1:] * u.along(1)[:, :2]
        momentum = carried + pressure - self.viscosity.astype(points.dtype) * u.second[0][:, :2]
        if u.axes == 3:
            momentum = momentum + u.along(2)[:, :2]
        divergence = u.along(0)[:, :1] + u.along(1)[:, 1:2]
        return jnp.concatenate([momentum, divergence], axis=1) - values(self.source, points, 3, "source")
