"""Two steps of an algorithm, in several ways that must agree. Compiled programs are shared by all laws."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu

import metaopt


def init(algorithm: metaopt.AbstractAlgorithm, params: Any) -> Any:
    return algorithm.init(params, key=jr.key(0))


def step(algorithm: metaopt.AbstractAlgorithm, state: Any, params: Any, grads: Any, value: Any) -> tuple[Any, Any]:
    return algorithm.step(state, params, grads, value=value)


jit_init, jit_step = eqx.filter_jit(init), eqx.filter_jit(step)


def two_steps(
    algorithm: metaopt.AbstractAlgorithm,
    params: Any,
    signals: Any,
    *,
    init: Callable[..., Any] = jit_init,
    step: Callable[..., Any] = jit_step,
) -> tuple[Any, Any]:
    """State and parameters after two steps; `signals` is a pair of gradients."""
    state = init(algorithm, params)
    for t, grads in enumerate(signals):
        state, params = step(algorithm, state, params, grads, jnp.asarray(1.5 - t))
    return state, params


@eqx.filter_jit
def scanned(algorithm: metaopt.AbstractAlgorithm, params: Any, signals: Any) -> tuple[Any, Any]:
    """The same inside `jax.lax.scan`."""

    def body(carry: Any, x: Any) -> tuple[Any, None]:
        return step(algorithm, *carry, *x), None

    stacked = jtu.tree_map(lambda *x: jnp.stack(x), *signals)
    values = jnp.asarray([1.5, 0.5])
    return jax.lax.scan(body, (init(algorithm, params), params), (stacked, values))[0]
