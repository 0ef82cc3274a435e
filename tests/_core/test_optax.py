"""The two doors between optax and metaopt."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest

import metaopt


PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.asarray(0.5)}
GRADS = [jtu.tree_map(lambda p, s=s: jnp.sin(3.0 * p + s), PARAMS) for s in range(4)]


def clipped(learning_rate: Any, max_norm: Any) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.scale_by_adam(), optax.scale(-learning_rate))


FACTORIES: dict[str, tuple[Callable[..., optax.GradientTransformation], dict[str, Any]]] = {
    "sgd": (optax.sgd, {"learning_rate": 0.1}),
    "momentum": (optax.sgd, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (optax.adam, {"learning_rate": 0.01, "b1": 0.8}),
    "adamw": (optax.adamw, {"learning_rate": 0.01, "weight_decay": 0.1}),
    "chain": (clipped, {"learning_rate": 0.02, "max_norm": 0.5}),
    "schedule": (optax.adam, {"learning_rate": optax.cosine_decay_schedule(0.1, 10)}),
    "lbfgs": (optax.lbfgs, {"learning_rate": 0.3, "linesearch": None}),
    "polyak": (optax.polyak_sgd, {"max_learning_rate": 0.7, "f_min": 0.1}),
}


DOUBLES = jtu.tree_map(np.float64, [PARAMS, GRADS])


def _loop(tx: optax.GradientTransformation) -> Any:
    params, tx = PARAMS, optax.with_extra_args_support(tx)
    with jax.numpy_dtype_promotion("standard"):
        state = tx.init(params)
        for t, grads in enumerate(GRADS):
            updates, state = tx.update(grads, state, params, value=jnp.asarray(2.0 - 0.1 * t))
            params = optax.apply_updates(params, updates)
    return params


def _metaopt_loop(algorithm: metaopt.AbstractAlgorithm, params: Any = PARAMS, signals: Any = GRADS) -> Any:
    state = algorithm.init(params)
    for t, grads in enumerate(signals):
        state, params = algorithm.step(state, params, grads, value=jnp.asarray(2.0 - 0.1 * t))
    return params


def _close(a: Any, b: Any, rtol: float = 1e-6, atol: float = 1e-7) -> None:
    assert jtu.tree_structure(a) == jtu.tree_structure(b)
    jtu.tree_map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def test_ready_transformation_is_exactly_optax() -> None:
    tx = optax.adamw(0.01)
    assert eqx.tree_equal(_metaopt_loop(metaopt.from_optax(tx)), _loop(tx))


@pytest.mark.parametrize("name", FACTORIES)
def test_both_forms_equal_optax(name: str) -> None:
    factory, hyperparameters = FACTORIES[name]
    tx = factory(**hyperparameters)
    algorithm = metaopt.from_optax(factory, **hyperparameters)
    floats = {name for name, number in hyperparameters.items() if isinstance(number, float)}
    assert set(algorithm.hyperparameters) == floats
    wanted = jax.jit(lambda: _loop(tx))()
    _close(eqx.filter_jit(_metaopt_loop)(metaopt.from_optax(tx)), wanted)
    _close(eqx.filter_jit(_metaopt_loop)(algorithm), wanted)


def test_ready_transformation_has_no_leaves() -> None:
    tx = optax.adam(1e-3)
    assert jtu.tree_leaves(metaopt.from_optax(tx)) == []
    assert jtu.tree_structure(metaopt.from_optax(tx)) == jtu.tree_structure(metaopt.from_optax(tx))
    assert jtu.tree_structure(metaopt.from_optax(tx)) != jtu.tree_structure(metaopt.from_optax(optax.adam(1e-3)))


def test_another_hyperparameter_is_not_another_program() -> None:
    traces = []

    @eqx.filter_jit
    def run(algorithm: metaopt.Optax) -> Any:
        traces.append(1)
        return _metaopt_loop(algorithm)

    slow, fast = (run(metaopt.from_optax(optax.sgd, learning_rate=rate)) for rate in (0.1, 0.2))
    assert len(traces) == 1
    assert not eqx.tree_equal(slow, fast)


@pytest.mark.parametrize("name", [name for name in FACTORIES if name != "schedule"])
@pytest.mark.usefixtures("x64")
def test_hyperparameters_are_differentiable(name: str) -> None:
    factory, hyperparameters = FACTORIES[name]
    algorithm = metaopt.from_optax(factory, **hyperparameters)
    params, grads = jtu.tree_map(jnp.asarray, DOUBLES)

    def total(numbers: dict[str, Any]) -> Any:
        final = _metaopt_loop(eqx.tree_at(lambda a: a.hyperparameters, algorithm, numbers), params, grads)
        return sum(jnp.sum(jnp.sin(x)) for x in jtu.tree_leaves(final))

    total = jax.jit(total)
    numbers = algorithm.hyperparameters
    # The derivative of a float to an integer power, which optax takes, is itself not strict within a compiled function.
    with jax.numpy_dtype_promotion("standard"):
        found = jax.grad(total)(numbers)
    for name, number in numbers.items():
        up, down = (total(numbers | {name: number + step}) for step in (1e-5, -1e-5))
        np.testing.assert_allclose(found[name], (up - down) / 2e-5, rtol=1e-4, atol=1e-8)
    assert any(abs(g) > 1e-6 for g in found.values())


def test_vmap_over_rates_is_a_loop() -> None:
    def final(rate: Any) -> Any:
        return _metaopt_loop(metaopt.from_optax(optax.adam, learning_rate=rate))

    rates = jnp.asarray([1e-3, 1e-2, 1e-1])
    batched, final = jax.jit(jax.vmap(final))(rates), jax.jit(final)
    _close(batched, jtu.tree_map(lambda *x: jnp.stack(x), *[final(rate) for rate in rates]))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_updated_in_single_and_rounded_once(dtype: Any) -> None:
    params = jnp.asarray([1.0, -0.3, 40.0], dtype)
    grads = jnp.asarray([1e-3, 0.7, -0.02], dtype)
    algorithm = metaopt.from_optax(optax.adam, learning_rate=0.01)
    single = params.astype(jnp.float32), grads.astype(jnp.float32)
    state, new = algorithm.step(algorithm.init(params), params, grads)
    wanted_state, wanted = algorithm.step(algorithm.init(single[0]), *single)
    assert new.dtype == dtype
    assert eqx.tree_equal(state, wanted_state)
    np.testing.assert_array_equal(new, wanted.astype(dtype))


def test_mixed_precision_keeps_dtypes_under_strict_promotion() -> None:
    params = {"h": jnp.ones(2, jnp.float16), "b": jnp.ones(2, jnp.bfloat16), "s": jnp.ones(2), "c": jnp.full(2, 1j)}
    algorithm = metaopt.from_optax(optax.adam, learning_rate=0.5)
    state, new = algorithm.step(algorithm.init(params), params, params)
    assert jtu.tree_map(lambda x: x.dtype, new) == jtu.tree_map(lambda x: x.dtype, params)
    wanted = {"h": 0.5, "b": 0.5, "s": 0.5, "c": 0.5j}
    jtu.tree_map(lambda x, y: np.testing.assert_allclose(np.asarray(x, complex), y, rtol=1e-2), new, wanted)
    assert all(x.dtype in (jnp.float32, jnp.complex64, jnp.int32) for x in jtu.tree_leaves(state))


def test_missing_gradients_leave_parameters_alone() -> None:
    params = {"w": jnp.ones(2), "b": jnp.asarray([jnp.inf]), "name": "layer", "fn": jax.nn.relu, "n": jnp.arange(3)}
    grads = {"w": jnp.ones(2), "b": None, "name": None, "fn": None, "n": None}
    algorithm = metaopt.from_optax(optax.adamw, learning_rate=0.1)
    _, new = algorithm.step(algorithm.init(params), params, grads)
    assert {name: new[name] is params[name] for name in params} == {name: name != "w" for name in params}
    assert jnp.all(new["w"] < 1.0)


def test_numpy_parameters_become_jax_arrays() -> None:
    params, grads = np.ones(2, np.float32), np.asarray([1.0, -1.0], np.float32)
    algorithm = metaopt.from_optax(optax.sgd, learning_rate=0.5)
    _, new = algorithm.step(algorithm.init(params), params, grads)
    assert isinstance(new, jax.Array)
    np.testing.assert_array_equal(new, [0.5, 1.5])


NOT_ALGORITHMS = {
    "ready with numbers": (lambda: metaopt.from_optax(optax.adam(0.1), b1=0.9), "Pass the factory instead"),
    "a number": (lambda: metaopt.from_optax(0.1), "but a `float` was given|Actual value: 0.1"),  # pyright: ignore[reportArgumentType]
    "a typo": (lambda: metaopt.from_optax(optax.adam, learning_rat=0.1), "unexpected keyword.*learning_rat"),
    "not enough": (lambda: metaopt.from_optax(optax.adam, b1=0.1), "learning_rate"),
    "a schedule": (lambda: metaopt.from_optax(optax.constant_schedule, value=0.1), "returns a `function`"),  # pyright: ignore[reportArgumentType]
}


@pytest.mark.parametrize("case", NOT_ALGORITHMS.values(), ids=NOT_ALGORITHMS.keys())
def test_from_optax_refuses(case: tuple[Callable[[], Any], str]) -> None:
    make, message = case
    with pytest.raises(TypeError, match=message):
        make()


def _loss(model: eqx.nn.MLP, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(jax.vmap(model)(x) - y))


@pytest.mark.parametrize("apply", [eqx.apply_updates, optax.apply_updates])
def test_to_optax_in_a_loop_equals_stepping(apply: Callable[..., Any], getkey: Callable[[], jax.Array]) -> None:
    algorithm = metaopt.from_optax(optax.adamw, learning_rate=0.05)
    model = eqx.nn.MLP(2, 1, 8, 1, key=getkey())
    params, static = eqx.partition(model, eqx.is_inexact_array)
    x = jr.normal(getkey(), (16, 2))
    y = jnp.sum(jnp.square(x), axis=1, keepdims=True)
    tx = metaopt.to_optax(algorithm)
    loss_and_grad = eqx.filter_jit(eqx.filter_value_and_grad(lambda p: _loss(eqx.combine(p, static), x, y)))

    update, step = jax.jit(tx.update), eqx.filter_jit(algorithm.step)

    theirs, their_state = params, tx.init(params)
    ours, our_state = params, algorithm.init(params)
    for _ in range(5):
        loss, grads = loss_and_grad(theirs)
        updates, their_state = update(grads, their_state, theirs, value=loss)
        theirs = apply(theirs, updates)
        loss, grads = loss_and_grad(ours)
        our_state, ours = step(our_state, ours, grads, value=loss)
    _close(theirs, ours, rtol=1e-4, atol=1e-6)
    assert loss_and_grad(theirs)[0] < 0.9 * _loss(model, x, y)


def test_to_optax_chains_and_takes_whole_models(getkey: Callable[[], jax.Array]) -> None:
    model: Any = eqx.nn.MLP(2, 1, 8, 1, key=getkey())
    tx = optax.chain(optax.scale(2.0), metaopt.to_optax(metaopt.from_optax(optax.sgd, learning_rate=0.5)))
    grads = eqx.filter_grad(_loss)(model, jnp.ones((1, 2)), jnp.ones((1, 1)))
    updates, _ = tx.update(grads, tx.init(model), model)
    _close(eqx.filter(updates, eqx.is_array), jtu.tree_map(lambda g: -g, grads))
    assert eqx.apply_updates(model, updates).activation is model.activation


def test_to_optax_passes_the_key_and_the_value() -> None:
    class Greedy(metaopt.AbstractAlgorithm):
        def init(self, params: Any, *, key: Any = None) -> Any:
            return key

        def step(self, state: Any, params: Any, grads: Any, *, value: Any = None) -> Any:
            return state, params - value * grads

    key = jr.key(3)
    tx = metaopt.to_optax(Greedy(), key=key)
    state = tx.init(jnp.ones(2))
    assert state == key and state is not key
    updates, _ = tx.update(jnp.ones(2), state, jnp.ones(2), value=jnp.asarray(0.25))
    np.testing.assert_array_equal(updates, [-0.25, -0.25])


def test_to_optax_refuses_what_it_would_ignore() -> None:
    tx = metaopt.to_optax(metaopt.from_optax(optax.sgd, learning_rate=0.5))
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match=r"call `tx.update\(grads, state, params\)`"):
        tx.update(PARAMS, state)
    with pytest.raises(TypeError, match="valeu"):
        tx.update(PARAMS, state, PARAMS, valeu=jnp.ones(()))
    with pytest.raises(ValueError, match=r"No gradient for: `params\['b'\]`"):
        tx.update({"w": PARAMS["w"]}, state, PARAMS)
