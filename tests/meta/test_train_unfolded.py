from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt.l2o import ALISTA, LISTACP
from metaopt.meta import train_unfolded
from metaopt.schedules import Cosine
from metaopt.tasks import SparseCoding


FAMILY = SparseCoding(15, 25, density=0.1, signal="residual")
OUTER = Cosine(metaopt.from_optax(optax.adam, learning_rate=0.03))


def _error(rule: Any, steps: int) -> float:
    """The mean squared error over held-out tasks, relative to that of zero, in decibels."""

    @eqx.filter_jit
    def run(rule: Any) -> Any:
        def one(key: jax.Array) -> Any:
            task = FAMILY.sample(key=key)
            found = metaopt.unroll(metaopt.Learner(rule), task, steps=steps, key=key).params
            return task.measure(found, key=key), jnp.sum(task.code**2)

        return jax.vmap(one)(jr.split(jr.key(99), 200))

    error, size = run(rule)
    return float(10 * jnp.log10(jnp.sum(error) / jnp.sum(size)))


@pytest.mark.slow
@pytest.mark.parametrize("rule", [ALISTA(FAMILY.dictionary, 3), LISTACP(FAMILY.dictionary, 3, tied=True)])
def test_layers_are_trained_one_after_the_other(rule: Any) -> None:
    trained = train_unfolded(rule, FAMILY, outer=OUTER, steps=60, tasks=32, key=jr.key(0), progress=False)
    assert jax.tree.structure(trained) == jax.tree.structure(rule)
    errors = [_error(trained, steps) for steps in (1, 2, 3)]
    assert errors[2] < errors[1] < errors[0] < 0
    assert errors[2] < _error(rule, 3) - 2
    if isinstance(rule, ALISTA):
        np.testing.assert_array_equal(trained.weights, rule.weights)


@pytest.mark.slow
def test_stages_may_have_steps_of_their_own() -> None:
    rule = ALISTA(FAMILY.dictionary, 2)
    given: dict[str, Any] = dict(outer=OUTER, tasks=4, key=jr.key(0), progress=False)
    trained = train_unfolded(rule, FAMILY, steps=(1, 2), **given)
    assert trained.depth == 2 and not eqx.tree_equal(trained.layers, rule.layers)
    with pytest.raises(ValueError, match="one for each of 2 layers, but 3 were given"):
        train_unfolded(rule, FAMILY, steps=[1, 2, 3], **given)
    with pytest.raises(TypeError, match="algorithms with layers, but a `Optax` was given"):
        train_unfolded(OUTER.inner, FAMILY, steps=1, **given)
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        train_unfolded(rule, FAMILY, steps=0, **given)
