"""Problems as tasks: signals, solvers, balancing, families, and what goes wrong."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import metaopt
from metaopt import physics
from metaopt.registry import DEFAULT


def _line(**options: Any) -> physics.PINN:
    def exact(x: Any) -> Any:
        return jnp.sin(jnp.pi * x[:, 0])

    settings: dict[str, Any] = {
        "field": physics.Perceptron((1, 8, 1)),
        "interior": 30,
        "boundary": 4,
        "tests": 50,
        "reference": exact,
    }
    equation = physics.Poisson(lambda x: jnp.pi**2 * exact(x))
    return physics.PINN(equation, [physics.Dirichlet()], physics.interval(), **(settings | options))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_what_an_objective_offers() -> None:
    task = _line()
    params = task.init(key=jr.key(0))
    signal = task.objective(key=jr.key(0))

    @jax.jit
    def offered(params: Any) -> Any:
        full = jax.jacrev(signal.vector)(params)
        flat = jnp.concatenate([x.reshape(x.shape[0], -1) for x in jtu.tree_leaves(full)], axis=1)
        return signal.system(params), flat, signal.gradient(params), signal.stacked(params)

    (r, jacobian), wanted, (loss, gradient), (losses, stacked) = offered(params)
    assert np.allclose(jacobian, wanted, atol=1e-10) and np.isclose(jnp.sum(r**2), loss)
    assert np.isclose(jnp.sum(losses), loss)
    for whole, parts in zip(jtu.tree_leaves(gradient), jtu.tree_leaves(stacked), strict=True):
        assert np.allclose(whole, jnp.sum(parts, axis=0))
    value, signal_of_terms = physics.PerTerm(task).evaluate(params, key=jr.key(0))
    assert np.isclose(value, loss) and eqx.tree_equal(signal_of_terms, stacked, rtol=1e-6, atol=1e-9)


SOLVERS: dict[str, Any] = {
    "gauss_newton": "gauss_newton",
    "matrix_free": {"name": "gauss_newton", "method": "matrix_free"},
    "lbfgs": "lbfgs",
    "staged": {"name": "staged", "first": {"name": "first_order", "inner": "adam"}, "second": "lbfgs", "switch": 5},
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", [pytest.param(x, marks=[pytest.mark.slow] * (x != "gauss_newton")) for x in SOLVERS])
def test_solvers_solve(name: str) -> None:
    task = _line()
    solver = metaopt.build(SOLVERS[name], physics.AbstractSolver)
    solution = metaopt.minimize(physics.AsObjective(task), solver, steps=60, key=jr.key(1))
    assert float(jax.jit(lambda params: task.measure(params, key=jr.key(0)))(solution.params)) < 1e-3
    assert jtu.tree_structure(solution.params) == jtu.tree_structure(task.init(key=jr.key(0)))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_wide_system_gives_the_same_step() -> None:
    # With fewer residuals than parameters the smaller system is solved instead.
    task = _line(interior=6, boundary=2)
    params = task.init(key=jr.key(0))
    signal = task.objective(key=jr.key(0))
    solver = physics.GaussNewton(damping=1e-3)
    _, new = eqx.filter_jit(solver.step)(solver.init(params), params, signal)
    r, jacobian = map(np.asarray, signal.system(params))
    assert jacobian.shape[0] < jacobian.shape[1]
    shift = 1e-3 * np.trace(jacobian @ jacobian.T) / len(r)
    direction = np.linalg.solve(jacobian.T @ jacobian + shift * np.eye(jacobian.shape[1]), jacobian.T @ r)
    flat = [np.concatenate([np.ravel(x) for x in jtu.tree_leaves(p)]) for p in (params, new)]
    step = flat[0] - flat[1]
    length = step @ direction / (direction @ direction)
    assert length > 0 and np.allclose(step, length * direction, atol=1e-9)
    assert np.isclose(np.log2(length), np.round(np.log2(length)), atol=1e-6)
    unravel = ravel_pytree(params)[1]
    losses = [float(signal.loss(unravel(jnp.asarray(flat[0] - f * length * direction)))) for f in (2, 1, 0.5)]
    # The longest step of all has no longer one beside it.
    assert losses[1] < losses[2] and (losses[1] < losses[0] or length > 0.99)


BALANCING = {
    "grad_norm": {},
    "ntk": {"samples": 8},
    "relobralo": {},
    "soft_adapt": {},
    "self_adaptive": {"counts": (30, 4)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BALANCING)
def test_balancing_weighs_and_descends(name: str) -> None:
    task = _line()
    rule = metaopt.build({"name": name, **BALANCING[name]}, physics.AbstractBalancing)
    inner = physics.FirstOrder(metaopt.build({"name": "adam", "learning_rate": 3e-3}, metaopt.AbstractAlgorithm))
    start = task.init(key=jr.key(0))
    loss = jax.jit(lambda params: task.loss(params, key=jr.key(0)))
    before = float(loss(start))
    solution = metaopt.minimize(physics.AsObjective(task), physics.Balanced(inner, rule), start, steps=100)
    assert float(loss(solution.params)) < before
    weights = eqx.filter_jit(lambda start: rule.weights(rule.init(key=jr.key(0)), task.objective(key=jr.key(0)), start))
    _, factors = weights(start)
    assert len(factors) == 2 and all(np.all(np.asarray(f) > 0) for f in factors)


@pytest.mark.slow
def test_known_weights() -> None:
    task = _line()
    params = task.init(key=jr.key(0))
    signal = task.objective(key=jr.key(0))
    _, stacked = signal.stacked(params, weighted=False)
    norms = np.sqrt(sum(np.sum(np.asarray(x).reshape(2, -1) ** 2, axis=1) for x in jtu.tree_leaves(stacked)))
    _, factors = physics.GradNorm(decay=0.0).weights(physics.GradNorm().init(), signal, params)
    assert np.allclose(factors, norms.sum() / norms, rtol=1e-4)
    losses = np.asarray(signal.losses(params))
    rule = physics.SoftAdapt(beta=1.0)
    state, first = rule.weights(rule.init(), signal, params)
    assert np.allclose(first, 1) and np.allclose(state.weights, losses)


@pytest.mark.slow
def test_causality() -> None:
    domain = physics.SpaceTime(physics.interval())
    task = physics.PINN(
        physics.Heat(source=1.0),
        [physics.Initial()],
        domain,
        field=physics.Perceptron((2, 4, 1)),
        interior=64,
        boundary=8,
    )
    params = jtu.tree_map(jnp.zeros_like, task.init(key=jr.key(0)))
    rule = physics.Causal(tolerance=2.0, chunks=4)
    _, (weights, one) = rule.weights(rule.init(), task.objective(key=jr.key(0)), params)
    chunk = np.floor(np.asarray(task.points[0].x)[:, 1] * 4)
    # The field is zero, so that the residual is -1 everywhere.
    assert np.allclose(weights, np.exp(-2.0 * chunk), rtol=1e-5) and one == 1


@pytest.mark.slow
def test_points_move_to_where_the_residual_is_large() -> None:
    def peak(x: Any) -> Any:
        return jnp.where(x[:, 0] > 0.8, 100.0, 0.0)

    task = _line(reference=None)
    task = physics.PINN(physics.Poisson(peak), [physics.Dirichlet()], physics.interval(), field=task.field, interior=40)
    params = jtu.tree_map(jnp.zeros_like, task.init(key=jr.key(0)))
    moved = physics.RAD(offset=0.0).resample(task, params, key=jr.key(0))
    assert moved.points[0].x.shape == (40, 1) and float(moved.points[0].x.min()) > 0.8
    grown = physics.RARD(added=5).resample(task, params, key=jr.key(0))
    assert grown.points[0].x.shape == (45, 1) and float(grown.points[0].x[40:].min()) > 0.8


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_an_unknown_coefficient_is_found() -> None:
    x = jnp.linspace(0.0, 2.0, 15)[:, None]
    task = physics.PINN(
        physics.Helmholtz(1.0),
        [physics.Data(x, jnp.sin(1.7 * x[:, 0]))],
        physics.interval(0.0, 2.0),
        field=physics.Perceptron((1, 10, 1)),
        unknown=["wave_number"],
        interior=40,
    )
    solution = metaopt.minimize(physics.AsObjective(task), physics.GaussNewton(), steps=80)
    assert solution.params["coefficients"]["wave_number"] == pytest.approx(1.7, abs=1e-3)


def test_new_points_in_each_step() -> None:
    task = _line(resampled=True)
    params = task.init(key=jr.key(0))
    losses = [float(task.loss(params, key=jr.key(i))) for i in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


_FAMILIES = [
    "poisson_sources",
    *(pytest.param(x, marks=pytest.mark.slow) for x in ("helmholtz_wave_numbers", "burgers_viscosities")),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", _FAMILIES)
def test_the_references_of_families_solve_their_equations(name: str) -> None:
    family: Any = metaopt.build({"name": name, "hidden": [4], "interior": 32}, metaopt.AbstractTaskFamily)

    @eqx.filter_jit
    def residual(key: Any) -> Any:
        task = family.sample(key=key)
        x = task.points[0].x * 0.9 + 0.05
        equation = task.terms[0].equation
        rows = equation.rows(2)
        jet = physics.Jet.seed(x, rows).through(lambda x: task.reference(x)[:, None])
        return equation.residual(jet, x), jet.value, family.features(task)

    with jax.enable_x64(True):
        r, value, features = residual(jr.key(3))
        assert np.abs(r).max() < 1e-5 * max(1.0, float(np.abs(value).max())) and np.all(np.isfinite(features))
    tasks = eqx.filter_vmap(lambda key: family.sample(key=key))(jr.split(jr.key(0), 2))
    assert tasks.reference.parameters[0].shape[0] == 2


def _wrong_shape() -> Any:
    return physics.PINN(physics.Equation(lambda u, x: u.value[:3]), field=physics.Perceptron((2, 4, 1)))


def _wrong_source() -> Any:
    return physics.PINN(physics.Poisson(lambda x: x), field=physics.Perceptron((2, 4, 1)))


def _not_a_number() -> Any:
    return _line(field=physics.Perceptron((1, 4, 1)), interior=5).__class__(
        physics.Poisson(lambda x: jnp.log(x[:, 0] - 0.5)), [physics.Dirichlet()], physics.interval(), interior=50
    )


def _off_the_boundary() -> Any:
    return physics.PINN(
        conditions=[physics.Dirichlet(at=jnp.full((2, 2), 0.5), label="wall")], interior=10, boundary=10
    )


BAD = {
    "shape": (_wrong_shape, r"term `physics`: the equation returns shape \(3, 1\) for 1000 points"),
    "source": (_wrong_source, r"term `physics`: `source` of 1000 points has shape \(1000, 2\)"),
    "width": (
        lambda: physics.PINN(field=physics.Perceptron((2, 4, 2))),
        "term `physics`: the network has 2 outputs, but 1 is wanted",
    ),
    "inputs": (lambda: physics.PINN(field=physics.Perceptron((3, 4, 1))), "the network has 3 inputs, but 2 are wanted"),
    "nan": (_not_a_number, "term `physics`: its source or value is not finite at"),
    "interior": (lambda: physics.Box((0.0, 1.0), (1.0, 1.0)), "`Box` has no interior"),
    "flat": (lambda: physics.Polygon(((0, 0), (1, 1), (2, 2))), "`Polygon` has no interior"),
    "time": (
        lambda: physics.PINN(conditions=[physics.Initial()], interior=5, boundary=5),
        "term `initial`: the domain has no time",
    ),
    "unknown": (lambda: physics.PINN(unknown=["speed"]), "no coefficient of `Poisson`"),
    "weights": (lambda: physics.PINN(weights=[1.0]), "2 terms need as many weights"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(name: str) -> None:
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["boundary", "nothing"])
def test_what_is_wrong_with_points_is_said(name: str) -> None:
    hole = physics.Difference(physics.rectangle(), physics.rectangle((-1.0, -1.0), (2.0, 2.0)))
    makers: dict[str, tuple[Any, str]] = {
        "boundary": (_off_the_boundary, "term `wall`: points in `at` are not on the boundary"),
        "nothing": (lambda: physics.PINN(domain=hole, interior=5, boundary=5), "`Difference` has no"),
    }
    make, message = makers[name]
    with pytest.raises(RuntimeError, match=message):
        make()


def test_every_equation_has_a_name() -> None:
    names = set(DEFAULT.names("metaopt.physics.base:AbstractResidual"))
    assert {"poisson", "heat", "wave", "burgers", "allen_cahn", "navier_stokes", "schrodinger", "darcy"} <= names


@pytest.mark.slow
def test_a_picture(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    task = physics.PINN(domain=physics.l_shape(), field=physics.Perceptron((2, 4, 1)), interior=10, boundary=10)
    figure = physics.plot_solution(task, task.init(key=jr.key(0)), tmp_path / "map.png", resolution=21)
    assert len(figure.axes) == 4 and (tmp_path / "map.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="the domain has 1"):
        physics.plot_solution(_line(), None)
