"""What optax asks of its own optimizers holds for every algorithm that comes through `to_optax`."""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import optax.contrib
import pytest

import metaopt
from tests._cases import fast

from .algorithms import DESCENDING, EXAMPLES, NAMES, NEEDS_VALUE, OPTIONS, make
from .trees import all_finite, assert_close


# They look at the loss where there is one, and are none the worse where there is none.
ONLY_CHECK_VALUE = {"skip_non_finite"}

# Hand-designed rules that find a minimum with a suitable rate; what they wrap has rate 0.1 here.
CONVERGING = {
    "sgd": {"learning_rate": 0.1},
    "momentum": {"learning_rate": 0.03, "nesterov": True},
    "adam": {"learning_rate": 0.1},
    "adamw": {"learning_rate": 0.1},
    "clip_by_global_norm": {"inner": {"name": "sgd", "learning_rate": 0.1}},
    "skip_non_finite": {"inner": {"name": "sgd", "learning_rate": 0.1}},
    "weight_decay": {"inner": {"name": "sgd", "learning_rate": 0.1}},
    "cosine": {"inner": {"name": "sgd", "learning_rate": 0.1}},
    "linear_decay": {"inner": {"name": "sgd", "learning_rate": 0.1}},
    "hypergradient": {"inner": {"name": "sgd", "learning_rate": 0.03}},
    "plateau": {"inner": {"name": "sgd", "learning_rate": 0.1}, "patience": 20},
    "policy": {"inner": {"name": "sgd", "learning_rate": 0.1}},
    "safeguarded": {"inner": {"name": "adam", "learning_rate": 0.1}, "fallback": {"name": "sgd", "learning_rate": 0.1}},
    "loss_guarded": {"inner": {"name": "sgd", "learning_rate": 0.2}, "fallback": {"name": "sgd", "learning_rate": 0.1}},
}

LINE, MATRIX = jnp.asarray([1.0, -1.0, 2.0]), jnp.asarray([[3.0, -2.0], [1.0, 4.0]])


def _parabola(params: Any) -> jax.Array:
    return jnp.sum(jnp.square(params["line"] - LINE)) + jnp.sum(jnp.square(params["matrix"] - MATRIX))


def _transformation(name: str) -> Any:
    return metaopt.to_optax(metaopt.with_horizon(make(name), 100), key=jr.key(0))


def _signature(tree: Any) -> Any:
    leaves, structure = jtu.tree_flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


@pytest.mark.parametrize("name", OPTIONS)
def test_states_and_updates_keep_shapes_and_dtypes(name: str) -> None:
    tx = _transformation(name)

    def step(params: Any) -> Any:
        state = tx.init(params)

        def update() -> Any:
            # The loss comes in a precision of its own, beside arguments for others, within a branch.
            value = jnp.ones((), jnp.bfloat16)
            return tx.update(params, state, params, value=value, grad=params, value_fn=jnp.sum, surplus=1)

        updates, new = jax.lax.cond(jnp.sum(params["w"]) > 0, update, lambda: (params, state))
        return params, state, updates, new, optax.apply_updates(params, updates)

    layout = {"w": ((2, 3), "float32"), "h": ((3,), "float16"), "b": ((), "bfloat16")}
    arrays = {leaf: jax.ShapeDtypeStruct(*shape) for leaf, shape in layout.items()}
    with jax.numpy_dtype_promotion("standard"):
        params, state, updates, new, stepped = jax.eval_shape(step, arrays)
    assert _signature(state) == _signature(new)
    assert _signature(updates) == _signature(params) == _signature(stepped)


@pytest.mark.parametrize("name", OPTIONS)
def test_what_has_no_gradient_has_an_update_that_can_be_added(name: str) -> None:
    tx = _transformation(name)
    frozen = {"frozen": jnp.asarray([2.0, jnp.inf]), "count": jnp.arange(3), "flags": jnp.asarray([True]), "none": None}
    nothing = jtu.tree_map(lambda _: None, frozen)

    def step(w: Any) -> Any:
        params = {"w": w, **frozen}
        updates, _ = tx.update({"w": w, **nothing}, tx.init(params), params, value=jnp.asarray(1.0))
        return params, updates, optax.apply_updates(params, updates), eqx.apply_updates(params, updates)

    params, *others = jax.eval_shape(step, jax.ShapeDtypeStruct((2, 3), "float32"))
    assert all(_signature(other) == _signature(params) for other in others)


@pytest.mark.parametrize("name", NAMES)
def test_it_composes(name: str) -> None:
    tx, value = _transformation(name), jnp.asarray(1.0)
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(())}

    def accumulated(params: Any) -> Any:
        several = optax.MultiSteps(tx, every_k_schedule=4)
        return several.update(params, several.init(params), params, value=value)[0]

    def masked(params: Any) -> Any:
        some = optax.masked(tx, {"w": True, "b": False})
        return some.update(params, some.init(params), params, value=value)[0]

    def parted(params: Any) -> Any:
        parts: Any = optax.partition({"ours": tx, "theirs": optax.adam(0.1)}, {"w": "ours", "b": "theirs"})
        return parts.update(params, parts.init(params), params, value=value)[0]

    def searched(params: Any) -> Any:
        chain = optax.chain(tx, optax.scale_by_backtracking_linesearch(15))
        loss = lambda p: jnp.sum(p["w"]) + p["b"]  # noqa: E731
        return chain.update(params, chain.init(params), params, value=value, grad=params, value_fn=loss)[0]

    def guarded(params: Any) -> Any:
        finite: Any = optax.apply_if_finite(tx, 3)
        return finite.update(params, finite.init(params), params, value=value)[0]

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for wrapped in (accumulated, masked, parted, searched, guarded):
            assert _signature(jax.eval_shape(wrapped, params)) == _signature(jax.eval_shape(lambda p: p, params))


@pytest.mark.parametrize("name", OPTIONS)
def test_the_parameters_are_needed(name: str) -> None:
    tx, params = _transformation(name), {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"call `tx.update\(grads, state, params\)`"):
        tx.update(params, None, value=jnp.asarray(1.0))


_LOOKING = EXAMPLES | {"polyak", "plateau", "learned_schedule", "noise_aware", "policy"}


@pytest.mark.parametrize("name", fast(list(OPTIONS), *_LOOKING))
def test_what_looks_at_the_loss_says_so(name: str) -> None:
    tx, params = _transformation(name), {"w": jnp.ones((2, 3))}
    state = tx.init(params)

    def update(value: Any) -> Any:
        return eqx.filter(tx.update(params, state, params, value=value), eqx.is_array)

    def depends() -> bool:
        # What does not depend on the loss has no axis of its own when there are many losses.
        many = jax.vmap(update, out_axes=None)
        try:
            jax.eval_shape(many, jnp.ones(2))
        except ValueError as error:
            assert "out_axes" in str(error)
            return True
        return False

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            jax.eval_shape(lambda: update(None))
            silent = not any(issubclass(one.category, metaopt.MissingValueWarning) for one in caught)
        except ValueError as error:
            assert "no `value` was given" in str(error)
            silent = False
    assert silent == (not depends() or name in ONLY_CHECK_VALUE)
    assert not (silent and name in NEEDS_VALUE)


@pytest.mark.parametrize("name", NAMES)
def test_any_number_may_be_the_loss(name: str) -> None:
    algorithm, params = make(name), {"w": jnp.ones((2, 3))}
    numbers = [0.5, 1, np.float32(0.5), np.float64(0.5), np.asarray(0.5, np.float16), jnp.asarray(0.5, jnp.bfloat16)]

    def steps() -> Any:
        state = algorithm.init(params, key=jr.key(0))
        return [algorithm.step(state, params, params, value=number) for number in numbers]

    first, *others = jax.eval_shape(lambda: eqx.filter(steps(), eqx.is_array))
    assert all(_signature(one) == _signature(first) for one in others)


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_of_optax(name: str) -> None:
    tx, traces = _transformation(name), []
    still = {"frozen": jnp.asarray([2.0, jnp.inf, jnp.nan]), "count": jnp.arange(3)}

    def step(params: Any, state: Any) -> tuple[Any, Any]:
        traces.append(1)
        moving = {leaf: params[leaf] for leaf in ("line", "matrix")}
        value, grads = jax.value_and_grad(_parabola)(moving)
        grads |= jtu.tree_map(lambda _: None, still)
        updates, state = tx.update(grads, state, params, value=value, unexpected=1)
        return optax.apply_updates(params, updates), state

    start = {"line": jnp.zeros(3), "matrix": jnp.zeros((2, 2)), **still}
    jitted, params, state = jax.jit(step), start, tx.init(start)
    state = optax.tree.map_params(tx, lambda x: x, state)
    for _ in range(3):
        params, state = jitted(params, state)
    assert len(traces) == 1, "compiled anew for its own results"
    for leaf in still:
        np.testing.assert_array_equal(params[leaf], still[leaf])
    assert all_finite([params["line"], params["matrix"]])
    if name in DESCENDING:
        assert _parabola(params) < _parabola(start)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVERGING)
def test_it_converges(name: str) -> None:
    rule = metaopt.build({"name": name, **CONVERGING[name]}, metaopt.AbstractAlgorithm)
    tx = metaopt.to_optax(metaopt.with_horizon(rule, 2000))

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(_parabola)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    start = {"line": jnp.zeros(3), "matrix": jnp.zeros((2, 2))}
    (params, _), _ = jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), length=2000))()
    np.testing.assert_allclose(params["line"], LINE, rtol=3e-2, atol=3e-2)
    np.testing.assert_allclose(params["matrix"], MATRIX, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_can_be_injected(name: str) -> None:
    algorithm = metaopt.with_horizon(make(name), 100)
    numbers = [i for i, x in enumerate(jtu.tree_leaves(algorithm)) if eqx.is_inexact_array(x) and x.shape == ()]
    if not numbers:
        pytest.skip("it has no number of its own")
    place = numbers[0]

    def factory(number: Any) -> Any:
        leaves, structure = jtu.tree_flatten(algorithm)
        leaves[place] = jnp.asarray(number, leaves[place].dtype)
        return metaopt.to_optax(jtu.tree_unflatten(structure, leaves), key=jr.key(0))

    start = {"line": jnp.full(3, 0.5), "matrix": jnp.ones((2, 2))}
    given = float(jtu.tree_leaves(algorithm)[place])
    plain, injected = factory(given), optax.inject_hyperparams(factory)(number=given)

    @jax.jit
    def both() -> Any:
        value, grads = jax.value_and_grad(_parabola)(start)
        return [tx.update(grads, tx.init(start), start, value=value)[0] for tx in (plain, injected)]

    ours, theirs = both()
    assert_close(ours, theirs, rtol=1e-5)
