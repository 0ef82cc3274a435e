"""Augmented tasks are the same functions in other units."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

from metaopt.tasks import (
    Normalized,
    Quadratics,
    ReducedBatch,
    Reparametrized,
    ReparametrizedTask,
    Rescaled,
    TeacherStudent,
)


def test_parameters_by_hand(getkey: Any, x64: None) -> None:
    inner, key = Quadratics(3).sample(key=getkey()), getkey()
    task = ReparametrizedTask(inner, jnp.asarray([0.5, 2.0, 10.0]))
    theta, phi = inner.init(key=key), task.init(key=key)
    np.testing.assert_allclose(phi, theta / np.asarray([0.5, 2, 10]))
    value, grads = task.evaluate(phi, key=key)
    np.testing.assert_allclose(value, inner.loss(theta, key=key))
    np.testing.assert_allclose(task.measure(phi, key=key), value)
    wanted = jax.grad(lambda x: inner.loss(x * jnp.asarray([0.5, 2.0, 10.0]), key=key))(phi)
    np.testing.assert_allclose(grads, wanted)
    np.testing.assert_allclose(task.original(phi), theta)


@pytest.mark.parametrize(("level", "distinct"), [("global", 1), ("tensor", 4), ("parameter", 12 + 4 + 8 + 2)])
def test_levels(level: Any, distinct: int, getkey: Any) -> None:
    family = Reparametrized(TeacherStudent(sizes=(3, 4, 2)), level, 0.01, 100.0)
    scales = np.concatenate([np.ravel(x) for x in jtu.tree_leaves(family.sample(key=getkey()).scales)])
    assert len(np.unique(scales)) == distinct
    assert np.all((scales > 0.0099) & (scales < 101))


def test_scales_are_log_uniform() -> None:
    family = Reparametrized(Quadratics(2), low=0.1, high=1000.0)
    drawn = jax.jit(jax.vmap(lambda key: family.sample(key=key).scales))(jr.split(jr.key(0), 2000))
    exponents = (np.log10(np.asarray(drawn)) + 1) / 4
    np.testing.assert_allclose(np.quantile(exponents, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.04)


def test_what_is_not_trained_is_left_alone(getkey: Any) -> None:
    tree = {"w": jnp.ones(2), "n": jnp.arange(2), "nothing": None}
    task = ReparametrizedTask(Quadratics(2).sample(key=getkey()), {"w": jnp.asarray(4.0), "n": None, "nothing": None})
    found = task.original(tree)
    np.testing.assert_array_equal(found["w"], 4.0)
    np.testing.assert_array_equal(found["n"], [0, 1])
    assert found["nothing"] is None


@pytest.mark.parametrize("values", [True, False])
def test_values_by_hand(values: bool, getkey: Any) -> None:
    key = getkey()
    task = Rescaled(Quadratics(3), 5.0, 5.0, values).sample(key=key)
    params = task.init(key=key)
    np.testing.assert_allclose(task.scale, 5, rtol=1e-6)
    value, grads = task.inner.evaluate(params, key=key)
    found, signal = task.evaluate(params, key=key)
    np.testing.assert_allclose(found, 5 * value if values else value, rtol=1e-6)
    np.testing.assert_allclose(signal, 5 * grads, rtol=1e-6)
    np.testing.assert_allclose(task.measure(params, key=key), task.inner.measure(params, key=key))


@pytest.mark.slow
def test_smaller_batches_are_noisier(getkey: Any) -> None:
    def spread(family: Any) -> float:
        task = family.sample(key=jr.key(0))
        params = task.init(key=jr.key(1))
        values = jax.jit(jax.vmap(lambda key: task.evaluate(params, key=key)[0]))(jr.split(getkey(), 400))
        return float(jnp.std(values))

    inner = TeacherStudent(sizes=(3, 4, 2), batch_size=64)
    ratio = spread(ReducedBatch(inner, 1 / 16)) / spread(inner)
    assert 3 < ratio < 5.3
    task: Any = ReducedBatch(Reparametrized(Normalized(inner)), 1e-3).sample(key=getkey())
    assert task.inner.inner.batch_size == 1


def test_without_a_batch_size_it_says_so(getkey: Any) -> None:
    with pytest.raises(TypeError, match="`QuadraticsTask` has no static field `batch_size`"):
        ReducedBatch(Quadratics()).sample(key=getkey())
