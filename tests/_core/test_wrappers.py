"""Wrappers against closed forms."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metaopt
from metaopt._core.arrays._trees import global_norm

from .problems import Descent


PARAMS = {"a": jnp.asarray([1.0, 2.0]), "b": jnp.asarray(-1.0), "name": "layer"}
GRADS = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray(4.0), "name": None}


def _step(algorithm: metaopt.AbstractAlgorithm, params: Any, grads: Any) -> Any:
    return algorithm.step(algorithm.init(params), params, grads)[1]


def test_a_long_gradient_is_clipped() -> None:
    new = _step(metaopt.ClipByGlobalNorm(Descent(1.0), 2.5), PARAMS, GRADS)
    np.testing.assert_allclose(new["a"], [1.0 - 1.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(new["b"], -1.0 - 2.0, rtol=1e-6)


def test_a_short_gradient_is_not_clipped() -> None:
    new = _step(metaopt.ClipByGlobalNorm(Descent(1.0), 5.0), PARAMS, GRADS)
    np.testing.assert_array_equal(new["a"], [-2.0, 2.0])


def test_clipping_agrees_with_optax() -> None:
    arrays = [eqx.filter(tree, eqx.is_array) for tree in (PARAMS, GRADS)]
    inner = optax.adam(0.1)
    ours = metaopt.ClipByGlobalNorm(metaopt.from_optax(inner), 0.3)
    theirs = metaopt.from_optax(optax.chain(optax.clip_by_global_norm(0.3), inner))
    np.testing.assert_allclose(_step(ours, *arrays)["a"], _step(theirs, *arrays)["a"], rtol=1e-6)


def test_clipping_in_half_precision_neither_overflows_nor_changes_dtype() -> None:
    params = jnp.zeros(4, jnp.float16)
    new = _step(metaopt.ClipByGlobalNorm(Descent(1.0), 2.0), params, jnp.full(4, 3e4, jnp.float16))
    assert new.dtype == jnp.float16
    np.testing.assert_allclose(new, -jnp.ones(4), rtol=1e-3)


@pytest.mark.parametrize("scale", [0.0, 0.1, 10.0])
def test_clipping_is_differentiable(scale: float) -> None:
    grads = scale * jnp.asarray([0.6, 0.8])

    def moved(max_norm: jax.Array, grads: jax.Array) -> jax.Array:
        return _step(metaopt.ClipByGlobalNorm(Descent(1.0), max_norm), jnp.zeros(2), grads)[0]

    by_norm, by_grads = jax.grad(moved, argnums=(0, 1))(jnp.asarray(1.0), grads)
    np.testing.assert_allclose(by_norm, -0.6 if scale > 1 else 0.0, rtol=1e-6)
    # Where it clips, g / |g| turns with g: the Jacobian is (I - u u^T) / |g|.
    wanted = -np.asarray([1 - 0.36, -0.48]) / 10 if scale > 1 else [-1.0, 0.0]
    np.testing.assert_allclose(by_grads, wanted, rtol=1e-5)


def test_weight_decay_shrinks_towards_zero() -> None:
    new = _step(metaopt.WeightDecay(Descent(0.0), 0.25), PARAMS, GRADS)
    np.testing.assert_array_equal(new["a"], [0.75, 1.5])
    assert new["b"] == -0.75 and new["name"] == "layer"


def test_weight_decay_around_adam_is_adamw() -> None:
    arrays = [eqx.filter(tree, eqx.is_array) for tree in (PARAMS, GRADS)]
    ours = metaopt.WeightDecay(metaopt.from_optax(optax.adam(0.1)), 0.1 * 0.05)
    theirs = metaopt.from_optax(optax.adamw(0.1, weight_decay=0.05))
    np.testing.assert_allclose(_step(ours, *arrays)["a"], _step(theirs, *arrays)["a"], rtol=1e-6)


def test_weight_decay_spares_what_has_no_gradient() -> None:
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    new = _step(metaopt.WeightDecay(metaopt.from_optax(optax.sgd(0.5)), 0.5), params, {"a": jnp.ones(2), "b": None})
    np.testing.assert_array_equal(new["a"], [0.0, 0.0])
    assert new["b"] is params["b"]


def test_weight_decay_is_rounded_once() -> None:
    params, grads = jnp.linspace(-3.0, 3.1, 64).astype(jnp.bfloat16), jnp.full(64, 2**-7, jnp.bfloat16)
    proposed = _step(Descent(1.0), params, grads)
    new = _step(metaopt.WeightDecay(Descent(1.0), 0.3217), params, grads)
    decay = np.float32(0.3217) * np.asarray(params, np.float32)
    wanted = (np.asarray(proposed, np.float32) - decay).astype(jnp.bfloat16)
    np.testing.assert_array_equal(new, wanted)
    assert np.any(wanted != np.asarray(proposed) - decay.astype(jnp.bfloat16))


BAD = {
    "nan gradient": (Descent(0.1), jnp.asarray([jnp.nan, 1.0])),
    "infinite gradient": (Descent(0.1), jnp.asarray([jnp.inf, 1.0])),
    "infinite step": (Descent(1e38), jnp.asarray([1e3, 1.0])),
}


@pytest.mark.parametrize("name", BAD)
def test_steps_that_are_not_finite_are_left_out_and_counted(name: str) -> None:
    inner, bad = BAD[name]
    algorithm = metaopt.SkipNonFinite(inner)
    params = jnp.ones(2)
    state = algorithm.init(params)
    state, new = algorithm.step(state, params, bad)
    np.testing.assert_array_equal(new, params)
    assert state.skipped == 1
    state, _ = algorithm.step(state, new, jnp.full(2, 1e-3))
    assert state.skipped == 1


def test_what_is_left_out_leaves_no_trace_in_the_state() -> None:
    adam = metaopt.from_optax(optax.adam(0.1))
    algorithm = metaopt.SkipNonFinite(adam)
    params = jnp.ones(2)
    state = algorithm.init(params)
    for grads in (jnp.asarray([0.5, jnp.nan]), jnp.asarray([0.5, -1.0]), jnp.asarray([jnp.inf, 0.0])):
        state, params = algorithm.step(state, params, grads)
    wanted = adam.step(adam.init(jnp.ones(2)), jnp.ones(2), jnp.asarray([0.5, -1.0]))
    assert eqx.tree_equal((state.inner, params), wanted)
    assert state.skipped == 2


def test_an_infinite_parameter_that_nobody_trains_does_not_count() -> None:
    params = {"w": jnp.ones(2), "mask": jnp.asarray([0.0, -jnp.inf])}
    new = _step(metaopt.SkipNonFinite(metaopt.from_optax(optax.sgd(0.5))), params, {"w": jnp.ones(2), "mask": None})
    np.testing.assert_array_equal(new["w"], [0.5, 0.5])
    np.testing.assert_array_equal(new["mask"], params["mask"])


def test_each_member_of_a_batch_skips_for_itself() -> None:
    algorithm = metaopt.SkipNonFinite(Descent(1.0))
    grads = jnp.asarray([[1.0], [jnp.nan], [2.0]])
    states, new = jax.vmap(lambda g: algorithm.step(algorithm.init(jnp.zeros(1)), jnp.zeros(1), g))(grads)
    np.testing.assert_array_equal(new, [[-1.0], [0.0], [-2.0]])
    np.testing.assert_array_equal(states.skipped, [0, 1, 0])


def test_wrappers_nest() -> None:
    algorithm = metaopt.SkipNonFinite(metaopt.ClipByGlobalNorm(metaopt.WeightDecay(Descent(1.0), 0.5), 1.0))
    np.testing.assert_allclose(_step(algorithm, jnp.asarray(1.0), jnp.asarray(9.0)), -0.5)
    np.testing.assert_array_equal(_step(algorithm, jnp.asarray(1.0), jnp.asarray(jnp.nan)), 1.0)


def test_limits_and_rates_are_leaves() -> None:
    assert len(jax.tree_util.tree_leaves(metaopt.ClipByGlobalNorm(Descent(1.0)))) == 2
    assert len(jax.tree_util.tree_leaves(metaopt.WeightDecay(Descent(1.0)))) == 2


ADAM = metaopt.from_optax(optax.adam(0.1))
HEALTHY = jnp.asarray([0.5, -1.0])


def _after(algorithm: metaopt.AbstractAlgorithm, signals: Any, values: Any = None) -> Any:
    params = jnp.ones(2)
    state = algorithm.init(params)
    for grads, value in zip(signals, [None] * len(signals) if values is None else values, strict=True):
        state, params = algorithm.step(state, params, grads, value=None if value is None else jnp.asarray(value))
    return state, params


@pytest.mark.parametrize("bad", [1e30, -1e30, 65504.0, jnp.nan, jnp.inf])
def test_a_jump_is_left_out_like_what_is_not_finite(bad: float) -> None:
    state, params = _after(metaopt.SkipNonFinite(ADAM), [HEALTHY, jnp.asarray([bad, 0.1]), HEALTHY])
    assert eqx.tree_equal((state.inner, params), _after(ADAM, [HEALTHY, HEALTHY]))
    assert state.skipped == 1 and state.jumps == int(bad == 65504)  # squares of the others are not finite


def test_a_finite_gradient_that_makes_the_state_infinite_is_left_out_even_first() -> None:
    state, params = _after(metaopt.SkipNonFinite(ADAM), [jnp.asarray([1e30, 0.1]), HEALTHY])
    assert eqx.tree_equal((state.inner, params), _after(ADAM, [HEALTHY]))
    assert state.skipped == 1 and state.jumps == 0


@pytest.mark.parametrize("bad", [jnp.nan, -jnp.inf, 1e30, -1e30])
def test_a_bad_loss_is_left_out(bad: float) -> None:
    state, params = _after(metaopt.SkipNonFinite(ADAM), [HEALTHY] * 3, [0.3, bad, 0.2])
    assert eqx.tree_equal((state.inner, params), _after(ADAM, [HEALTHY] * 2))
    assert state.skipped == 1


def test_a_change_of_scale_is_let_through() -> None:
    """After as many steps as there are orders of magnitude beyond the limit."""
    signals = [HEALTHY] + [1e7 * HEALTHY] * 10
    state, _ = _after(metaopt.SkipNonFinite(Descent(1e-9)), signals)
    assert state.skipped == state.jumps == 4
    state, _ = _after(metaopt.SkipNonFinite(Descent(1e-9), jump=None), signals)
    assert state.skipped == 0


def test_what_is_no_jump() -> None:
    """Gradients that begin at zero, fall by ten orders, rest at zero or come from time to time; losses around zero."""
    zero, steps = jnp.zeros(2), 200
    falling = [0.8**t * HEALTHY for t in range(steps)]
    rare = [HEALTHY if t % 50 == 3 else zero for t in range(steps)]
    for signals in ([zero, zero, *falling], rare):
        state, _ = _after(metaopt.SkipNonFinite(Descent(0.1)), signals)
        assert state.skipped == 0
    values = [1e-9, -0.7, 0.0, 300.0, -1e-12, 5.0]
    assert _after(metaopt.SkipNonFinite(Descent(0.1)), [HEALTHY] * 6, values)[0].skipped == 0


def test_jumps_in_other_kinds_of_signals() -> None:
    params = {"half": jnp.ones(2, jnp.float16), "complex": jnp.ones(2, jnp.complex64), "none": jnp.ones(2), "n": 3}
    grads = {"half": jnp.ones(2, jnp.float16), "complex": jnp.full(2, 1 + 1j, jnp.complex64), "none": None, "n": None}
    algorithm = metaopt.SkipNonFinite(metaopt.from_optax(optax.sgd(0.1)))
    state, params = algorithm.step(algorithm.init(params), params, grads)
    assert state.skipped == 0
    for name, bad in (("half", 65504.0), ("complex", 1e30j)):
        _, new = algorithm.step(state, params, grads | {name: grads[name].at[0].set(bad)})
        np.testing.assert_array_equal(new["half"], params["half"])


def test_a_jump_is_more_than_one() -> None:
    with pytest.raises(ValueError, match="`jump` must be above 1, but 0.5"):
        metaopt.SkipNonFinite(ADAM, jump=0.5)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_norms_neither_overflow_nor_vanish(scale: float) -> None:
    """So that what is too long for squares in single precision is still clipped to the norm that was asked for."""
    new = _step(metaopt.ClipByGlobalNorm(Descent(1.0), 2.5 * scale), {"a": jnp.zeros(2)}, {"a": scale * GRADS["a"]})
    np.testing.assert_allclose(new["a"] / scale, [-2.5, 0.0], rtol=1e-6)
    norm = global_norm({"a": scale * jnp.asarray([3.0, 4.0])})
    np.testing.assert_allclose(norm / scale, 5.0, rtol=1e-6)
