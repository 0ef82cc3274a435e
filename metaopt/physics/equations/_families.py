"""Differential equations with parameters, as families of tasks."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractTaskFamily
from ...tasks._common import check_at_least, check_range, check_sizes
from .._functions import Function
from .._pinn import PINN
from ..domains._composed import SpaceTime
from ..domains._domains import interval
from ..fields._fields import HardBoundary, Perceptron
from ._steady import Helmholtz, Poisson
from ._transient import Burgers


def _bubble(x: Float[Array, "n 2"]) -> Float[Array, " n"]:
    return 16 * x[:, 0] * (1 - x[:, 0]) * x[:, 1] * (1 - x[:, 1])


def _modes(x: Float[Array, "n 2"]) -> Float[Array, "n 4"]:
    def sines(axis: int) -> Float[Array, "n 2"]:
        return jnp.sin(jnp.pi * x[:, axis : axis + 1] * jnp.arange(1.0, 3.0).astype(x.dtype)[None])

    return (sines(0)[:, :, None] * sines(1)[:, None, :]).reshape(-1, 4)


def _eigenvalues(dtype: jnp.dtype) -> Float[Array, " 4"]:
    return jnp.pi**2 * jnp.asarray([2.0, 5.0, 5.0, 8.0], dtype)


def _series(x: Float[Array, "n 2"], amplitudes: Float[Array, " 4"]) -> Float[Array, " n"]:
    return _modes(x) @ amplitudes.astype(x.dtype)


def _poisson_source(x: Float[Array, "n 2"], amplitudes: Float[Array, " 4"]) -> Float[Array, " n"]:
    return _modes(x) @ (amplitudes.astype(x.dtype) * _eigenvalues(x.dtype))


def _helmholtz_source(x: Float[Array, "n 2"]) -> Float[Array, " n"]:
    return _modes(x) @ jnp.asarray([-10.0, 10.0, 10.0, 0.0], x.dtype)


def _helmholtz_solution(x: Float[Array, "n 2"], wave_number: Float[Array, ""]) -> Float[Array, " n"]:
    source = jnp.asarray([-10.0, 10.0, 10.0, 0.0], x.dtype)
    return _modes(x) @ (source / (wave_number.astype(x.dtype) ** 2 - _eigenvalues(x.dtype)))


def _burgers_solution(x: Float[Array, "n 2"], viscosity: Float[Array, ""]) -> Float[Array, " n"]:
    """The transformation of Cole and Hopf, by the trapezoidal rule, of the start $-\\sin(\\pi x)$."""
    nu = viscosity.astype(x.dtype)
    z = jnp.linspace(-6.0, 6.0, 601).astype(x.dtype)
    y = x[:, :1] - 2 * jnp.sqrt(nu * jnp.maximum(x[:, 1:], 1e-9)) * z[None]
    exponent = -jnp.cos(jnp.pi * y) / (2 * jnp.pi * nu) - z[None] ** 2
    weight = jnp.exp(exponent - jax.lax.stop_gradient(jnp.max(exponent, axis=1, keepdims=True)))
    return -jnp.sum(jnp.sin(jnp.pi * y) * weight, axis=1) / jnp.sum(weight, axis=1)


class PoissonSources(AbstractTaskFamily):
    r"""Poisson's equation in the unit square with random sources of four sine modes.

    The solutions are $\sum_{i,j \le 2} c_{ij} \sin(i \pi x) \sin(j \pi y)$ with $c_{ij} \sim U[-s, s]$ around 1.

    **Arguments:**

    - `spread`: $s$.
    - `hidden`: hidden units per layer.
    - `interior`: how many points the equation is evaluated at.

    **Raises:**

    - `ValueError`: if a number is out of range.
    """

    spread: float = eqx.field(static=True, default=0.5)
    hidden: tuple[int, ...] = eqx.field(static=True, converter=tuple, default=(32, 32))
    interior: int = eqx.field(static=True, default=256)

    def __check_init__(self) -> None:
        check_at_least("spread", self.spread, 0)
        check_at_least("interior", self.interior, 1)
        check_sizes("hidden", self.hidden)

    def sample(self, *, key: PRNGKeyArray) -> PINN:
        return self.at(1 + self.spread * jr.uniform(key, (4,), minval=-1.0))

    def at(self, amplitudes: Float[Array, " 4"]) -> PINN:
        """The task with these amplitudes."""
        field = HardBoundary(Perceptron((2, *self.hidden, 1)), Function(_bubble))
        equation = Poisson(Function(_poisson_source, amplitudes))
        reference = Function(_series, amplitudes)
        return PINN(equation, (), field=field, interior=self.interior, reference=reference, tests=400)

    def features(self, task: PINN) -> Float[Array, " k"]:
        """What distinguishes a task of the family."""
        return task.reference.parameters[0]


class HelmholtzWaveNumbers(AbstractTaskFamily):
    r"""Helmholtz's equation in the unit square with random wave numbers $k \sim U[\text{low}, \text{high}]$.

    **Arguments:**

    - `low`, `high`: below the first resonance, 4.44.
    - `hidden`: hidden units per layer.
    - `interior`: how many points the equation is evaluated at.

    **Raises:**

    - `ValueError`: if a number is out of range.
    """

    low: float = eqx.field(static=True, default=0.5)
    high: float = eqx.field(static=True, default=3.5)
    hidden: tuple[int, ...] = eqx.field(static=True, converter=tuple, default=(32, 32))
    interior: int = eqx.field(static=True, default=256)

    def __check_init__(self) -> None:
        check_range(self.low, self.high)
        if self.high >= 4.4:
            raise ValueError(f"`high` must be below the first resonance at 4.44, but {self.high} was given.")
        check_at_least("interior", self.interior, 1)
        check_sizes("hidden", self.hidden)

    def sample(self, *, key: PRNGKeyArray) -> PINN:
        return self.at(jr.uniform(key, minval=self.low, maxval=self.high))

    def at(self, wave_number: Float[Array, ""]) -> PINN:
        """The task with this wave number."""
        field = HardBoundary(Perceptron((2, *self.hidden, 1)), Function(_bubble))
        equation = Helmholtz(wave_number, Function(_helmholtz_source))
        reference = Function(_helmholtz_solution, wave_number)
        return PINN(equation, (), field=field, interior=self.interior, reference=reference, tests=400)

    def features(self, task: PINN) -> Float[Array, " k"]:
        """What distinguishes a task of the family."""
        return task.reference.parameters[0].reshape(1)


def _start(x: Float[Array, "n 2"]) -> Float[Array, " n"]:
    return -jnp.sin(jnp.pi * x[:, 0])


def _burgers_distance(x: Float[Array, "n 2"]) -> Float[Array, " n"]:
    return x[:, 1] * (1 - x[:, 0] ** 2)


class BurgersViscosities(AbstractTaskFamily):
    r"""Burgers' equation on $[-1, 1]$ from $-\sin(\pi x)$, with random viscosities.

    **Arguments:**

    - `low`, `high`: the range of viscosities, on a logarithmic scale.
    - `hidden`: hidden units per layer.
    - `interior`: how many points the equation is evaluated at.

    **Raises:**

    - `ValueError`: if a number is out of range.
    """

    low: float = eqx.field(static=True, default=0.05)
    high: float = eqx.field(static=True, default=0.3)
    hidden: tuple[int, ...] = eqx.field(static=True, converter=tuple, default=(32, 32))
    interior: int = eqx.field(static=True, default=256)

    def __check_init__(self) -> None:
        check_range(self.low, self.high)
        check_at_least("interior", self.interior, 1)
        check_sizes("hidden", self.hidden)

    def sample(self, *, key: PRNGKeyArray) -> PINN:
        return self.at(jnp.exp(jr.uniform(key, minval=math.log(self.low), maxval=math.log(self.high))))

    def at(self, viscosity: Float[Array, ""]) -> PINN:
        """The task with this viscosity."""
        field = HardBoundary(Perceptron((2, *self.hidden, 1)), Function(_burgers_distance), Function(_start))
        domain = SpaceTime(interval(-1.0, 1.0))
        reference = Function(_burgers_solution, viscosity)
        return PINN(Burgers(viscosity), (), domain, field=field, interior=self.interior, reference=reference, tests=400)

    def features(self, task: PINN) -> Float[Array, " k"]:
        """What distinguishes a task of the family."""
        return jnp.log(task.reference.parameters[0]).reshape(1)
