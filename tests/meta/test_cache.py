"""How many tasks run side by side."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import metaopt
from metaopt.l2o import MLP, LearnableAdam
from metaopt.meta import PES, ConstantHorizon, MeanLoss, MetaProblem
from metaopt.meta.training import _train
from metaopt.meta.training._cache import _largest, fit_cache
from metaopt.registry import adam
from metaopt.tasks import Mixture, Quadratics

from .problems import Parabolas


def test_a_rule_with_many_units_runs_one_task_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = MetaProblem(Quadratics(200), MeanLoss(), ConstantHorizon(4), tasks=16)
    small, large = metaopt.Learner(LearnableAdam(0.1)), metaopt.Learner(MLP(hidden_size=256, hidden_layers=1))
    # The matrix of a quadratic, and at least the units of a parameter.
    assert _largest(Quadratics(200), small) == 200 * 200 * 4
    assert _largest(Quadratics(200), large) >= 200 * 256 * 4
    assert fit_cache(problem, small).batch_size == fit_cache(problem, large).batch_size == 1
    few = dataclasses.replace(problem, tasks=2)
    assert fit_cache(few, small) == few
    assert fit_cache(dataclasses.replace(problem, batch_size=8), large).batch_size == 8
    mixed = dataclasses.replace(problem, family=Mixture((Parabolas(2.0), Quadratics(200))))
    assert fit_cache(mixed, small).batch_size == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert fit_cache(problem, large).batch_size is None


@pytest.mark.parametrize("batch_size", [None, 1])
def test_episodes_are_there_once(batch_size: int | None) -> None:
    """The state of the estimator is written over, and in batches of tasks no second copy of it is made."""
    size, tasks = 4000, 8
    learner = metaopt.Learner(LearnableAdam(0.1))
    problem = MetaProblem(_Wide(size), MeanLoss(), ConstantHorizon(4), tasks=tasks, batch_size=batch_size)
    estimator, outer = PES(0.1, 2), metaopt.SkipNonFinite(adam(0.1))
    unit = 4 * size * tasks
    # Parameters and two averages of both particles; beside them, four units where all tasks run at once.
    total = _train.memory_of_meta_steps(learner, problem, estimator, outer)
    assert 6 * unit <= total < (10.5 if batch_size is None else 8.0) * unit


class _Wide(metaopt.AbstractTaskFamily):
    """Tasks that have nothing but parameters."""

    size: int = eqx.field(static=True)

    def sample(self, *, key):
        return _WideTask(jr.uniform(key, ()), self.size)


class _WideTask(metaopt.AbstractLossTask):
    scale: jax.Array
    size: int = eqx.field(static=True)

    def init(self, *, key):
        return jr.normal(key, (self.size,))

    def loss(self, params, *, key):
        return self.scale * jnp.mean(params**2)

    def measure(self, params, *, key):
        return self.loss(params, key=key)
