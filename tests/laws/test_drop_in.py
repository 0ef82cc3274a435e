"""Every algorithm trains a user's Equinox model in an ordinary optax loop."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import pytest

import metaopt

from .algorithms import DESCENDING, FEW, make
from .trees import all_finite


MODEL_KEY, DATA_KEY = 0, 1
STEPS = 25


@eqx.filter_jit
def _loss_and_grads(params: Any, static: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Any]:
    def loss(params: Any) -> jax.Array:
        return jnp.mean(jnp.square(jax.vmap(eqx.combine(params, static))(x) - y))

    return eqx.filter_value_and_grad(loss)(params)


@pytest.mark.parametrize("name", FEW)
def test_drop_in_for_optax(name: str) -> None:
    model = eqx.nn.MLP(2, 1, 16, 1, key=jr.key(MODEL_KEY))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    x = jr.normal(jr.key(DATA_KEY), (64, 2))
    y = jnp.prod(x, axis=1, keepdims=True)
    tx = metaopt.to_optax(metaopt.with_horizon(make(name), STEPS), key=jr.key(0))
    state, update = tx.init(params), jax.jit(tx.update)
    losses = []
    for _ in range(STEPS):
        loss, grads = _loss_and_grads(params, static, x, y)
        updates, state = update(grads, state, params, value=loss)
        params = optax.apply_updates(params, updates)
        losses.append(loss)
    assert all_finite((params, state))
    if name in DESCENDING:
        assert losses[-1] < 0.999 * losses[0]
