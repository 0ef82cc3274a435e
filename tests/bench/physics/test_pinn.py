"""The benchmarks of physics-informed problems: references, and how steps are counted."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

from metaopt.bench.physics import _meta_pinn, _pinn_accuracy, _pinn_references as references
from metaopt.evaluate import BASELINES
from metaopt.fewshot import KernelRidge, NearestNeighbor
from metaopt.physics import Burgers, HelmholtzWaveNumbers


FAMILY = HelmholtzWaveNumbers(hidden=(6,), interior=30)
_H = 1e-3


def _shifted(reference, x, axis):
    """A reference at both sides of points."""
    step = _H * np.eye(2)[axis]
    return reference(x + step)[:, 0], reference(x - step)[:, 0]


def _second(reference, x, axis):
    after, before = _shifted(reference, x, axis)
    return (after - 2 * reference(x)[:, 0] + before) / _H**2


def _first(reference, x, axis):
    after, before = _shifted(reference, x, axis)
    return (after - before) / (2 * _H)


def _laplacian(reference, x):
    return _second(reference, x, 0) + _second(reference, x, 1)


RESIDUALS = {
    "poisson": lambda u, x: _laplacian(u, x) + 2 * np.pi**2 * u(x)[:, 0],
    "poisson_l": lambda u, x: _laplacian(u, x) + 1,
    "helmholtz": lambda u, x: (_laplacian(u, x) + 32 * np.pi**2 * u(x)[:, 0]) / (32 * np.pi**2),
    "heat": lambda u, x: _first(u, x, 1) - 0.4 * _second(u, x, 0),
    "wave": lambda u, x: (_second(u, x, 1) - 4 * _second(u, x, 0)) / (64 * np.pi**2),
    "burgers": lambda u, x: _first(u, x, 1) + u(x)[:, 0] * _first(u, x, 0) - 0.01 / np.pi * _second(u, x, 0),
}


@pytest.mark.parametrize("name", list(RESIDUALS))
def test_references_solve_their_equations(name):
    x = np.random.default_rng(0).uniform(0.1, 0.3, (40, 2))
    if name == "poisson_l":
        x[:20, 0] -= 0.6
    residual = RESIDUALS[name](getattr(references, name), x)
    # Differences are exact to h^2 times a fourth derivative.
    np.testing.assert_allclose(residual, 0, atol=2e-4)


def test_the_reference_of_the_l_shape_is_zero_on_the_boundary():
    # It solves the equation, too, so that by the maximum principle it is nowhere further from the solution.
    t = np.linspace(0, 1, 301)[:, None]
    corners = np.array([(-1, -1), (0, -1), (0, 0), (1, 0), (1, 1), (-1, 1)], float)
    edges = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    x = np.concatenate([a + t * (b - a) for a, b in edges])
    assert np.max(np.abs(references.poisson_l(x))) < 1e-9


@pytest.mark.slow
def test_the_reference_of_allen_cahn_agrees_with_finite_differences():
    from scipy import sparse
    from scipy.integrate import solve_ivp

    def differences(n):
        x = np.linspace(-1, 1, n + 1)
        inside = np.ones(n + 1)
        inside[[0, -1]] = 0
        stencil = sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(n + 1, n + 1))  # pyright: ignore[reportArgumentType]
        diffusion = sparse.csr_matrix(sparse.diags(inside * 0.001 * n**2 / 4) @ stencil)

        def rate(_, u):
            return diffusion @ u + 5 * inside * (u - u**3)

        def slope(_, u):
            return diffusion + sparse.diags(5 * inside * (1 - 3 * u**2))

        found = solve_ivp(rate, (0, 1), x**2 * np.cos(np.pi * x), "Radau", [1.0], rtol=1e-8, atol=1e-9, jac=slope)
        return x, found.y[:, -1]

    (x, coarse), (_, fine) = differences(800), differences(1600)
    wanted = (4 * fine[::2] - coarse) / 3
    found = references.allen_cahn(np.stack([x, np.ones_like(x)], axis=1))[:, 0]
    assert np.linalg.norm(found - wanted) < 1e-5 * np.linalg.norm(wanted)


def test_errors_are_relative_and_over_the_outputs_that_are_known():
    wanted = np.array([[3.0], [4.0]])
    found = np.array([[3.0, 9.0], [4.5, 9.0]])
    assert _pinn_accuracy.relative_error(found, wanted) == pytest.approx(0.1)


def test_all_seeds_and_all_stations_share_a_program():
    # Compiled functions take the arrays of a problem, so that nothing else may differ.
    def parts(seed, at):
        arrays, rest = eqx.partition(_pinn_accuracy.PROBLEMS["burgers"].make(seed, at), eqx.is_array)
        return jtu.tree_structure(arrays), [x.shape for x in jtu.tree_leaves(arrays)], rest

    assert parts(0, 1.0)[:2] == parts(1, 0.0)[:2]
    assert eqx.tree_equal(parts(0, 1.0)[2], parts(1, 0.0)[2])


def test_ways_end_at_the_problems():
    burgers, allen_cahn = (_pinn_accuracy.PROBLEMS[name].make for name in ("burgers", "allen_cahn"))
    for at, viscosity in ((0.0, 0.2 / np.pi), (1.0, 0.01 / np.pi)):
        equation = burgers(0, at)._equation()
        assert isinstance(equation, Burgers) and float(equation.viscosity) == pytest.approx(viscosity)
    for at in (0.2, 1.0):
        task = allen_cahn(0, at)
        assert (
            0.9 * at < float(jnp.max(task.points[0].x[:, 1])) < at == pytest.approx(float(task.domain.bounds()[1][1]))
        )


@pytest.mark.slow
def test_a_solver_reports_its_way_and_stops_after_the_budget():
    with jax.enable_x64(True):
        short = dataclasses.replace(_pinn_accuracy.PROBLEMS["heat"], adam=5)
        solver = _pinn_accuracy.Solver(short)
        curve = solver.run(0, 1.0)
    seconds, errors = zip(*curve, strict=True)
    assert list(seconds) == sorted(seconds) and seconds[-1] >= 1.0 > max((0.0, *seconds[:-1]))
    assert errors[-1] < 0.1


def _members():
    tasks = _meta_pinn.draw(FAMILY, jr.split(jr.key(0), 2))
    start = FAMILY.sample(key=jr.key(1)).init(key=jr.key(1))
    return tasks, jtu.tree_map(lambda x: jnp.stack([x, x]), start)


@pytest.mark.slow
def test_steps_are_counted_to_the_target(monkeypatch):
    # Jitted functions read the target when they are traced, and no other test counts with these shapes.
    monkeypatch.setattr(_meta_pinn, "_TARGET", 0.3)
    tasks, starts = _members()
    adam = BASELINES["adam"](jnp.asarray(0.03, jnp.float32))
    steps = _meta_pinn.steps_to_target(adam, tasks, starts, 400)
    for index, count in enumerate(steps.astype(int)):
        task, params = (jtu.tree_map(lambda x, i=index: x[i], tree) for tree in (tasks, starts))
        gradient = jax.jit(jax.grad(lambda p, task=task: task.loss(p, key=jr.key(0))))
        state, errors = adam.init(params), [_meta_pinn._error(task, params)]
        for _ in range(count):
            state, params = adam.step(state, params, gradient(params))
            errors.append(_meta_pinn._error(task, params))
        assert 1 < count < 400 and errors[-1] <= 0.3 < min(errors[:-1])
    # A rule that diverges takes the whole budget; what is solved already takes a step.
    wild = BASELINES["sgd"](jnp.asarray(1e9, jnp.float32))
    np.testing.assert_array_equal(_meta_pinn.steps_to_target(wild, tasks, starts, 7), [7, 7])
    solved = _meta_pinn.solve(tasks, jtu.tree_map(lambda x: x[0], starts))
    assert np.max(_meta_pinn.steps_to_target(adam, tasks, solved, 400)) <= np.min(steps)


@pytest.mark.slow
def test_memories_return_what_is_solved():
    _, starts = _members()
    params = jtu.tree_map(lambda x: jnp.concatenate([x, 2 * x]), starts)
    features = jnp.asarray([[1.0], [2.0], [3.0], [4.0]])
    nearest = _meta_pinn.memory(features, params, NearestNeighbor())
    found = nearest.predict(jnp.asarray([2.2])).params
    assert all(jnp.array_equal(a, b[1]) for a, b in zip(jtu.tree_leaves(found), jtu.tree_leaves(params), strict=True))
    smooth = _meta_pinn.memory(features, params, KernelRidge(1e-4)).predict(features[3]).params
    for a, b in zip(jtu.tree_leaves(smooth), jtu.tree_leaves(params), strict=True):
        np.testing.assert_allclose(a, b[3], atol=0.05)
