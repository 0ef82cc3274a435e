"""The solver of fronts, on fronts that are known."""

import functools as ft
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import metaopt
from metaopt.multiobjective import (
    FRONT_RESULTS,
    MGDA,
    Gradients,
    Problem,
    hypervolume,
    make_problem,
    pareto_front,
)
from metaopt.multiobjective.fronts._population import _uphill


SMALL: dict[str, Any] = {"num_solutions": 12, "steps": 100, "rounds": 4, "round_steps": 15}
UNIT = (jnp.zeros(3), jnp.ones(3))
LINE = (jnp.full(1, -5.0), jnp.full(1, 5.0))


@eqx.filter_jit
def _solve(objectives: Any, constraints: Any = (), **options: Any) -> Any:
    return pareto_front(objectives, constraints, **(SMALL | options))


def _schaffer(x: jax.Array) -> jax.Array:
    """Its front is the line from 0 to 2."""
    return jnp.stack([jnp.sum(x**2), jnp.sum((x - 2) ** 2)])


def _between(x: jax.Array) -> jax.Array:
    return jnp.stack([0.5 - x[0], x[0] - 1.5])


def test_the_front_of_a_convex_problem_is_covered() -> None:
    front = _solve(_schaffer, bounds=LINE)
    assert front.result == FRONT_RESULTS.found
    assert bool(jnp.all(front.nondominated & front.feasible))
    x = np.sort(np.asarray(front.solutions)[:, 0])
    assert x[0] >= -1e-3 and x[-1] <= 2 + 1e-3
    # Below the reference point, at 1.1 of the extent, all gaps count alike.
    assert np.diff(x).max() < 0.3 and x[0] < 0.25 and x[-1] > 1.75
    np.testing.assert_allclose(front.values[:, 0], front.solutions[:, 0] ** 2, rtol=1e-5)


@pytest.mark.slow
def test_the_front_of_a_concave_problem_is_covered() -> None:
    problem = Problem(lambda x: jnp.stack([x[0], (1 + jnp.sum(x[1:])) - x[0] ** 2 / (1 + jnp.sum(x[1:]))]), *UNIT)
    front = _solve(problem)
    volume = float(hypervolume(front.values, 1.1))
    # With infinitely many points it is 1.21 - 2/3.
    assert 0.47 < volume < 0.5434
    assert float(jnp.max(front.solutions[:, 1:])) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("zdt3", 1.32), ("zdt4", 0.865), ("dtlz2", 0.745), ("dtlz7", 0.56)])
def test_standard_problems(name: str, least: float) -> None:
    problem = make_problem(name)
    assert problem.ideal is not None and problem.nadir is not None
    count = 100 if problem.ideal.shape[0] == 2 else 91
    front = eqx.filter_jit(lambda key: pareto_front(problem, num_solutions=count, key=key))(jr.key(5))
    normal = (front.values - problem.ideal[None]) / (problem.nadir - problem.ideal)[None]
    assert float(hypervolume(normal, 1.1)) > least


@pytest.mark.slow
def test_constraints_are_met() -> None:
    ends = []
    for seed in range(11):
        front = _solve(_schaffer, _between, bounds=LINE, num_solutions=24, key=jr.key(seed))
        assert bool(jnp.all(front.feasible)) and float(jnp.max(front.violations)) == 0
        x = np.asarray(front.solutions)[:, 0]
        assert x.min() >= 0.5 and x.max() <= 1.5
        ends.append((x.min() - 0.5, 1.5 - x.max()))
    assert np.median(ends, axis=0).max() < 0.05


def test_every_point_has_a_direction_uphill() -> None:
    # The front, the layer behind it, the one behind that, and two points beyond the reference.
    points = jnp.asarray([[0.1, 0.6], [0.5, 0.2], [0.2, 0.7], [0.6, 0.3], [0.7, 0.8], [1.2, 0.0], [1.1, 1.3]])
    points = jnp.concatenate([points, jnp.full((1, 2), jnp.inf)])
    volume, slope, uphill = jax.jit(_uphill)(points, jnp.ones(2))
    np.testing.assert_allclose(volume, 0.9 * 0.4 + 0.5 * 0.4, rtol=1e-6)
    # The lengths of the sides at which a point touches what its layer does not dominate.
    front = [[-0.4, -0.4], [-0.4, -0.5]]
    behind = [[-0.3, -0.4], [-0.4, -0.4], [-0.2, -0.3]]
    np.testing.assert_allclose(slope, [*front, *([[0, 0]] * 6)], atol=1e-6)
    np.testing.assert_allclose(uphill, [*front, *behind, [-1, 0], [-1, -1], [0, 0]], atol=1e-6)


@pytest.mark.slow
def test_equalities_are_met() -> None:
    equalities = [lambda x: x[0] - x[1], lambda x: x[1] - x[2]]
    front = _solve(_schaffer, equalities=equalities, bounds=(UNIT[0] - 3, UNIT[1] + 3), steps=300)
    assert bool(jnp.all(front.feasible))
    assert float(jnp.max(jnp.abs(front.solutions - front.solutions[:, :1]))) < 3e-4
    assert float(jnp.max(front.violations)) <= 1.01e-4
    assert float(jnp.min(front.solutions)) < 0.3 and float(jnp.max(front.solutions)) > 1.7


@pytest.mark.slow
def test_parameters_may_be_trees_and_have_a_start_and_a_bijector() -> None:
    def start(key: Any) -> Any:
        return {"a": jr.normal(key), "fixed": jnp.arange(2)}

    objectives = [lambda p: p["a"], lambda p: 1 / p["a"]]
    front = _solve(objectives, start=start, bijector=lambda p: p | {"a": jnp.exp(p["a"])}, ideal=0.0, nadir=10.0)
    a = np.asarray(front.solutions["a"])
    assert a.shape == (12,) and a.min() > 0 and a.max() / a.min() > 20
    np.testing.assert_allclose(front.values[:, 0] * front.values[:, 1], 1, rtol=1e-5)


@pytest.mark.slow
def test_objectives_may_draw_minibatches() -> None:
    data = jr.normal(jr.key(0), (64,))

    def noisy(x: jax.Array, key: Any) -> jax.Array:
        batch = jr.choice(key, data, (8,))
        shift = 0.1 * jnp.mean(batch)
        return _schaffer(x + shift)

    front = _solve(noisy, bounds=LINE, stochastic=True)
    x = np.asarray(front.solutions)
    assert x.min() > -0.3 and x.max() < 2.3 and x.max() - x.min() > 1.2


@pytest.mark.slow
def test_objectives_may_lack_derivatives() -> None:
    def steps(x: jax.Array) -> jax.Array:
        return _schaffer(jnp.round(20 * x) / 20)

    bounds = jnp.full(3, -3.0), jnp.full(3, 3.0)
    front = _solve(steps, bounds=bounds, perturbation=0.02)
    exact = _solve(_schaffer, bounds=bounds)
    reference = (13.0, 13.0)
    assert float(hypervolume(front.values, reference)) > 0.95 * float(hypervolume(exact.values, reference))


@pytest.mark.slow
def test_repulsion_spreads_points() -> None:
    bounds = LINE
    plain, repelled = (_solve(_schaffer, bounds=bounds, repulsion=r) for r in (0.0, 1e-3))
    gaps = [np.diff(np.sort(np.asarray(f.solutions)[:, 0])) for f in (plain, repelled)]
    assert gaps[1].min() > 0.02 and np.isfinite(gaps[0]).all()


@pytest.mark.parametrize(
    ("objectives", "constraints", "result"),
    [
        pytest.param(_schaffer, lambda x: 1 + x[0] ** 2, "infeasible", marks=pytest.mark.slow),
        pytest.param(lambda x: jnp.stack([jnp.log(-1 - x[0] ** 2), x[0]]), (), "nonfinite", marks=pytest.mark.slow),
    ],
)
def test_failures_are_reported(objectives: Any, constraints: Any, result: str) -> None:
    front = _solve(objectives, constraints, bounds=LINE)
    assert front.result == getattr(FRONT_RESULTS, result)
    assert not bool(jnp.any(front.nondominated))


@pytest.mark.slow
def test_a_dominated_reference_point_is_reported() -> None:
    options = {"bounds": LINE, "ideal": 0.0, "nadir": 4.0, "reference": -0.5}
    assert _solve(_schaffer, **options).result == FRONT_RESULTS.reference
    with pytest.raises(eqx.EquinoxRuntimeError, match="below the reference point"):
        jax.block_until_ready(_solve(_schaffer, throw=True, **options).values)


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ((lambda x: jnp.sum(x),), {}, "at least two objectives, but 1 was given"),
        (
            ([_schaffer, lambda x: (x[0], x[1])],),
            {},
            "must return a floating-point number .* but a `tuple`",
        ),
        ((lambda x: x[:, None],), {}, r"but an array of shape \(3, 1\)"),
        ((_schaffer,), {"equalities": lambda x: jnp.zeros(4)}, "4 equalities, but only 3 variables"),
        ((_schaffer,), {"bounds": None}, "Members start within `bounds`, or where `start` draws them"),
        ((_schaffer,), {"weights": jnp.ones((3, 2))}, r"`weights` must have shape \(100, 2\)"),
        ((_schaffer,), {"reference": (1.0, 1.0, 1.0)}, "The reference point must be a number or have 2 entries"),
        ((_schaffer,), {"steps": 0}, "`steps` must be at least 1"),
        ((_schaffer,), {"start": lambda key: jnp.zeros(2)}, "`bounds` must be two trees like the parameters"),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, options: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        jax.eval_shape(ft.partial(lambda: pareto_front(*arguments, **({"bounds": UNIT} | options)).values))


def test_a_problem_is_a_task_for_combiners() -> None:
    problem = make_problem("zdt1")
    value, signal = problem.evaluate(jnp.full(30, 0.5), key=jr.key(0))
    assert isinstance(signal, Gradients) and signal.gradients.shape == (2, 30)
    np.testing.assert_allclose(value, jnp.mean(problem.objectives(jnp.full(30, 0.5))))
    combiner = MGDA(metaopt.build({"name": "sgd", "learning_rate": 0.01}, metaopt.AbstractAlgorithm))
    trajectory = metaopt.unroll(metaopt.Learner(combiner), problem, steps=5, key=jr.key(1))
    assert float(trajectory.values[-1]) < float(trajectory.values[0])


def test_unknown_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="There is no problem 'zdt5', only zdt1"):
        make_problem("zdt5")
