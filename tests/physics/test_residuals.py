"""Manufactured solutions: at the exact solution every loss is zero to rounding."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from metaopt import physics
from tests._cases import fast

from .waves import Known, Waves


pytestmark = pytest.mark.usefixtures("x64")

_NUMBER = st.floats(0.3, 2.0).map(lambda x: round(x, 3))


def _waves(seed: int, outputs: int, dimension: int) -> Waves:
    rng = np.random.default_rng(seed)
    draw = [rng.uniform(0.3, 2.0, s) for s in ((outputs,), (outputs, dimension), (outputs,))]
    return Waves(*map(jnp.asarray, draw))


def _ell(u: Waves, x: Any) -> Any:
    return u.laplacian(x, range(x.shape[1]))


def _diffusion(u: Waves, x: Any) -> Any:
    return u.laplacian(x, range(x.shape[1] - 1))


def _time(u: Waves, x: Any) -> Any:
    return u.first(x, x.shape[1] - 1)


def _darcy(u: Waves, a: float) -> Callable[[Any], Any]:
    # The permeability is 2 + a x_0^2.
    return lambda x: -((2 + a * x[:, :1] ** 2) * _ell(u, x) + 2 * a * x[:, :1] * u.first(x, 0))


def _burgers(u: Waves, a: float) -> Callable[[Any], Any]:
    def source(x: Any) -> Any:
        value = u(x)
        carried = sum(value[:, i : i + 1] * u.first(x, i) for i in range(x.shape[1] - 1))
        return _time(u, x) + carried - a * _diffusion(u, x)

    return source


def _advection(u: Waves, a: float) -> Callable[[Any], Any]:
    def source(x: Any) -> Any:
        carried = sum((i + a) * u.first(x, i) for i in range(x.shape[1] - 1))
        return _time(u, x) + carried - a * _diffusion(u, x)

    return source


def _flow(u: Waves, a: float) -> Callable[[Any], Any]:
    def source(x: Any) -> Any:
        value, dx, dy, lap = u(x), u.first(x, 0), u.first(x, 1), u.laplacian(x, range(2))
        out = []
        for c, slope in ((0, dx), (1, dy)):
            change = _time(u, x)[:, c] if x.shape[1] == 3 else 0.0
            carried = value[:, 0] * dx[:, c] + value[:, 1] * dy[:, c]
            out.append(change + carried + slope[:, 2] - a * lap[:, c])
        return jnp.stack([*out, dx[:, 0] + dy[:, 1]], axis=1)

    return source


def _schrodinger(u: Waves, a: float) -> Callable[[Any], Any]:
    def source(x: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            psi, change, lap = (v[:, 0] + 1j * v[:, 1] for v in (u(x), _time(u, x), _diffusion(u, x)))
            f = 1j * change + 0.5 * lap - x[:, 0] ** 2 * psi + a * jnp.abs(psi) ** 2 * psi
        return jnp.stack([f.real, f.imag], axis=1)

    return source


# The equation with a coefficient and a source, and the source that makes a wave its solution.
STEADY: dict[str, tuple[int, Any, Any]] = {
    "poisson": (1, lambda a, f: physics.Poisson(f), lambda u, a: lambda x: -_ell(u, x)),
    "helmholtz": (1, physics.Helmholtz, lambda u, a: lambda x: _ell(u, x) + a**2 * u(x)),
    "darcy": (1, lambda a, f: physics.Darcy(lambda x: 2 + a * x[:, 0] ** 2, f), _darcy),
}
TRANSIENT: dict[str, tuple[int, Any, Any]] = {
    "heat": (1, physics.Heat, lambda u, a: lambda x: _time(u, x) - a * _diffusion(u, x)),
    "wave": (
        1,
        physics.Wave,
        lambda u, a: lambda x: u.second(x, x.shape[1] - 1, x.shape[1] - 1) - a**2 * _diffusion(u, x),
    ),
    "allen_cahn": (
        1,
        lambda a, f: physics.AllenCahn(a, 5.0, f),
        lambda u, a: lambda x: _time(u, x) - a * _diffusion(u, x) + 5 * (u(x) ** 3 - u(x)),
    ),
    "schrodinger": (2, lambda a, f: physics.Schrodinger(lambda x: x[:, 0] ** 2, a, f), _schrodinger),
}
# Each with the numbers of axes, time included, and of unknown functions.
CASES = {
    **{f"{name}-{d}": (d, m, *rest) for name, (m, *rest) in STEADY.items() for d in (1, 3)},
    **{f"{name}-{d}": (d, m, *rest) for name, (m, *rest) in TRANSIENT.items() for d in (2, 4)},
    **{f"burgers-{d}": (d, d - 1, physics.Burgers, _burgers) for d in (2, 3)},
    **{
        f"advection-{d}": (
            d,
            1,
            lambda a, f, d=d: physics.AdvectionDiffusion(jnp.stack([i + a for i in range(d - 1)]), a, f),
            _advection,
        )
        for d in (2, 3)
    },
    **{f"navier_stokes-{d}": (d, 3, physics.NavierStokes, _flow) for d in (2, 3)},
}


def _domain(d: int, transient: bool) -> physics.AbstractDomain:
    if not transient:
        return physics.Box((0.0,) * d, (1.0,) * d)
    return physics.SpaceTime(physics.Box((0.0,) * (d - 1), (1.0,) * (d - 1)), 0.0, 0.5)


# In the lowest dimension, and some in a higher one.
_SOME = [name for name in CASES if name[-1] in "12" or name in ("poisson-3", "heat-4", "burgers-3")]


@pytest.mark.parametrize("name", fast(list(CASES), *_SOME))
def test_every_equation_vanishes_at_its_manufactured_solution(name: str) -> None:
    d, outputs, make, source = CASES[name]
    transient = name.split("-")[0] not in STEADY and not name.startswith("navier_stokes-2")
    x = _domain(d, transient).sample(20, key=jr.key(1), sampler=physics.Uniform())

    @jax.jit
    def residual(u: Waves, a: Any) -> Any:
        equation = make(a, physics.Function(lambda x, u, a: source(u, a)(x), u, a))
        jet = physics.Jet.seed(x, equation.rows(d)).through(u)
        return equation.residual(jet, x), equation.residual(physics.Jet(1.1 * jet.stack, jet.axes, jet.rows), x)

    @settings(max_examples=5)
    @given(st.integers(0, 2**31), _NUMBER)
    def check(seed: int, a: float) -> None:
        zero, other = residual(_waves(seed, outputs, d), a)
        assert np.abs(zero).max() < 1e-12
        assert np.abs(other).max() > 1e-4

    check()


def test_laplace_and_the_stationary_equation() -> None:
    x = jr.uniform(jr.key(0), (20, 2))
    rows = physics.Laplace().rows(2)
    harmonic = physics.Jet.seed(x, rows).through(lambda x: (jnp.exp(x[:, 0]) * jnp.sin(x[:, 1]))[:, None])
    assert np.abs(physics.Laplace().residual(harmonic, x)).max() < 1e-12
    # The ground state of the harmonic oscillator.
    ground = physics.Jet.seed(x, rows).through(lambda x: jnp.exp(-jnp.sum(x**2, axis=1) / 2)[:, None])
    equation = physics.Eigenproblem(lambda x: jnp.sum(x**2, axis=1) / 2, 1.0)
    assert np.abs(equation.residual(ground, x)).max() < 1e-12
    assert np.abs(physics.Eigenproblem(equation.potential, 1.1).residual(ground, x)).max() > 1e-3


def test_your_own_equation() -> None:
    u = _waves(3, 1, 2)
    mine = physics.Equation(
        lambda u, x, speed: u.mixed(1, 0) + speed * u.along(1) + u.value, 1, ((0, 1),), {"speed": 0.7}
    )
    x = jr.uniform(jr.key(0), (20, 2))
    wanted = u.second(x, 0, 1) + 0.7 * u.first(x, 1) + u(x)
    assert np.allclose(mine.residual(physics.Jet.seed(x, mine.rows(2)).through(u), x), wanted, atol=1e-13)
    with pytest.raises(ValueError, match=r"\(1, 1\) was not asked for"):
        physics.Equation(lambda u, x: u.mixed(1, 1)).residual(physics.Jet.seed(x).through(u), x)


def _robin(u: Waves, alpha: float, beta: float) -> Callable[[Any], Any]:
    # On the unit square; the outward normal of a point is known from where it is.
    def value(x: Any) -> Any:
        slope = jnp.zeros_like(u(x))
        for axis in range(2):
            sign = jnp.where(x[:, axis] > 1 - 1e-9, 1.0, jnp.where(x[:, axis] < 1e-9, -1.0, 0.0))
            slope = slope + sign[:, None] * u.first(x, axis)
        return alpha * u(x) + beta * slope

    return value


TERMS: dict[str, Callable[[Waves], physics.AbstractTerm]] = {
    "dirichlet": lambda u: physics.Dirichlet(u),
    "dirichlet_left": lambda u: physics.Dirichlet(u, where=lambda x: x[:, 0] < 1e-9),
    "neumann": lambda u: physics.Neumann(_robin(u, 0.0, 1.0)),
    "robin": lambda u: physics.Robin(_robin(u, 0.7, 1.3), 0.7, 1.3),
    "data": lambda u: physics.Data(jnp.full((3, 2), 0.3), u(jnp.full((3, 2), 0.3))),
}


@pytest.mark.parametrize("name", fast(list(TERMS), "dirichlet", "neumann", "data"))
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_every_condition_vanishes_at_the_solution(name: str, seed: int) -> None:
    u, wrong = _waves(seed, 1, 2), _waves(seed + 10, 1, 2)

    @eqx.filter_jit
    def loss(field: Waves) -> Any:
        task = physics.PINN(
            physics.Poisson(lambda x: -_ell(u, x)), [TERMS[name](u)], field=Known(field), interior=30, boundary=40
        )
        return task.objective(key=jr.key(0)).losses(task.init(key=jr.key(0)))

    assert np.asarray(loss(u)).max() < 1e-24
    assert np.asarray(loss(wrong)).min() > 1e-5


def test_initial_values_and_rates() -> None:
    u = _waves(4, 1, 2)
    domain = physics.SpaceTime(physics.interval(), 0.25, 1.0)
    terms = [physics.Initial(u, lambda x: u.first(x, 1)), physics.Dirichlet(u)]
    source = TRANSIENT["wave"][2](u, 1.3)
    task = physics.PINN(physics.Wave(1.3, source), terms, domain, field=Known(u), interior=30, boundary=30)
    params = task.init(key=jr.key(0))
    assert float(jax.jit(lambda params: task.loss(params, key=jr.key(0)))(params)) < 1e-22
    assert np.all(np.asarray(task.points[1].x)[:, 1] == 0.25)
    walls = np.asarray(task.points[2].x)
    assert np.all((walls[:, 0] == 0) | (walls[:, 0] == 1)) and np.ptp(walls[:, 1]) > 0.5


@pytest.mark.slow
def test_periodic_conditions() -> None:
    def loss(k: float) -> Any:
        u = Waves(jnp.ones(1), jnp.asarray([[k, 0.5]]), jnp.asarray([0.3]))
        task = physics.PINN(physics.Poisson(0.0), [physics.PeriodicTerm(0)], field=Known(u), interior=10, boundary=30)
        return task.objective(key=jr.key(0)).losses(task.init(key=jr.key(0)))[1]

    assert float(loss(4 * np.pi)) < 1e-24
    assert float(loss(3.0)) > 1e-3


@pytest.mark.slow
def test_normalization() -> None:
    u = Waves(jnp.asarray([np.sqrt(2.0)]), jnp.asarray([[np.pi]]), jnp.zeros(1))
    task = physics.PINN(
        physics.Eigenproblem(),
        [physics.Normalization()],
        physics.interval(),
        field=Known(u),
        interior=10,
        boundary=4000,
    )
    assert float(task.objective(key=jr.key(0)).losses(task.init(key=jr.key(0)))[1]) < 1e-5
