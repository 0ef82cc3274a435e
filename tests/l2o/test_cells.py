"""What every learned rule does, with every head and clock. The laws hold the rules of the registry to more, faster."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from jaxtyping import Array, PyTree

from metaopt import AbstractAlgorithm
from tests._cases import fast
from tests.l2o._cells import CELLS, arrays, shaken, steps


_RANDOM = ("mlp", "lstm", "celo2")
Make = Callable[[], AbstractAlgorithm[Any, Any, Any]]
every_cell = pytest.mark.parametrize("make", CELLS.values(), ids=CELLS.keys())
# The laws hold the rules as they are in the registry to the same; these are one of each make.
few_cells = pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=[pytest.mark.slow] * (name not in {"adam", "lstm", "celo2"}))
        for name, make in CELLS.items()
    ],
)


def same(a: PyTree, b: PyTree, tolerance: float) -> None:
    assert jtu.tree_structure(a) == jtu.tree_structure(b)
    for x, y in zip(jtu.tree_leaves(a), jtu.tree_leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * 0.1)


def _few(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: arrays[name] for name in ("scalar", "vector", "matrix")}


class Model(eqx.Module):
    weight: Array
    frozen: Array | None
    count: Array
    name: str
    act: Callable[[Array], Array] = jax.nn.relu


@few_cells
def test_only_arrays_with_a_gradient_change(make: Make) -> None:
    model = Model(jnp.ones((3, 2)), jnp.ones(2), jnp.asarray(3), "m")
    grads = Model(jnp.ones((3, 2)), None, None, None, None)  # type: ignore[arg-type]
    cell = make()
    state, new = cell.step(cell.init(model), model, grads)
    assert new.name == "m" and new.act is jax.nn.relu and int(new.count) == 3
    np.testing.assert_array_equal(new.frozen, model.frozen)
    again, _ = cell.step(state, new, grads)
    assert int(again.count) == 2
    assert jtu.tree_structure(state) == jtu.tree_structure(cell.init(model))


@pytest.mark.slow
@every_cell
def test_state_and_parameters_keep_their_types(make: Make, getkey: Callable[[], Array]) -> None:
    params: dict[str, Any] = arrays(getkey()) | {"empty": jnp.zeros((0,)), "flat": jnp.zeros((3, 0))}
    params |= {"half": jnp.ones(4, jnp.float16), "brain": jnp.ones((2, 3), jnp.bfloat16)}
    cell = make()
    state = cell.init(params)
    new_state, new = steps(cell, params, [params, params])
    for before, after in ((state, new_state), (params, new)):
        assert jtu.tree_structure(before) == jtu.tree_structure(after)
        for x, y in zip(jtu.tree_leaves(before), jtu.tree_leaves(after), strict=True):
            assert x.shape == y.shape and x.dtype == y.dtype
            assert bool(jnp.all(jnp.isfinite(y)))
    assert all(x.dtype not in (jnp.float16, jnp.bfloat16) for x in jtu.tree_leaves(state))


@few_cells
def test_double_precision_is_kept(make: Make, x64: None, getkey: Callable[[], Array]) -> None:
    params = {"wide": jr.normal(getkey(), (4, 3)), "single": jr.normal(getkey(), (4, 3), jnp.float32)}
    cell = make()
    _, new = steps(cell, params, [params])
    assert new["wide"].dtype == jnp.float64 and new["single"].dtype == jnp.float32
    _, rounded = steps(cell, {"wide": params["wide"].astype(jnp.float32)}, [{"wide": params["wide"]}])
    assert 0 < float(jnp.max(jnp.abs(new["wide"] - rounded["wide"].astype(jnp.float64)))) < 1e-4


@pytest.mark.slow
@every_cell
def test_extreme_gradients_give_finite_steps(make: Make, getkey: Callable[[], Array]) -> None:
    params, grads = arrays(getkey()), arrays(getkey())
    cell = make()
    for scale in (0.0, 1e-20, 1e6):
        state, new = steps(cell, params, [jtu.tree_map(lambda g, s=scale: s * g, grads)] * 3)
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in jtu.tree_leaves((state, new)))


@pytest.mark.slow
@every_cell
def test_zero_gradients_can_be_differentiated(make: Make) -> None:
    params, cell = {"w": jnp.ones((2, 3)), "b": jnp.zeros(())}, make()
    grads = jtu.tree_map(jnp.zeros_like, params)
    dynamic, static = eqx.partition(cell, eqx.is_inexact_array)

    @jax.jit
    @jax.grad
    def derivative(dynamic: PyTree) -> Array:
        cell = eqx.combine(dynamic, static)
        _, out = cell.step(*cell.step(cell.init(params), params, grads), grads)
        return jnp.sum(out["w"]) + out["b"]

    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jtu.tree_leaves(derivative(dynamic)))


@pytest.mark.slow
@every_cell
def test_compiled_and_vectorized_steps_are_the_same(make: Make, x64: None, getkey: Callable[[], Array]) -> None:
    cells = [shaken(make(), getkey()) for _ in range(3)]
    params, grads = ([_few(arrays(getkey())) for _ in cells] for _ in range(2))
    stack = lambda *trees: jtu.tree_map(lambda *leaves: jnp.stack(leaves), *trees)  # noqa: E731

    def step(cell: Any, params: PyTree, grads: PyTree) -> PyTree:
        state, params = cell.step(cell.init(params), params, grads)
        return cell.step(state, params, grads)

    together = jax.jit(jax.vmap(step))(stack(*cells), stack(*params), stack(*grads))
    for index, arguments in enumerate(zip(cells, params, grads, strict=True)):
        own = jtu.tree_map(lambda leaf, i=index: leaf[i], together)
        same(own, step(*arguments), 1e-9)


@pytest.mark.slow
@every_cell
def test_derivatives_through_steps(make: Make, x64: None, getkey: Callable[[], Array]) -> None:
    cell = shaken(make(), getkey())
    params, target = (_few(arrays(getkey())) for _ in range(2))
    dynamic, static = eqx.partition(cell, eqx.is_inexact_array)
    leaves, structure = jtu.tree_flatten(dynamic)
    direction = jtu.tree_unflatten(structure, [jr.normal(getkey(), leaf.shape) for leaf in leaves])

    def loss(dynamic: PyTree) -> Array:
        cell = eqx.combine(dynamic, static)

        def body(carry: tuple[Any, PyTree], _: None) -> tuple[tuple[Any, PyTree], None]:
            state, x = carry
            return cell.step(state, x, jtu.tree_map(lambda a, b: jnp.tanh(a - b), x, target)), None

        (_, x), _ = jax.lax.scan(body, (cell.init(params), params), None, length=3)
        return sum((jnp.sum((x[k] - target[k]) ** 2) for k in x), start=jnp.zeros(()))

    along = jax.jit(lambda step: loss(jtu.tree_map(lambda a, b: a + step * b, dynamic, direction)))
    size = 1e-6
    slope = float(along(size) - along(-size)) / (2 * size)
    gradient = jax.jit(jax.grad(loss))(dynamic)
    found = sum(
        float(jnp.sum(g * d)) for g, d in zip(jtu.tree_leaves(gradient), jtu.tree_leaves(direction), strict=True)
    )
    np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-7)


@few_cells
def test_the_same_key_gives_the_same_rule(make: Make) -> None:
    assert eqx.tree_equal(make(), make())


@pytest.mark.parametrize(
    "name", fast([name for name in CELLS if name not in ("sgd", "momentum", "adam", "nn_adam")], *_RANDOM)
)
def test_another_key_gives_another_rule(name: str) -> None:
    cell = type(CELLS[name]())
    one, other = cell(key=jr.key(1)), cell(key=jr.key(2))  # type: ignore[call-arg]
    assert not eqx.tree_equal(one, other)


@few_cells
def test_complex_parameters_are_refused(make: Make) -> None:
    params = {"z": jnp.ones(2, jnp.complex64)}
    cell = make()
    with pytest.raises(TypeError, match="`params\\['z'\\]` is complex"):
        cell.step(cell.init({"z": jnp.ones(2)}), params, params)
