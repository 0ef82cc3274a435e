"""States that lie where the parameters lie."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.tree_util as jtu
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, PRNGKeyArray, PyTree

from .._core import AbstractAlgorithm
from .._core.arrays._layouts import follow, layouts


S = TypeVar("S")


def shard_state(algorithm: AbstractAlgorithm[S, Any, Any], params: PyTree, *, key: PRNGKeyArray | None = None) -> S:
    """Initialize an algorithm for sharded parameters, with a state that is sharded as they are.

    Each array of the state that belongs to a parameter, as averages of its gradient do, is laid out like this parameter
    from the start: none of it is ever whole on one device. It belongs to the parameter whose path is part of its own
    path, or else to the first with its shape; averages over some axes, which have size one, follow along the others.
    All other arrays are replicated.

    **Arguments:**

    - `algorithm`: what is initialized.
    - `params`: arrays on a mesh, sharded by `jax.sharding.NamedSharding`.
    - `key`: for algorithms that draw something.

    **Returns:**

    The state.

    **Raises:**

    - `ValueError`: if no parameter is on a mesh, or they are on different ones.
    """
    mesh, shardings = layouts(params)
    known = [
        (path, leaf.shape, shardings[path].spec)
        for path, leaf in jtu.tree_flatten_with_path(params)[0]
        if path in shardings
    ]
    dynamic, static = eqx.partition(params, eqx.is_array)

    def init(dynamic: PyTree) -> S:
        return algorithm.init(eqx.combine(dynamic, static), key=key)

    shapes = eqx.filter_eval_shape(init, dynamic)
    wanted = [
        NamedSharding(mesh, _spec(path, leaf.shape, known))
        for path, leaf in jtu.tree_flatten_with_path(shapes)[0]
        if _is_shape(leaf)
    ]

    def arrays_of(dynamic: PyTree) -> list[Array]:
        return [leaf for leaf in jtu.tree_leaves(init(dynamic)) if eqx.is_array(leaf)]

    made = iter(jax.jit(arrays_of, out_shardings=wanted)(dynamic))
    return jtu.tree_map(lambda leaf: next(made) if _is_shape(leaf) else leaf, shapes)


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _spec(
    path: tuple[Any, ...],
    shape: tuple[int, ...],
    params: list[tuple[tuple[Any, ...], tuple[int, ...], PartitionSpec]],
) -> PartitionSpec:
    own = [p for p in params if p[0] and _contains(path, p[0]) and follow(shape, *p[1:]) is not None]
    if own:
        best = max(own, key=lambda p: len(p[0]))
    else:
        same = [p for p in params if p[1] and shape[len(shape) - len(p[1]) :] == p[1]]
        if not same:
            return PartitionSpec()
        best = max(same, key=lambda p: len(p[1]))
    return follow(shape, *best[1:]) or PartitionSpec()


def _contains(path: tuple[Any, ...], part: tuple[Any, ...]) -> bool:
    return any(path[i : i + len(part)] == part for i in range(len(path) - len(part) + 1))
