from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import optax
import pytest

import metaopt
from metaopt.fewshot import (
    GaussianProcess,
    KernelRidge,
    NearestNeighbor,
    WarmStart,
    keep_better,
    transfer,
)
from metaopt.tasks import Quadratics
from tests._cases import fast


PREDICTORS = {
    "nearest": NearestNeighbor(),
    "ridge": KernelRidge(),
    "matern": GaussianProcess(),
    "squared_exponential": GaussianProcess(kernel="squared_exponential"),
}


def _solution(z):
    return {"w": jnp.stack([jnp.sin(z[0]), z[0] * z[1], jnp.cos(z[1])]), "b": z[0]}


def _memory(predictor, points, **options):
    like = {"w": jnp.zeros(3), "b": jnp.zeros(())}
    memory = WarmStart(like, 2, capacity=len(points) + 3, predictor=predictor, **options)
    return _filled(memory, jnp.asarray(points))


@eqx.filter_jit
def _filled(memory, points):
    return jax.lax.scan(lambda m, z: (m.add(z, _solution(z)), None), memory, points)[0]


_predict = eqx.filter_jit(lambda memory, query: memory.predict(query))
_predict_all = eqx.filter_jit(lambda memory, queries: jax.vmap(memory.predict)(queries))
_start = eqx.filter_jit(lambda memory, query, cold: memory.start(query, cold))
_solutions = jax.jit(jax.vmap(_solution))


def _points(count, seed=0):
    return jr.uniform(jr.key(seed), (count, 2), minval=-1.0, maxval=1.0)


@pytest.mark.parametrize("name", PREDICTORS)
def test_an_optimal_start_is_given_back_unchanged(name):
    # The optimum of the very problem is in memory, and the cold start is the optimum, too.
    memory = _memory(PREDICTORS[name], _points(1))
    optimum = _solution(_points(1)[0])
    assert eqx.tree_equal(_start(memory, _points(1)[0], optimum), optimum)
    for fraction in (0.0, 0.3, 1.0):
        assert eqx.tree_equal(transfer(optimum, optimum, fraction=fraction), optimum)


def test_the_nearest_solution_is_given_back_bit_for_bit():
    points = _points(7)
    memory = _memory(NearestNeighbor(), points)
    cold = jax.tree.map(jnp.zeros_like, _solution(points[0]))
    started = eqx.filter_jit(jax.vmap(lambda z: memory.start(z, cold)))(points)
    assert eqx.tree_equal(started, _solutions(points))


def test_an_optimal_cold_start_survives_a_misleading_memory():
    optimum = jnp.asarray([0.1, 0.7, -3.0])
    memory = WarmStart(optimum, 1, threshold=0.0).add(jnp.zeros(1), optimum + 1.0)
    start = memory.guarded_start(jnp.zeros(1), optimum, lambda x: jnp.sum((x - optimum) ** 2))
    assert not start.warm and start.value == 0
    np.testing.assert_array_equal(start.params, optimum)
    # A tie is no reason to leave the cold start.
    assert not keep_better(lambda x: jnp.sum(x**2), jnp.ones(3), -jnp.ones(3)).warm


def test_predictions_are_those_of_numpy():
    points, query = np.asarray(_points(9), np.float64), np.asarray([0.2, -0.3])
    targets = np.asarray(_solutions(_points(9))["w"], np.float64)

    def gaussian(a, b):
        return np.exp(-0.5 * np.sum((a[:, None] - b[None]) ** 2, -1) / 0.5**2)

    def matern(a, b):
        r = np.sqrt(5 * np.sum((a[:, None] - b[None]) ** 2, -1)) / 0.5
        return (1 + r + r**2 / 3) * np.exp(-r)

    for kernel, predictor, noise in (
        (gaussian, KernelRidge(1e-2), 1e-2),
        (gaussian, GaussianProcess(1e-2, "squared_exponential"), 1e-2),
        (matern, GaussianProcess(1e-2), 1e-2),
    ):
        inverse = np.linalg.inv(kernel(points, points) + noise * np.eye(9))
        toward = kernel(points, query[None])[:, 0]
        mean = targets.mean(0)
        wanted = mean + toward @ inverse @ (targets - mean)
        memory = _memory(predictor, jnp.asarray(points, jnp.float32), scales=0.5)
        found = _predict(memory, jnp.asarray(query, jnp.float32))
        np.testing.assert_allclose(found.params["w"], wanted, atol=1e-3)
        if isinstance(predictor, GaussianProcess):
            variance = 1 - toward @ inverse @ toward
            np.testing.assert_allclose(found.uncertainty, np.sqrt(variance), atol=2e-3)
            np.testing.assert_allclose(
                found.deviation["w"], np.sqrt(variance) * targets.std(0, ddof=1), rtol=1e-2, atol=1e-3
            )


_KIND = next(iter(PREDICTORS))


@pytest.mark.parametrize("name", fast(list(PREDICTORS), _KIND))
def test_uncertainty_grows_with_distance_and_covers_the_error(name):
    points = _points(12)
    memory = _memory(PREDICTORS[name], points)
    near, far = _predict(memory, points[3]), _predict(memory, jnp.asarray([9.0, 9.0]))
    assert near.uncertainty < 0.05 and far.uncertainty > 0.95
    assert near.similarity > 0.99 and far.similarity < 1e-6
    found = _predict_all(memory, _points(12, seed=1))
    errors = np.abs(found.params["w"] - _solutions(_points(12, seed=1))["w"])
    assert np.all(errors < 4 * np.asarray(found.deviation["w"]) + 1e-2)


def test_interpolation_beats_the_nearest():
    points, queries = _points(12), _points(12, seed=1)
    errors = {}
    for name, predictor in PREDICTORS.items():
        memory = _memory(predictor, points)
        found = _predict_all(memory, queries).params
        errors[name] = float(np.mean(np.abs(found["w"] - _solutions(queries)["w"])))
    assert max(errors[name] for name in PREDICTORS if name != "nearest") < errors["nearest"] / 4


def test_dissimilar_problems_start_cold():
    memory = _memory(NearestNeighbor(), jnp.zeros((1, 2)), threshold=0.5, scales=2.0)
    cold = {"w": jnp.full(3, 7.0), "b": jnp.asarray(7.0)}
    # The similarity is 0.5 at a distance of 1.177 scales.
    assert _start(memory, jnp.asarray([2.35, 0.0]), cold)["b"] == 0
    assert _start(memory, jnp.asarray([2.36, 0.0]), cold)["b"] == 7


def test_the_fraction_blends():
    memory = _memory(NearestNeighbor(), jnp.zeros((1, 2)), fraction=0.25)
    cold = {"w": jnp.full(3, 4.0), "b": jnp.asarray(4.0)}
    np.testing.assert_allclose(_start(memory, jnp.zeros(2), cold)["w"], [3.0, 3.0, 3.25])


def test_the_oldest_solution_makes_room():
    memory = WarmStart(jnp.zeros(()), 1, capacity=3, predictor=NearestNeighbor(), threshold=0.0)

    def body(memory, i):
        memory = memory.add(i[None], 10 * i)
        return memory, memory.predict(jnp.zeros(1)).params

    memory, oldest = eqx.filter_jit(jax.lax.scan)(body, memory, jnp.arange(1.0, 6.0))
    np.testing.assert_array_equal(oldest, [10.0, 10.0, 10.0, 20.0, 30.0])
    assert memory.count == 5


def test_an_empty_memory_starts_cold_and_predicts_nothing():
    cold = {"w": jnp.ones(3), "b": jnp.ones(())}
    for predictor in PREDICTORS.values():
        memory = WarmStart(cold, 2, predictor=predictor, threshold=0.0)
        assert eqx.tree_equal(_start(memory, jnp.zeros(2), cold), cold)
        with pytest.raises(Exception, match="The memory is empty"):
            memory.predict(jnp.zeros(2))


def test_what_is_not_finite_is_not_remembered():
    memory = WarmStart(jnp.zeros(2), 1).add(jnp.zeros(1), jnp.asarray([1.0, jnp.nan]))
    assert memory.count == 0
    assert memory.add(jnp.zeros(1), jnp.ones(2)).count == 1


@pytest.mark.slow
def test_other_leaves_and_dtypes_are_those_of_the_cold_start():
    mlp = eqx.nn.MLP(2, 2, 4, 1, key=jr.key(0))
    solved = (mlp, {"half": jnp.ones(2, jnp.bfloat16), "z": jnp.asarray(2j), "n": jnp.asarray(3)}, "old", None)
    cold = (mlp, {"half": jnp.zeros(2, jnp.bfloat16), "z": jnp.asarray(0j), "n": jnp.asarray(5)}, "new", None)
    for predictor in PREDICTORS.values():
        memory = WarmStart(solved, 1, predictor=predictor).add(jnp.zeros(1), solved)
        start = _start(memory, jnp.zeros(1), cold)
        assert jax.tree.structure(start) == jax.tree.structure(cold)
        assert start[1]["n"] == 5 and start[2] == "new"
        assert start[1]["half"].dtype == jnp.bfloat16 and jnp.all(start[1]["half"] == 1)
        assert start[1]["z"] == 2j
        assert _predict(memory, jnp.zeros(1)).deviation[1]["z"].dtype == jnp.float32


@pytest.mark.slow
def test_scales_are_found_by_leaving_out():
    points = _points(12)
    for name in ("ridge", "squared_exponential"):
        memory = _memory(PREDICTORS[name], points, scales=0.05)
        tuned = eqx.filter_jit(lambda m: m.tuned())(memory)
        assert tuned.scales[0] > 0.2

        def error(memory):
            queries = _points(12, seed=2)
            found = _predict_all(memory, queries).params["w"]
            return float(np.mean(np.abs(found - _solutions(queries)["w"])))

        assert error(tuned) < 0.2 * error(memory)
    alone = _memory(KernelRidge(), points[:1], scales=0.05)
    np.testing.assert_array_equal(alone.tuned().scales, alone.scales)


def test_starts_are_differentiable_in_the_scales():
    memory, query = _memory(KernelRidge(1e-2), _points(6)), jnp.asarray([0.1, 0.2])

    @eqx.filter_jit
    def loss(memory):
        return jnp.sum((memory.predict(query).params["w"] - _solution(query)["w"]) ** 2)

    slope = eqx.filter_grad(loss)(memory).scales
    for i in range(2):
        ends = [loss(eqx.tree_at(lambda m: m.scales, memory, memory.scales.at[i].add(h))) for h in (1e-2, -1e-2)]
        np.testing.assert_allclose(slope[i], (ends[0] - ends[1]) / 2e-2, rtol=0.1, atol=1e-5)


def test_pad_crop_project_and_cold():
    source = {"w": jnp.arange(6.0).reshape(2, 3), "grid": jnp.arange(4.0)}
    larger = {"w": jnp.full((3, 4), -1.0), "grid": jnp.zeros(8)}
    found = transfer(source, larger, rules={"w": "pad", "grid": "project"})
    np.testing.assert_array_equal(found["w"][:2, :3], source["w"])
    assert jnp.all(found["w"][2] == -1) and jnp.all(found["w"][:, 3] == -1)
    # A linear function of the centers of cells stays one, except beyond the outermost centers.
    np.testing.assert_allclose(found["grid"], np.interp((np.arange(8) + 0.5) / 2 - 0.5, np.arange(4), np.arange(4.0)))
    smaller = {"w": jnp.zeros((2, 2)), "grid": jnp.full(2, 5.0)}
    found = transfer(source, smaller, rules={"w": "crop", "*": "cold"})
    np.testing.assert_array_equal(found["w"], source["w"][:, :2])
    assert jnp.all(found["grid"] == 5)
    # No rule is needed where the shapes agree; `cold` holds all the same.
    found = transfer(source, {"w": jnp.zeros((2, 3)), "grid": jnp.zeros(4)}, rules={"w": "cold"})
    assert jnp.all(found["w"] == 0) and jnp.all(found["grid"] == source["grid"])


def test_a_memory_serves_another_size():
    memory = WarmStart(jnp.zeros(4), 1, rules={"": "project"}).add(jnp.zeros(1), jnp.ones(4))
    np.testing.assert_allclose(_start(memory, jnp.zeros(1), jnp.zeros(9)), jnp.ones(9))


def test_a_minimization_starts_where_the_memory_says():
    tasks = [Quadratics(4).sample(key=jr.key(i)) for i in range(2)]
    memory = WarmStart(jnp.zeros(4), 1, predictor=NearestNeighbor())
    memory = memory.add(jnp.zeros(1), tasks[0].minimizer())
    algorithm = metaopt.from_optax(optax.sgd, learning_rate=0.1)
    start = memory.guarded_start(jnp.zeros(1), tasks[0].init(key=jr.key(9)), tasks[0])
    assert start.warm
    solution = metaopt.minimize(tasks[0], algorithm, start.params, steps=50, tolerance=1e-3)
    assert solution.steps == 0
    learner = metaopt.Learner(algorithm, initial=start.params)
    trajectory = metaopt.unroll(learner, tasks[0], steps=1, key=jr.key(0))
    np.testing.assert_allclose(trajectory.values[0], start.value)


@pytest.fixture
def _unchecked():
    # The checker of types would be the first to object to a word that is not among those allowed.
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: WarmStart(jnp.zeros(2), 0), "`features` must be at least 1"),
        (lambda: WarmStart(jnp.zeros(2), 1, capacity=0), "`capacity` must be at least 1"),
        (lambda: WarmStart(jnp.zeros(2), 1, threshold=1.5), "`threshold` must be between 0 and 1"),
        (lambda: WarmStart(jnp.zeros(2), 1, fraction=-0.1), "`fraction` must be between 0 and 1"),
        (lambda: WarmStart(jnp.zeros(2), 1, scales=0.0), "`scales` must be positive"),
        (lambda: WarmStart(jnp.zeros(2), 1, scales=jnp.ones(3)), "`scales` must be one number or 1"),
        (lambda: WarmStart({"n": 1}, 1), "nothing to remember"),
        (lambda: WarmStart(jnp.zeros(2), 1, rules=cast(Any, {"w": "stretch"})), "The rule for `w`"),
        (lambda: WarmStart(jnp.zeros(2), 1).add(jnp.zeros(2), jnp.zeros(2)), r"`features` must have shape \(1,\)"),
        (lambda: WarmStart(jnp.zeros(2), 1).start(jnp.zeros(3), jnp.zeros(2)), r"`features` must have shape \(1,\)"),
        (lambda: WarmStart({"a": jnp.zeros(2)}, 1).add(jnp.zeros(1), {"b": jnp.zeros(2)}), "Missing: `a`. Not wanted"),
        (lambda: WarmStart({"a": jnp.zeros(2)}, 1).add(jnp.zeros(1), {"a": jnp.zeros(3)}), "`a` has shape"),
        (lambda: transfer({"a": jnp.zeros(2)}, {"a": jnp.zeros(3)}), r"no rule fits it. .*'a': 'pad'"),
        (lambda: transfer({"a": jnp.zeros(2)}, {"a": jnp.zeros(3)}, rules={"a": "crop"}), "at least as large"),
        (lambda: transfer({"a": jnp.zeros(2)}, {"a": jnp.zeros((2, 1))}, rules={"a": "pad"}), "as many axes"),
        (lambda: GaussianProcess(kernel=cast(Any, "linear")), "`kernel` must be one of"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()
