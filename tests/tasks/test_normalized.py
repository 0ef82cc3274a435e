"""Normalized values start at 1 and end at 0."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from jaxtyping import Array, Float, PRNGKeyArray

from metaopt.tasks import AbstractTask, DigitsMLP, Normalized, NormalizedTask, Quadratics, Rosenbrock, SingleTask
from tests._cases import slow


class _Signalling(AbstractTask):
    """A task whose signal is a tree with holes and an integer in it."""

    level: Float[Array, ""]

    def init(self, *, key: PRNGKeyArray) -> Any:
        return {"kept": jnp.arange(3), "hole": None, "moved": jnp.ones(2)}

    def evaluate(self, params: Any, *, key: PRNGKeyArray) -> Any:
        return self.level, params

    def measure(self, params: Any, *, key: PRNGKeyArray) -> Any:
        return self.level


def test_values_and_signals_by_hand(getkey: Any, x64: None) -> None:
    task = NormalizedTask(Quadratics(3).sample(key=getkey()), 2.0, jnp.asarray(5.0))
    params, key = task.init(key=getkey()), getkey()
    value, grad = task.inner.evaluate(params, key=key)
    found, signal = task.evaluate(params, key=key)
    np.testing.assert_allclose(found, (value - 2) / 5)
    np.testing.assert_allclose(signal, grad / 5)
    np.testing.assert_allclose(task.measure(params, key=key), (task.inner.measure(params, key=key) - 2) / 5)


@pytest.mark.parametrize("inner", [Quadratics(), *slow(DigitsMLP(hidden=()))], ids=repr)
def test_starts_measure_about_one(inner: Any, getkey: Any) -> None:
    family = Normalized(inner, starts=16)

    def ratio(key: PRNGKeyArray) -> Array:
        task_key, start_key = jr.split(key)
        task = family.sample(key=task_key)
        starts = jax.vmap(lambda k: task.measure(task.init(key=k), key=k))(jr.split(start_key, 64))
        return jnp.mean(starts)

    ratios = jax.jit(jax.vmap(ratio))(jr.split(getkey(), 20))
    assert jnp.all(ratios > 0)
    np.testing.assert_allclose(jnp.median(ratios), 1, atol=0.25)


def test_scale_is_the_mean_measure_of_the_starts(getkey: Any) -> None:
    inner = SingleTask(_Signalling(jnp.asarray(7.0)))
    task = Normalized(inner, floor=3.0, starts=2).sample(key=getkey())
    assert task.scale == 4
    value, signal = task.evaluate(task.init(key=getkey()), key=getkey())
    assert value == 1 and signal["hole"] is None
    np.testing.assert_array_equal(signal["kept"], np.arange(3))
    np.testing.assert_allclose(signal["moved"], 0.25)


def test_minimum_becomes_zero(getkey: Any) -> None:
    inner = Rosenbrock(3).sample(key=getkey())
    task = Normalized(SingleTask(inner)).sample(key=getkey())
    np.testing.assert_allclose(task.measure(inner.minimizer(), key=getkey()), 0, atol=1e-6)


@pytest.mark.parametrize("floor", [7.0, 9.0])
def test_floor_that_is_none_gives_nan(floor: float, getkey: Any) -> None:
    task = Normalized(SingleTask(_Signalling(jnp.asarray(7.0))), floor=floor).sample(key=getkey())
    params = task.init(key=getkey())
    assert jnp.isnan(task.measure(params, key=getkey())) and jnp.isnan(task.evaluate(params, key=getkey())[0])


def test_leaves(getkey: Any) -> None:
    task = Normalized(Quadratics(3)).sample(key=getkey())
    assert len(jtu.tree_leaves(eqx.filter(task, eqx.is_inexact_array))) == 3
