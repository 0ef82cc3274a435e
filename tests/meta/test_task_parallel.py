"""Tasks that are spread over devices give the same, with one meeting of the devices."""

import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest
from jaxtyping import Array, PRNGKeyArray

import metaopt
from metaopt.l2o import Controller
from metaopt.meta import (
    ES,
    NRES,
    PES,
    AbstractEstimator,
    ConstantHorizon,
    ESSingle,
    MeanLoss,
    MetaGradient,
    MetaProblem,
    TaskParallel,
    TruncatedUnroll,
    Unrolled,
    meta_train,
)
from metaopt.sharding import make_mesh
from metaopt.tasks import Quadratics


_MORE = [TruncatedUnroll(5), Unrolled(), Unrolled(max_norm=1.0), ES(), NRES(0.01, 5), ESSingle(0.01, 5)]
ESTIMATORS = [PES(0.01, 5), *(pytest.param(x, marks=pytest.mark.slow) for x in _MORE)]


def _problem(tasks: int = 8, **options: Any) -> MetaProblem:
    return MetaProblem(Quadratics(3), MeanLoss(), ConstantHorizon(10), tasks=tasks, weight_penalty=0.01, **options)


def _run(estimator: AbstractEstimator[Any], problem: MetaProblem, steps: int = 3) -> Any:
    learner = metaopt.Learner(Controller(0.05, hidden_size=2))
    init, estimate = eqx.filter_jit(estimator.init), eqx.filter_jit(estimator.estimate)
    state = init(learner, problem, key=jr.key(0))
    seen = []
    for i in range(steps):
        state, found = estimate(state, learner, problem, key=jr.key(i))
        seen.append(found)
    return jtu.tree_map(np.asarray, eqx.filter(seen, eqx.is_array))


def _assert_same(estimator: AbstractEstimator[Any], devices: tuple[int, ...]) -> None:
    wanted = _run(estimator, _problem())
    for number in devices:
        found = _run(TaskParallel(estimator, make_mesh(tasks=number)), _problem())
        for x, y in zip(jtu.tree_leaves(found), jtu.tree_leaves(wanted), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_eight_devices_give_the_same_as_one(estimator: AbstractEstimator[Any], x64: None) -> None:
    _assert_same(estimator, (8,))


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [Unrolled(max_norm=1.0), PES(0.01, 5)])
def test_any_number_of_devices_gives_the_same(estimator: AbstractEstimator[Any], x64: None) -> None:
    _assert_same(estimator, (1, 2, 4))


@pytest.mark.slow
def test_batches_on_each_device(x64: None) -> None:
    found = _run(TaskParallel(PES(0.01, 5), make_mesh(tasks=2)), _problem(batch_size=1))
    for x, y in zip(jtu.tree_leaves(found), jtu.tree_leaves(_run(PES(0.01, 5), _problem())), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_devices_meet_once(estimator: AbstractEstimator[Any]) -> None:
    parallel, problem = TaskParallel(estimator, make_mesh(tasks=4)), _problem()
    learner = metaopt.Learner(Controller(0.05, hidden_size=2))
    state = parallel.init(learner, problem, key=jr.key(0))
    dynamic, static = eqx.partition((state, learner), eqx.is_array)

    @jax.jit
    def estimate(dynamic: Any, key: jax.Array) -> Any:
        state, learner = eqx.combine(dynamic, static)
        return eqx.filter(parallel.estimate(state, learner, problem, key=key), eqx.is_array)

    text = estimate.lower(dynamic, jr.key(1)).compile().as_text() or ""
    counts = {
        name: len(re.findall(rf"= [^\n]*\b{name}(?:-start)?\(", text))
        for name in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    }
    assert counts == {name: int(name == "all-reduce") for name in counts}
    # Between processes each array in it would cost a round trip.
    (arrays,) = re.findall(r"\ball-reduce(?:-start)?\(([^)]*)\)", text)
    assert "," not in re.sub(r"\[[^\]]*\]|\{[^}]*\}", "", arrays)


@pytest.mark.slow
def test_the_driver_takes_it(tmp_path: Any) -> None:
    def train(estimator: AbstractEstimator[Any], steps: int, **options: Any) -> Any:
        outer = metaopt.from_optax(optax.adam, learning_rate=0.01)
        learner = metaopt.Learner(Controller(0.05, hidden_size=2))
        return meta_train(
            learner, _problem(), estimator=estimator, outer=outer, steps=steps, key=jr.key(0), progress=False, **options
        )

    parallel = TaskParallel(PES(0.01, 5), make_mesh(tasks=4))
    whole = train(parallel, 6)
    train(parallel, 3, checkpoint=tmp_path / "run")
    resumed = train(parallel, 6, checkpoint=tmp_path / "run", resume=True)
    alone = train(PES(0.01, 5), 6)
    for x, y, z in zip(*(jtu.tree_leaves(r.last) for r in (whole, resumed, alone)), strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_allclose(x, z, rtol=1e-3, atol=1e-5)


class Drawn(metaopt.AbstractTaskFamily):
    """Tasks whose loss is a number that was drawn, times the parameter."""

    def sample(self, *, key: PRNGKeyArray) -> "DrawnTask":
        return DrawnTask(jr.uniform(key))


class DrawnTask(metaopt.AbstractLossTask[Array]):
    number: Array

    def init(self, *, key: PRNGKeyArray) -> Array:
        return jnp.asarray(1.0)

    def loss(self, params: Array, *, key: PRNGKeyArray) -> Array:
        return self.number * params

    def measure(self, params: Array, *, key: PRNGKeyArray) -> Array:
        return self.loss(params, key=key)


class Naive(AbstractEstimator[Any]):
    """An estimator as somebody writes it who has one device: keys of a split, a state without tasks, a plain mean."""

    def init(self, learner: metaopt.Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> Array:
        return jnp.zeros((), jnp.int32)

    def estimate(
        self, state: Array, learner: metaopt.Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[Array, MetaGradient]:
        assert isinstance(problem.family, Drawn)
        family = problem.family

        def loss(learner: metaopt.Learner, key: PRNGKeyArray) -> Array:
            (rate,) = jtu.tree_leaves(learner)
            return family.sample(key=key).loss(rate, key=key)

        keys = jr.split(key, problem.tasks)
        values, grads = jax.vmap(eqx.filter_value_and_grad(loss), (None, 0))(learner, keys)
        mean = jtu.tree_map(lambda g: jnp.mean(g, 0), grads)
        return state + 1, MetaGradient(mean, jnp.mean(values), jnp.zeros((), jnp.int32))


def test_an_estimator_that_knows_of_one_device_has_other_tasks_on_each() -> None:
    problem = MetaProblem(Drawn(), MeanLoss(), ConstantHorizon(1), tasks=24)
    learner = metaopt.Learner(metaopt.from_optax(optax.sgd, learning_rate=1.0))
    parallel, key = TaskParallel(Naive(), make_mesh(tasks=8)), jr.key(3)
    state = parallel.init(learner, problem, key=jr.key(0))
    state, found = eqx.filter_jit(parallel.estimate)(state, learner, problem, key=key)
    keys = jnp.concatenate([jr.split(jr.fold_in(key, device), 3) for device in range(8)])
    numbers = np.asarray([jr.uniform(each) for each in keys])
    assert len(set(numbers.tolist())) == 24
    np.testing.assert_allclose(jtu.tree_leaves(found.grads)[0], numbers.mean(), rtol=1e-6)
    np.testing.assert_allclose(found.value, numbers.mean(), rtol=1e-6)
    np.testing.assert_array_equal(state, np.ones(8))


def test_axes_along_which_work_would_be_repeated_are_refused() -> None:
    with pytest.raises(ValueError, match=r"repeat each other's work.*make_mesh\(tasks=8\)"):
        TaskParallel(ES(), make_mesh(tasks=2, model=4))
    TaskParallel(ES(), make_mesh(tasks=2, model=1))


def test_uneven_shares_and_wrong_meshes_are_refused() -> None:
    learner, parallel = metaopt.Learner(Controller(0.05)), TaskParallel(ES(), make_mesh(tasks=4))
    with pytest.raises(ValueError, match="6 tasks cannot be spread evenly over 4 devices. Use a multiple of 4"):
        parallel.init(learner, _problem(6), key=jr.key(0))
    with pytest.raises(ValueError, match="The mesh needs an axis `tasks`"):
        TaskParallel(ES(), jax.make_mesh((2,), ("other",), axis_types=(jax.sharding.AxisType.Auto,)))
    with pytest.raises(ValueError, match="spread over devices already"):
        TaskParallel(parallel, make_mesh(tasks=4))
