"""How gradients are matched to parameters, and the small functions on trees."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

from metaopt._core.arrays._trees import (
    add_up,
    all_finite,
    compute_dtype,
    global_norm,
    map_arrays,
    match,
    select,
    spoiled,
    trainable,
    widest,
)


PARAMS = {
    "w": jnp.ones((2, 3)),
    "empty": jnp.zeros((0,)),
    "half": jnp.ones((), jnp.float16),
    "count": jnp.arange(2),
    "name": "layer",
    "fn": jax.nn.relu,
    "none": None,
    "inner": [jnp.ones(1), True],
}
GRADS: dict[str, Any] = {
    "w": 2.0 * jnp.ones((2, 3)),
    "empty": jnp.zeros((0,)),
    "half": jnp.ones((), jnp.float16),
    "count": None,
    "name": None,
    "fn": None,
    "none": None,
    "inner": [None, None],
}


def test_match_finds_what_changes() -> None:
    leaves = match(PARAMS, GRADS).leaves
    assert [leaf.path for leaf in leaves] == ["params['empty']", "params['half']", "params['w']"]
    assert all(leaf.param is PARAMS[leaf.path[8:-2]] for leaf in leaves)
    assert all(leaf.grad is GRADS[leaf.path[8:-2]] for leaf in leaves)


def test_rebuild_leaves_the_rest_alone() -> None:
    matched = match(PARAMS, GRADS)
    new = matched.rebuild([leaf.param - leaf.grad for leaf in matched.leaves])
    assert jtu.tree_structure(new) == jtu.tree_structure(PARAMS)
    np.testing.assert_array_equal(new["w"], -jnp.ones((2, 3)))
    assert all(new[name] is PARAMS[name] for name in ("count", "name", "fn", "none"))
    assert new["inner"][0] is PARAMS["inner"][0]


def test_pick_and_put_are_inverse() -> None:
    matched = match(PARAMS, GRADS)
    state = jtu.tree_map(lambda p: (jnp.zeros(p.shape), "second"), trainable(PARAMS))
    picked = matched.pick(state)
    assert [entry[0].shape for entry in picked] == [(0,), (), (2, 3)]
    put = matched.put(state, [(1 + entry[0], "third") for entry in picked])
    assert put["w"][1] == "third" and jnp.all(put["w"][0] == 1)
    assert put["inner"][0][1] == "second" and put["count"] is None


def test_integers_with_a_gradient_of_any_kind_are_left_alone() -> None:
    gradient = jax.grad(lambda n: n.sum().astype(float), allow_int=True)(jnp.arange(2))
    assert match({"n": jnp.arange(2), "flag": True}, {"n": gradient, "flag": jnp.ones(())}).leaves == []


def test_models_are_matched_to_their_filtered_gradients(getkey: Callable[[], jax.Array]) -> None:
    model = eqx.nn.MLP(2, 1, 3, 1, key=getkey())
    grads = eqx.filter_grad(lambda m: jnp.sum(m(jnp.ones(2))))(model)
    assert [leaf.path for leaf in match(model, grads).leaves] == [
        f"params.layers[{i}].{name}" for i in (0, 1) for name in ("weight", "bias")
    ]


STRUCTURES: dict[str, tuple[Any, Any, str]] = {
    "missing": ({"a": jnp.ones(1), "b": jnp.ones(1)}, {"a": jnp.ones(1)}, r"No gradient for: `params\['b'\]`"),
    "extra": ({"a": jnp.ones(1)}, {"a": jnp.ones(1), "c": jnp.ones(1)}, r"Not among the parameters: `grads\['c'\]`"),
    "list for tuple": ((jnp.ones(1),), [jnp.ones(1)], "Given .*, wanted"),
    "longer": ([jnp.ones(1)], [jnp.ones(1), jnp.ones(1)], r"Not among the parameters: `grads\[1\]`"),
    "no subtree": ({"a": {"b": jnp.ones(1)}}, {"a": None}, r"No gradient for: `params\['a'\]\['b'\]`"),
    "subtree": ({"a": jnp.ones(1)}, {"a": {"b": jnp.ones(1)}}, r"The gradient of `params\['a'\]` is a `dict`"),
    "number": (jnp.ones(()), 1.0, r"The gradient of `params` is a `float`"),
    "shape": ({"a": jnp.ones(2)}, {"a": jnp.ones(3)}, r"shape \(3,\), but the parameter has shape \(2,\)"),
    "broadcast": ({"a": jnp.ones(2)}, {"a": jnp.ones(())}, r"shape \(\), but the parameter has shape \(2,\)"),
    "stacked": ({"a": jnp.ones((0,))}, {"a": jnp.ones((3, 0))}, r"shape \(3, 0\), but the parameter has shape \(0,\)"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_match_refuses_another_structure(name: str) -> None:
    params, grads, message = STRUCTURES[name]
    with pytest.raises(ValueError, match=message):
        match(params, grads)


DTYPES = {
    "integer": (jnp.ones(2), jnp.arange(2), "has dtype int32, but a floating-point gradient was wanted"),
    "boolean": (jnp.ones(2), jnp.asarray([True, False]), "has dtype bool"),
    "float0": (jnp.ones(2), np.zeros(2, jax.dtypes.float0), "has dtype \\[?.*float0"),
    "complex": (jnp.ones(2), jnp.full(2, 1j), "is complex .complex64., but the parameter is float32"),
}


@pytest.mark.parametrize("name", DTYPES)
def test_match_refuses_another_dtype(name: str) -> None:
    param, grad, message = DTYPES[name]
    with pytest.raises(TypeError, match=message):
        match({"a": param}, {"a": grad})


def test_match_fails_while_tracing() -> None:
    with pytest.raises(ValueError, match="The gradient of `params` has shape"):
        jax.jit(lambda p, g: match(p, g).rebuild([g]))(jnp.ones(2), jnp.ones(3))


def test_match_takes_other_precision_and_numpy() -> None:
    (leaf,) = match(np.ones(2, np.float32), np.ones(2, np.float16)).leaves
    assert isinstance(leaf.param, jax.Array) and isinstance(leaf.grad, jax.Array)
    (leaf,) = match(jnp.full(2, 1j), jnp.ones(2)).leaves
    assert leaf.grad.dtype == jnp.float32


@pytest.mark.usefixtures("x64")
def test_compute_dtype_has_at_least_32_bits() -> None:
    wanted = {
        jnp.float16: jnp.float32,
        jnp.bfloat16: jnp.float32,
        jnp.float8_e4m3fn: jnp.float32,
        jnp.float32: jnp.float32,
        jnp.float64: jnp.float64,
        jnp.complex64: jnp.complex64,
        jnp.complex128: jnp.complex128,
    }
    assert {dtype: compute_dtype(dtype) for dtype in wanted} == wanted
    assert widest([]) == jnp.float32
    assert widest([jnp.float16, jnp.bfloat16]) == jnp.float32
    assert widest([jnp.float16, jnp.float64, jnp.float32]) == jnp.float64


def test_global_norm() -> None:
    tree = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray(4j), "n": jnp.arange(9), "f": jax.nn.relu, "e": jnp.ones(0)}
    np.testing.assert_allclose(global_norm(tree), 5.0)
    assert global_norm({"n": jnp.arange(3)}) == 0.0
    assert jnp.isnan(global_norm([jnp.asarray([jnp.nan, 0.0])]))
    assert global_norm([jnp.asarray([-jnp.inf, 0.0])]) == jnp.inf


def test_global_norm_does_not_overflow_in_half_precision() -> None:
    norm = global_norm([jnp.full(4, 3e4, jnp.float16), jnp.zeros(2, jnp.bfloat16)])
    assert norm.dtype == jnp.float32
    np.testing.assert_allclose(norm, 6e4, rtol=1e-3)


def test_global_norm_is_differentiable_at_zero() -> None:
    np.testing.assert_array_equal(jax.grad(global_norm)(jnp.zeros(3)), jnp.zeros(3))
    np.testing.assert_allclose(jax.grad(global_norm)(jnp.asarray([3.0, 4.0])), [0.6, 0.8], rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_add_up_in_the_widest_dtype() -> None:
    total = add_up([jnp.asarray(1.0, jnp.float32), jnp.asarray(1e-12)])
    assert total.dtype == jnp.float64
    assert total == 1.0 + 1e-12
    assert add_up([]).dtype == jnp.float32


@pytest.mark.parametrize("condition", [True, False])
def test_select(condition: bool) -> None:
    def tree(seed: int) -> Any:
        return {
            "key": jr.key(seed),
            "keys": jr.split(jr.key(seed), 2),
            "n": jnp.asarray(seed),
            "name": "same",
            "x": None,
        }

    chosen = jax.jit(lambda c: eqx.filter(select(c, tree(1), tree(2)), eqx.is_array))(jnp.asarray(condition))
    wanted = tree(1 if condition else 2)
    assert jnp.all(jr.key_data(chosen["key"]) == jr.key_data(wanted["key"]))
    assert jnp.all(jr.key_data(chosen["keys"]) == jr.key_data(wanted["keys"]))
    assert chosen["n"] == wanted["n"]
    assert select(jnp.asarray(condition), tree(1), tree(2))["name"] == "same"


def test_all_finite() -> None:
    assert all_finite({"n": jnp.arange(3), "name": "x"})
    assert all_finite([jnp.ones(2), jnp.zeros((0,)), jnp.ones((), jnp.bfloat16)])
    assert not all_finite([jnp.ones(2), jnp.asarray([1.0, jnp.inf])])
    assert not all_finite([jnp.asarray(complex(0, jnp.nan))])


def test_spoiled() -> None:
    old = {"x": jnp.asarray([1.0, -jnp.inf]), "n": jnp.arange(2), "name": "x"}
    assert not spoiled(old, old)
    assert not spoiled(old, old | {"x": jnp.asarray([2.0, jnp.nan])})
    assert spoiled(old, old | {"x": jnp.asarray([jnp.nan, -jnp.inf])})
    assert not spoiled({"name": "x"}, {"name": "x"})


def test_map_arrays() -> None:
    mapped = map_arrays(lambda x: -x, {"x": jnp.ones(1), "n": jnp.arange(2), "fn": jax.nn.relu})
    assert mapped["x"] == -1.0 and mapped["n"][1] == 1 and mapped["fn"] is jax.nn.relu
