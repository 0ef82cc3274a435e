"""Gradient descent and Adam with learnable hyperparameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array

from metaopt.l2o import LearnableAdam, LearnableSGD
from tests.l2o._cells import arrays, by_optax, steps


RULES = {
    "sgd": (LearnableSGD(0.1), optax.sgd(0.1)),
    "momentum": (LearnableSGD(0.1, momentum=0.8), optax.sgd(0.1, momentum=0.8)),
    "adam": (LearnableAdam(0.02), optax.adam(0.02)),
    "adam, other decays": (LearnableAdam(0.02, 0.7, 0.9, 1e-3), optax.adam(0.02, 0.7, 0.9, 1e-3)),
}


@pytest.mark.parametrize("cell, reference", RULES.values(), ids=RULES.keys())
def test_same_as_optax(cell: Any, reference: optax.GradientTransformation, getkey: Callable[[], Array]) -> None:
    params, grads = arrays(getkey()), [arrays(getkey()) for _ in range(4)]
    wanted = by_optax(reference, params, grads)
    _, found = steps(cell, params, grads)
    for name in params:
        np.testing.assert_allclose(found[name], wanted[name], rtol=2e-5, atol=2e-6)


def test_adam_descends() -> None:
    def loss(x: Array) -> Array:
        return jnp.sum((x - 3) ** 2)

    cell = LearnableAdam(0.1)
    x = jnp.zeros(4)
    state = cell.init(x)
    values = []
    for _ in range(100):
        value, grad = jax.value_and_grad(loss)(x)
        values.append(float(value))
        state, x = cell.step(state, x, grad)
    assert values[-1] < 1e-2 * values[0]


def test_a_change_of_a_hundredth_is_mild() -> None:
    x, grad = jnp.ones(3), jnp.asarray([0.5, -2.0, 1.0])
    cell = LearnableAdam(1e-3, 0.9, 0.999)
    moved = jax.tree_util.tree_map(lambda leaf: leaf + 0.01, cell)
    _, before = steps(cell, x, [grad] * 3)
    _, after = steps(moved, x, [grad] * 3)
    np.testing.assert_allclose(after - x, before - x, rtol=0.03)
    assert not np.allclose(after - x, before - x, rtol=1e-3)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: LearnableSGD(0.0), "`rate` must be positive, but 0.0"),
        (lambda: LearnableSGD(0.1, momentum=1.0), "`momentum` must be at least 0 and less than 1, but 1.0"),
        (lambda: LearnableAdam(b2=1.5), "`b2` must be at least 0 and less than 1, but 1.5"),
        (lambda: LearnableAdam(epsilon=-1.0), "`epsilon` must be positive, but -1.0"),
    ],
)
def test_impossible_numbers_are_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()
