"""Decay towards the start, against closed forms."""

import jax.numpy as jnp
import numpy as np
import optax

import metaopt
from metaopt.meta import DecayToStart


def test_by_hand():
    algorithm = DecayToStart(metaopt.from_optax(optax.sgd, learning_rate=1.0), 0.25)
    params = {"a": jnp.asarray([1.0, 2.0]), "b": jnp.ones(2)}
    state = algorithm.init(params)
    seen = []
    for grad in ([-4.0, 0.0], [0.0, 0.0], [0.0, 0.0]):
        state, params = algorithm.step(state, params, {"a": jnp.asarray(grad), "b": None})
        seen.append(float(params["a"][0]))
    assert seen == [5.0, 4.0, 3.25]
    np.testing.assert_array_equal(params["b"], 1.0)
    assert params["a"][1] == 2


def test_it_settles_between_start_and_minimum():
    """Gradient descent at rate a on x^2 / 2 from 1 settles where a x = rate (1 - x)."""
    algorithm = DecayToStart(metaopt.from_optax(optax.sgd, learning_rate=0.1), 0.3)
    params = jnp.ones(())
    state = algorithm.init(params)
    for _ in range(60):
        state, params = algorithm.step(state, params, params)
    np.testing.assert_allclose(params, 0.75, rtol=1e-5)
