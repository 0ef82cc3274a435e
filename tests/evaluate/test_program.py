"""Batches of runs against `unroll`."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

import metaopt
from metaopt.evaluate._program import Programs, record_steps
from metaopt.schedules import Cosine

from .problems import Bowls


ADAM = metaopt.Learner(metaopt.from_optax(optax.adam, learning_rate=0.1))
FAMILY = Bowls(noise=0.3)


def test_records_include_start_and_end() -> None:
    assert record_steps(10, 4).tolist() == [0, 4, 8, 10]
    assert record_steps(8, 4).tolist() == [0, 4, 8]
    assert record_steps(1, 1).tolist() == [0, 1]
    assert record_steps(3, 100).tolist() == [0, 3]


def _unrolled(learner: metaopt.Learner, key: PRNGKeyArray, steps: int) -> float:
    task_key, run_key, measure_key = jr.split(key, 3)
    task = FAMILY.sample(key=task_key)
    if steps == 0:
        return float(task.measure(learner.start(task, key=jr.split(run_key, 3)[0]), key=measure_key))
    trajectory = metaopt.unroll(learner, task, steps=steps, key=run_key)
    return float(task.measure(trajectory.params, key=measure_key))


def test_a_batch_is_what_unroll_does() -> None:
    programs, keys, positions = Programs(), jr.split(jr.key(1), 2), record_steps(10, 4)
    values = programs.run(ADAM, FAMILY, keys, positions, np.ones(4, bool))
    expected = [[_unrolled(ADAM, key, steps) for steps in (0, 4, 8, 10)] for key in keys]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_planners_are_told_the_horizon() -> None:
    learner, positions = metaopt.Learner(Cosine(ADAM.algorithm)), record_steps(6, 3)
    keys = jr.split(jr.key(2), 1)
    values = Programs().run(learner, FAMILY, keys, positions, np.ones(3, bool))
    np.testing.assert_allclose(values[0, -1], _unrolled(learner, keys[0], 6), rtol=1e-5)
    forgetful = metaopt.Learner(ADAM.algorithm)
    assert abs(values[0, -1] - _unrolled(forgetful, keys[0], 6)) > 1e-3


def test_only_what_is_asked_for_is_measured() -> None:
    programs, keys, positions = Programs(), jr.split(jr.key(1), 2), record_steps(10, 4)
    everything = programs.run(ADAM, FAMILY, keys, positions, np.ones(4, bool))
    last = programs.run(ADAM, FAMILY, keys, positions, np.asarray([False, False, False, True]))
    np.testing.assert_array_equal(last[:, 0], everything[:, -1])


def test_one_program_serves_all_rates_and_horizons() -> None:
    programs, keys, positions = Programs(), jr.split(jr.key(1), 2), record_steps(10, 4)
    everywhere = np.ones(4, bool)
    short = programs.run(ADAM, FAMILY, keys, positions, everywhere)
    long = programs.run(ADAM, FAMILY, keys, 3 * positions, everywhere)
    slow = metaopt.Learner(metaopt.from_optax(optax.adam, learning_rate=0.01))
    slower = programs.run(slow, FAMILY, keys, positions, everywhere)
    assert len(programs) == 1
    assert np.all(long[:, -1] < short[:, -1]) and np.all(slower[:, -1] > short[:, -1])
    programs.run(ADAM, Bowls(noise=0.0), keys, positions, everywhere)
    assert len(programs) == 2


class _Explode(metaopt.AbstractAlgorithm[Array, Array, Array]):
    """Fine for two steps, NaN ever after. Carries a NumPy array, as loaded weights may."""

    weights: Float[np.ndarray, " n"] = eqx.field(default_factory=lambda: np.ones(3, np.float32))

    def init(self, params: Array, *, key: PRNGKeyArray | None = None) -> Array:
        return jnp.zeros((), jnp.int32)

    def step(self, state: Array, params: Array, grads: Array, *, value: Array | None = None) -> tuple[Array, PyTree]:
        return state + 1, jnp.where(state < 2, params - 0.1 * grads, jnp.nan)


def test_what_is_not_a_number_is_infinite() -> None:
    values = Programs().run(
        metaopt.Learner(_Explode()), FAMILY, jr.split(jr.key(0), 2), record_steps(4, 1), np.ones(5, bool)
    )
    assert np.isfinite(values[:, :3]).all() and (values[:, 3:] == np.inf).all()


def test_costs_are_told() -> None:
    programs, keys, positions = Programs(), jr.split(jr.key(1), 2), record_steps(10, 4)
    cost = programs.cost(ADAM, FAMILY, keys, positions, 2)
    assert 0 < cost.seconds_per_step < 1 and 0 < cost.compile_seconds and cost.temporary_bytes > 0
    assert np.isnan(programs.cost(ADAM, FAMILY, keys, positions, 0).seconds_per_step)
