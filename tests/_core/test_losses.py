"""The loss reaches a step as an array, whatever number it was."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metaopt


class Seeing(metaopt.AbstractAlgorithm[tuple, Any, Any]):
    """Returns the loss as its parameters."""

    def init(self, params: Any, *, key: Any = None) -> tuple:
        return ()

    def step(self, state: tuple, params: Any, grads: Any, *, value: jax.Array | None = None) -> tuple[tuple, Any]:
        return state, value


NUMBERS = {
    "float": 0.5,
    "integer": 2,
    "half": np.float16(0.5),
    "single": np.float32(0.5),
    "double": np.float64(0.5),
    "array": np.asarray(0.5, np.float32),
    "integer array": np.asarray(3),
    "jax": jnp.asarray(0.5),
    "brain": jnp.asarray(0.5, jnp.bfloat16),
}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS.keys())
def test_the_loss_is_an_array(number: Any) -> None:
    _, seen = Seeing().step((), None, None, value=number)
    assert isinstance(seen, jax.Array)
    assert jnp.issubdtype(seen.dtype, jnp.floating)
    assert (seen.shape, float(seen)) == ((), float(number))


def test_a_missing_loss_stays_missing() -> None:
    assert Seeing().step((), None, None)[1] is None


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("0.5", TypeError, "a `str` was given"),
        (True, TypeError, "a `bool` was given"),
        (1j, TypeError, "a `complex` was given"),
        (np.asarray(1j), TypeError, "its dtype is complex"),
        (jnp.ones(3), ValueError, r"its shape is \(3,\). Give the mean"),
    ],
)
def test_what_is_no_loss_is_refused(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Seeing().step((), None, None, value=value)


def test_a_bound_step_is_still_a_pytree_of_its_numbers() -> None:
    rule = metaopt.WeightDecay(Seeing(), 0.25)
    assert [float(x) for x in jax.tree_util.tree_leaves(rule.step)] == [0.25]
