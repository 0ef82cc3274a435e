"""Pytrees of parameters to try algorithms on, and the comparison of results."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from hypothesis import strategies as st


SHAPES = [(), (0,), (3,), (2, 3), (2, 3, 4, 2)]
SINGLE = ["float16", "bfloat16", "float32"]
DOUBLE = [*SINGLE, "float64"]

# Every shape and every dtype, in one tree for programs that are compiled.
MIXED = {
    "bias": ((3,), "bfloat16"),
    "empty": ((0,), "float32"),
    "kernel": ((2, 3, 4, 2), "float16"),
    "scalar": ((), "float32"),
    "weight": ((2, 3), "float32"),
}
MIXED_DOUBLE = MIXED | {"scalar": ((), "float64"), "weight": ((2, 3), "float64"), "empty": ((0,), "float16")}
# Eagerly, each operation is a program of its own for each shape and dtype.
FEW = {leaf: MIXED[leaf] for leaf in ("bias", "weight")}

# How far results may differ when the order of operations does.
RTOL = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 1e-4, "float64": 1e-9}

seeds = st.integers(0, 2**16)
scales = st.sampled_from([1.0, 1e-3, 30.0])


def layouts(dtypes: list[str]) -> st.SearchStrategy[Any]:
    """Nested trees of shapes and dtypes."""
    leaf = st.tuples(st.sampled_from(SHAPES), st.sampled_from(dtypes))
    nested = st.recursive(
        leaf,
        lambda inner: st.one_of(st.lists(inner, min_size=1, max_size=2), st.dictionaries(st.just("a"), inner)),
        max_leaves=3,
    )
    return st.one_of(leaf, st.dictionaries(st.sampled_from("abc"), nested, min_size=1, max_size=3))


def is_layout(x: Any) -> bool:
    return isinstance(x, tuple)


def shapes(layout: Any) -> Any:
    """The tree without its numbers."""
    return jtu.tree_map(lambda x: jax.ShapeDtypeStruct(x[0], jnp.dtype(x[1])), layout, is_leaf=is_layout)


def draw(layout: Any, seed: int, scale: float = 1.0) -> Any:
    """A tree of random arrays."""
    generator = np.random.default_rng(seed)

    def one(x: tuple[tuple[int, ...], str]) -> jax.Array:
        return jnp.asarray(np.asarray(scale * generator.normal(size=x[0])).astype(jnp.dtype(x[1])))

    return jtu.tree_map(one, layout, is_leaf=is_layout)


def _plain(x: Any) -> Any:
    is_key = eqx.is_array(x) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jr.key_data(x) if is_key else x)


def assert_close(a: Any, b: Any, *, rtol: float | None = None) -> None:
    """The same structure, shapes and dtypes, and the same numbers up to rounding."""
    a, b = (eqx.filter(tree, eqx.is_array) for tree in (a, b))
    assert jtu.tree_structure(a) == jtu.tree_structure(b)
    for (path, x), y in zip(jtu.tree_flatten_with_path(a)[0], jtu.tree_leaves(b), strict=True):
        x, y = _plain(x), _plain(y)
        assert (x.shape, x.dtype) == (y.shape, y.dtype), jtu.keystr(path)
        close = RTOL.get(x.dtype.name, 0.0) if rtol is None else rtol
        wide = [np.asarray(z, np.float64) for z in (x, y)]
        np.testing.assert_allclose(*wide, rtol=close, atol=0.01 * close, err_msg=jtu.keystr(path))


def all_finite(tree: Any) -> bool:
    return all(bool(jnp.all(jnp.isfinite(x))) for x in jtu.tree_leaves(tree) if eqx.is_inexact_array(x))
