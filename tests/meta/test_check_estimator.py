"""The test of estimators passes good ones and names what is wrong with others."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import pytest

import metaopt
from metaopt.meta import (
    PES,
    AbstractEstimator,
    AbstractSpreadEstimator,
    MetaGradient,
    TruncatedUnroll,
    Unrolled,
    check_estimator,
)
from metaopt.meta.estimators import total


@pytest.mark.parametrize(
    ("estimator", "unbiased"),
    [(Unrolled(), True), (TruncatedUnroll(5), False), pytest.param(PES(0.01, 5), True, marks=pytest.mark.slow)],
)
def test_ours_keep_their_promises(estimator: AbstractEstimator[Any], unbiased: bool) -> None:
    report = check_estimator(estimator, horizon=8)
    assert report.unbiased == unbiased and report.spreads
    assert sorted(report.devices) == [1, 2, 4, 8] and max(report.devices.values()) < 1e-6
    # One step from 1 at the rate a, differentiated by hand, and then seven more.
    assert report.truth == pytest.approx(sum(-0.05 * t * 0.95 ** (2 * t - 1) for t in range(1, 9)) / 8)


def _noise(keys: jax.Array) -> jax.Array:
    return 1.0 + jnp.mean(jax.vmap(jr.normal)(keys))


def _answer(learner: metaopt.Learner, number: jax.Array) -> MetaGradient:
    grads = jtu.tree_map(lambda x: number.astype(x.dtype) * jnp.ones_like(x), learner)
    return MetaGradient(grads, number, jnp.zeros((), jnp.int32))


class Alike(AbstractSpreadEstimator[Any]):
    """Promises other tasks on each device, and splits a key that all devices have."""

    def init(self, learner: metaopt.Learner, problem: Any, *, key: Any) -> Any:
        return jnp.zeros(problem.tasks)

    def estimate(self, state: Any, learner: metaopt.Learner, problem: Any, *, key: Any) -> tuple[Any, MetaGradient]:
        mean = total(_noise(jr.split(key, problem.tasks)), problem)
        mean = mean if problem.axis is None else mean / jax.lax.axis_size(problem.axis)
        return state, _answer(learner, mean)


class Alone(AbstractEstimator[Any]):
    """The same, without the promise."""

    what: str = ""

    def init(self, learner: metaopt.Learner, problem: Any, *, key: Any) -> Any:
        if self.what == "init":
            raise KeyError("nothing")
        return jnp.zeros((), jnp.int32)

    def estimate(self, state: Any, learner: metaopt.Learner, problem: Any, *, key: Any) -> tuple[Any, Any]:
        answer = _answer(learner, _noise(jr.split(key, problem.tasks)))
        if self.what == "state":
            return state.astype(jnp.float32), answer
        if self.what == "pair":
            return state, answer.grads
        if self.what == "gradient":
            return state, MetaGradient(answer.grads.algorithm, answer.value, answer.nonfinite)
        if self.what == "dtype":
            return state, MetaGradient(jtu.tree_map(lambda x: x[None], answer.grads), answer.value, answer.nonfinite)
        if self.what == "value":
            return state, MetaGradient(answer.grads, answer.value[None], answer.nonfinite)
        return state, answer


def test_the_same_tasks_on_each_device_are_found() -> None:
    with pytest.raises(metaopt.CheckError, match=r"on 2 devices differs from that on one by .*task_keys"):
        check_estimator(Alike(), horizon=4)
    report = check_estimator(Alone(), horizon=4)
    assert not report.unbiased and not report.spreads and report.devices == {}


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("init", "`Alone.init` failed: KeyError"),
        (
            "state",
            r"The state that `estimate` returns differs from the one that `init` .*: It is float32\[\], not",
        ),
        ("pair", "must return a state and a `MetaGradient`, but it returned a `tuple`"),
        ("gradient", "The gradient has another structure than the trained leaves"),
        ("dtype", "The gradient differs from the trained leaves of the learner: .algorithm.log_rate is"),
        ("value", r"`Alone.estimate` failed: TypeCheckError|of shape \(\), but they have shapes \(1,\)"),
    ],
)
def test_what_is_returned_is_looked_at(what: str, text: str) -> None:
    with pytest.raises(metaopt.CheckError, match=text):
        check_estimator(Alone(what), horizon=4)


def test_a_learner_needs_a_problem() -> None:
    with pytest.raises(ValueError, match="needs a `learner` and a `problem`, or neither"):
        check_estimator(Unrolled(), learner=metaopt.Learner(metaopt.build("sgd", metaopt.AbstractAlgorithm)))
