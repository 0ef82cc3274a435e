"""What every algorithm does with state, parameters and gradients, whatever their shapes and dtypes."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import metaopt
from metaopt.registry import DEFAULT

from .algorithms import DESCENDING, NAMES, NEEDS_VALUE, OPTIONS, make
from .running import init, jit_init, jit_step, step, two_steps
from .trees import DOUBLE, MIXED, SINGLE, all_finite, draw, layouts, scales, seeds, shapes


def test_every_registered_algorithm_is_in_the_table() -> None:
    assert set(OPTIONS) == set(DEFAULT.names(metaopt.AbstractAlgorithm))
    assert DESCENDING | NEEDS_VALUE <= set(OPTIONS)


def _signature(tree: Any) -> Any:
    # Weak types too: a step that changes one is compiled twice.
    leaves, structure = jtu.tree_flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) if isinstance(x, jax.ShapeDtypeStruct) else x for x in leaves]


def _assert_stable(name: str, layout: Any, with_value: bool) -> None:
    algorithm, params = make(name), shapes(layout)
    value = jax.ShapeDtypeStruct((), jnp.result_type(float)) if with_value or name in NEEDS_VALUE else None
    state = eqx.filter_eval_shape(init, algorithm, params)
    new_state, new_params = eqx.filter_eval_shape(step, algorithm, state, params, params, value)
    assert _signature(new_state) == _signature(state)
    assert _signature(new_params) == _signature(params)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=4)
@given(layout=layouts(SINGLE), with_value=st.booleans())
def test_structure_shapes_and_dtypes_are_kept(name: str, layout: Any, with_value: bool) -> None:
    _assert_stable(name, layout, with_value)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=4)
@given(layout=layouts(DOUBLE), with_value=st.booleans())
def test_structure_shapes_and_dtypes_are_kept_in_double_precision(name: str, layout: Any, with_value: bool) -> None:
    with jax.enable_x64(True):
        _assert_stable(name, layout, with_value)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=3)
@given(seed=seeds, scale=scales)
def test_parameters_move_and_stay_finite(name: str, seed: int, scale: float) -> None:
    params = draw(MIXED, seed)
    state, new = two_steps(make(name), params, [draw(MIXED, seed + i, scale) for i in (1, 2)])
    assert all_finite((state, new))
    assert any(jnp.any(new[leaf] != params[leaf]) for leaf in params)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=3)
@given(seed=seeds)
def test_zero_gradients_give_finite_numbers(name: str, seed: int) -> None:
    zeros = draw(MIXED, seed, 0.0)
    for params in (draw(MIXED, seed), zeros):
        assert all_finite(two_steps(make(name), params, [zeros, zeros]))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=3)
@given(bad=st.sampled_from([jnp.nan, jnp.inf, -jnp.inf]), leaf=st.sampled_from(["bias", "kernel", "scalar", "weight"]))
def test_bad_gradients_raise_nothing(name: str, bad: float, leaf: str) -> None:
    params, grads = draw(MIXED, 0), draw(MIXED, 1)
    spoiled = grads | {leaf: jnp.full_like(grads[leaf], bad)}
    algorithm = make(name)
    state, new = jax.block_until_ready(two_steps(algorithm, params, [spoiled, grads]))
    assert jtu.tree_structure(new) == jtu.tree_structure(params)
    assert jtu.tree_structure(state) == jtu.tree_structure(jit_init(algorithm, params))


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_gradient_is_left_alone(name: str) -> None:
    rest = {
        "frozen": jnp.asarray([jnp.inf, jnp.nan, -0.0]),
        "count": jnp.arange(4),
        "flags": jnp.asarray([True, False]),
        "key": jr.key(3),
        "text": "layer",
        "function": jax.nn.relu,
        "number": 2.5,
        "switch": True,
        "nothing": None,
        "nested": [jnp.ones(2), ()],
    }
    params = {"weight": jnp.ones((2, 3)), **rest}
    grads = jtu.tree_map(lambda _: None, rest) | {"weight": jnp.full((2, 3), 0.5)}
    _, new = two_steps(make(name), params, [grads, grads])
    assert jtu.tree_structure(new) == jtu.tree_structure(params)
    assert jnp.any(new.pop("weight") != 1.0)
    for (path, a), b in zip(jtu.tree_flatten_with_path(new)[0], jtu.tree_leaves(rest), strict=True):
        if eqx.is_array(a) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jr.key_data(a), jr.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes() if eqx.is_array(a) else a is b, jtu.keystr(path)


@pytest.mark.parametrize("name", NAMES)
def test_an_algorithm_can_be_the_parameters_of_another(name: str) -> None:
    algorithm, outer = make(name), make("adam")
    grads = jtu.tree_map(lambda x: 0.1 * jnp.ones_like(x), eqx.filter(algorithm, eqx.is_inexact_array))
    _, new = jit_step(outer, jit_init(outer, algorithm), algorithm, grads, jnp.asarray(1.0))
    assert jtu.tree_structure(new) == jtu.tree_structure(algorithm)
    assert not eqx.tree_equal(new, algorithm)
    _, params = two_steps(new, draw(MIXED, 0), [draw(MIXED, i) for i in (1, 2)])
    assert all_finite(params)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_another_structure_are_refused(name: str) -> None:
    algorithm, params = make(name), shapes({"a": ((3,), "float32"), "b": ((3,), "float32")})
    state = eqx.filter_eval_shape(init, algorithm, params)
    value = jax.ShapeDtypeStruct((), jnp.float32) if name in NEEDS_VALUE else None
    for grads in ({"a": params["a"]}, params | {"b": shapes(((2,), "float32"))}, [params["a"], params["b"]]):
        with pytest.raises(ValueError, match="gradient|structure"):
            eqx.filter_eval_shape(step, algorithm, state, params, grads, value)
