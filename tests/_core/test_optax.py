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
from metaopt import l2o, multiobjective, schedules
from tests._cases import fast


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


@pytest.mark.parametrize("name", fast(list(FACTORIES), *(name for name in FACTORIES if name != "lbfgs")))
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", fast([n for n in FACTORIES if n != "schedule"], *(n for n in FACTORIES if n not in ("schedule", "lbfgs")))
)
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


def test_to_optax_refuses_what_it_cannot_do() -> None:
    tx: Any = metaopt.to_optax(metaopt.from_optax(optax.sgd, learning_rate=0.5))
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match=r"call `tx.update\(grads, state, params\)`"):
        tx.update(PARAMS, state)
    with pytest.raises(ValueError, match=r"No gradient for: `params\['b'\]`"):
        tx.update({"w": PARAMS["w"]}, state, PARAMS)


class Reshaping(metaopt.AbstractAlgorithm):
    """No algorithm: what comes out of its step is not what goes in."""

    def init(self, params: Any, *, key: Any = None) -> Any:
        return ()

    def step(self, state: Any, params: Any, grads: Any, *, value: Any = None) -> Any:
        return state, params[None]


def test_to_optax_refuses_parameters_of_another_shape() -> None:
    with pytest.raises(ValueError, match="`Reshaping` returned parameters of other structure or shapes"):
        metaopt.to_optax(Reshaping()).update(jnp.ones(2), jnp.ones(()), jnp.ones(2))


def test_to_optax_passes_over_what_is_meant_for_others() -> None:
    tx: Any = optax.chain(
        metaopt.to_optax(metaopt.from_optax(optax.sgd, learning_rate=1.5)), optax.scale_by_backtracking_linesearch(15)
    )

    def loss(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(x))

    @jax.jit
    def step(x: jax.Array, state: Any) -> Any:
        value, grad = jax.value_and_grad(loss)(x)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(x, updates), state

    x = jnp.asarray([3.0, -4.0])
    state = tx.init(x)
    for _ in range(5):
        x, state = step(x, state)
    # A step of 1.5 gradients makes the loss four times larger; the search makes it shorter.
    assert loss(x) < 0.1 * 25.0


def test_to_optax_has_zeros_where_optax_can_add_them() -> None:
    params: dict[str, Any] = {
        "w": jnp.ones(2),
        "still": jnp.asarray([1.0, jnp.inf, jnp.nan]),
        "count": jnp.arange(3),
        "flags": jnp.asarray([True, False]),
        "number": 2.5,
        "key": jr.key(0),
        "text": "layer",
        "none": None,
    }
    grads = jtu.tree_map(lambda _: None, params) | {"w": jnp.ones(2), "none": None}
    tx: Any = metaopt.to_optax(metaopt.from_optax(optax.sgd, learning_rate=0.5))
    updates, _ = tx.update(grads, tx.init(params), params)
    wanted = {"w": [-0.5, -0.5], "still": [0.0, 0.0, 0.0], "count": [0, 0, 0], "flags": [False, False], "number": 0.0}
    for leaf, update in wanted.items():
        np.testing.assert_array_equal(updates[leaf], update)
        assert jnp.asarray(updates[leaf]).dtype == jnp.asarray(params[leaf]).dtype
    assert [updates[leaf] for leaf in ("key", "text", "none")] == [None] * 3
    arrays = [leaf for leaf in wanted if leaf != "number"]
    new: Any = optax.apply_updates({leaf: params[leaf] for leaf in arrays}, {leaf: updates[leaf] for leaf in arrays})
    np.testing.assert_array_equal(new["still"], params["still"])
    assert new["flags"].dtype == bool


def test_what_a_guard_puts_back_has_an_update_of_zero() -> None:
    # The guard computes what it puts back, so that it is not the same object.
    params = {"w": jnp.ones(2), "mask": jnp.asarray([0.0, -jnp.inf])}
    tx: Any = metaopt.to_optax(metaopt.SkipNonFinite(metaopt.from_optax(optax.sgd, learning_rate=0.5)))
    updates, _ = tx.update({"w": jnp.ones(2), "mask": None}, tx.init(params), params)
    np.testing.assert_array_equal(updates["mask"], [0.0, 0.0])


SIGNALS: dict[str, Callable[[metaopt.Optax], metaopt.AbstractAlgorithm]] = {
    "mgda": multiobjective.MGDA,
    "weighted sum": lambda sgd: multiobjective.WeightedSum(sgd, weights=[0.7, 0.3]),
    "preference conditioned": multiobjective.PreferenceConditioned,
}


@pytest.mark.parametrize("name", SIGNALS)
def test_combiners_go_through_the_door(name: str) -> None:
    algorithm = SIGNALS[name](metaopt.from_optax(optax.sgd, learning_rate=0.1))
    tx: Any = metaopt.to_optax(algorithm)

    def objectives(params: Any) -> jax.Array:
        return jnp.stack([jnp.sum(jnp.square(params["w"] - 1.0)) + params["b"] ** 2, jnp.sum(jnp.square(params["w"]))])

    @jax.jit
    def both(params: Any) -> Any:
        signal = multiobjective.Gradients(jax.jacrev(objectives)(params), objectives(params))
        state = algorithm.init(params)
        updates, theirs = tx.update(signal, state, params)
        ours, stepped = algorithm.step(state, params, signal)
        return optax.apply_updates(params, updates), stepped, theirs, ours

    theirs, ours, *states = both(PARAMS)
    _close(theirs, ours)
    _close(*[eqx.filter(state, eqx.is_array) for state in states])
    assert jtu.tree_map(jnp.shape, theirs) == jtu.tree_map(jnp.shape, PARAMS)
    assert not eqx.tree_equal(theirs, PARAMS)


def test_residuals_go_through_the_door() -> None:
    # The residual of `x = cos(x)` is the signal, as `metaopt.fixed_point` gives it.
    mixing = metaopt.from_optax(optax.sgd, learning_rate=0.7)
    tx: Any = metaopt.to_optax(mixing)
    x: Any = jnp.asarray([0.2, 1.1])
    state, steps = tx.init(x), 12
    for _ in range(steps):
        updates, state = tx.update(x - jnp.cos(x), state, x)
        x = optax.apply_updates(x, updates)
    wanted = metaopt.fixed_point(jnp.cos, mixing, jnp.asarray([0.2, 1.1]), steps=steps)
    np.testing.assert_allclose(x, wanted.params, rtol=1e-6)


def test_residuals_of_another_shape_go_through_the_door() -> None:
    # Two measurements of three unknowns.
    rule = l2o.ISTA(jnp.asarray([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]), 0.01)
    x, residual = jnp.zeros(3), jnp.asarray([0.3, -0.4])
    tx: Any = metaopt.to_optax(rule)
    updates, _ = tx.update(residual, tx.init(x), x)
    np.testing.assert_allclose(updates, rule.step(rule.init(x), x, residual)[1], rtol=1e-6)


def test_a_horizon_that_nobody_gave_is_told() -> None:
    adam = metaopt.from_optax(optax.adam, learning_rate=0.1)
    untold = metaopt.ClipByGlobalNorm(schedules.Cosine(adam))
    with pytest.warns(metaopt.MissingHorizonWarning, match=r"`ClipByGlobalNorm` plans ahead \(in `Cosine`\).*1000"):
        metaopt.to_optax(untold)
    # As loading does, and copying: the leaf is another array then.
    loaded = eqx.tree_at(lambda a: a.inner.horizon, untold, jnp.asarray(1000, jnp.int32))
    with pytest.warns(metaopt.MissingHorizonWarning):
        metaopt.to_optax(loaded)
    told = [metaopt.with_horizon(loaded, 1000), metaopt.with_horizon(untold, 999)]
    told += [schedules.Cosine(adam, horizon=1000), schedules.Cosine(adam, horizon=20), adam]
    for algorithm in told:
        metaopt.to_optax(algorithm)


def test_a_loss_that_nobody_gave_is_missed(getkey: Callable[[], jax.Array]) -> None:
    rule = l2o.CeloAdam(scheduler_size=4)
    tx: Any = metaopt.to_optax(metaopt.ClipByGlobalNorm(metaopt.with_horizon(rule, 10)))
    state = tx.init(PARAMS)
    with pytest.warns(metaopt.MissingValueWarning, match="`CeloAdam` looks at the loss.*TrainState.apply_gradients"):
        jax.eval_shape(tx.update, PARAMS, state, PARAMS)
    with pytest.warns(metaopt.MissingValueWarning) as caught:
        jax.eval_shape(lambda: tx.update(PARAMS, state, PARAMS))
    # It points at the loop of the user.
    assert [one.filename for one in caught] == [__file__]
    jax.eval_shape(lambda: tx.update(PARAMS, state, PARAMS, value=2.0))
