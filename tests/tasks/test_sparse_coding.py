from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import metaopt
from metaopt.tasks import SparseCoding, SparseCodingTask


def test_the_dictionary_is_one_for_all_and_has_unit_columns() -> None:
    family = SparseCoding(8, 20)
    assert family.dictionary.shape == (8, 20)
    np.testing.assert_allclose(np.linalg.norm(family.dictionary, axis=0), 1)
    np.testing.assert_array_equal(family.dictionary, SparseCoding(8, 20, snr_db=20, signal="residual").dictionary)
    assert np.any(family.dictionary != SparseCoding(8, 20, seed=1).dictionary)
    # A seed means the same dictionary for ever: the first number of the legacy generator, and its column.
    column = np.random.RandomState(0).normal(size=(8, 20))[:, 0]
    np.testing.assert_allclose(family.dictionary[:, 0], column / np.linalg.norm(column))


def test_the_condition_spreads_the_singular_values() -> None:
    def condition(family: SparseCoding) -> float:
        return float(np.linalg.cond(family.dictionary))

    assert condition(SparseCoding(20, 40, condition=1)) < 2 < condition(SparseCoding(20, 40, condition=100)) / 10


def test_the_loss_is_the_lasso_objective(getkey: Callable[[], jax.Array], x64: None) -> None:
    family = SparseCoding(5, 9, density=0.4, weight=0.3)
    task, x = family.sample(key=getkey()), jr.normal(getkey(), (9,))
    matrix, b = family.dictionary, np.asarray(task.measurements)
    value, gradient = task.evaluate(x, key=getkey())
    residual = matrix @ np.asarray(x) - b
    np.testing.assert_allclose(value, residual @ residual / 2 + 0.3 * np.abs(x).sum(), rtol=1e-12)
    np.testing.assert_allclose(gradient, matrix.T @ residual + 0.3 * np.sign(x), rtol=1e-10, atol=1e-12)
    other = SparseCoding(5, 9, density=0.4, weight=0.3, signal="residual").sample(key=jr.key(0))
    same, signal = SparseCodingTask(other.dictionary, task.code, task.measurements, 0.3, "residual").evaluate(
        x, key=getkey()
    )
    np.testing.assert_allclose(same, value, rtol=1e-12)
    np.testing.assert_allclose(signal, residual, rtol=1e-10, atol=1e-12)


def test_errors_are_those_of_the_code(getkey: Callable[[], jax.Array]) -> None:
    task = SparseCoding(20, 30, density=0.3).sample(key=getkey())
    np.testing.assert_allclose(task.measure(1.1 * task.code, key=getkey()), 0.01 * jnp.sum(task.code**2), rtol=1e-4)
    np.testing.assert_allclose(task.nmse_db(1.1 * task.code), -20, rtol=1e-4)
    np.testing.assert_allclose(task.nmse_db(task.init(key=getkey())), 0, atol=1e-6)
    np.testing.assert_allclose(task.measurements, task.dictionary["matrix"].astype(np.float32) @ task.code, atol=1e-5)


@pytest.mark.parametrize("snr", [0, 20])
def test_supports_and_noise_are_as_asked(snr: float, getkey: Callable[[], jax.Array]) -> None:
    family = SparseCoding(50, 100, density=0.2, snr_db=snr)
    tasks = jax.jit(jax.vmap(lambda key: family.sample(key=key)))(jr.split(getkey(), 200))
    share = np.mean(np.asarray(tasks.code) != 0)
    assert abs(share - 0.2) < 5 * np.sqrt(0.2 * 0.8 / tasks.code.size)
    clean = np.asarray(tasks.code) @ family.dictionary.T
    noise = np.asarray(tasks.measurements) - clean
    ratios = 10 * np.log10(np.sum(clean**2, 1) / np.sum(noise**2, 1))
    # Each has a chi-squared spread of 200 / 50 percent.
    assert abs(np.mean(ratios) - snr) < 0.3


@pytest.mark.slow
def test_ordinary_optimizers_run_on_it(getkey: Callable[[], jax.Array]) -> None:
    task = SparseCoding(20, 30, weight=0.01).sample(key=getkey())
    start = task.loss(task.init(key=getkey()))
    adam = metaopt.build({"name": "adam", "learning_rate": 0.03}, metaopt.AbstractAlgorithm)
    assert metaopt.minimize(task, adam, steps=100).value < 0.2 * start
