"""States that lie where the parameters lie."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.tree_util as jtu
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, PRNGKeyArray, PyTree

from .._core import AbstractAlgorithm


S = TypeVar("S")


def shard_state(algorithm: AbstractAlgorithm[S, Any, Any], params: PyTree, *, key: PRNGKeyArray | None = None) -> S:
    """Initialize an algorithm for sharded parameters, with a state that is sharded as they are.

    Each array of the state whose last axes have the shape of a parameter, as averages of its gradient do, is laid out
    like this parameter from the start: none of it is ever whole on one device. Axes in front, such as one of several
    averages, are not split. All other arrays are replicated.

    **Arguments:**

    - `algorithm`: what is initialized.
    - `params`: arrays on a mesh, sharded by `jax.sharding.NamedSharding`.
    - `key`: for algorithms that draw something.

    **Returns:**

    The state.

    **Raises:**

    - `ValueError`: if no parameter is on a mesh, or they are on different ones.
    """
    arrays = [leaf for leaf in jtu.tree_leaves(params) if eqx.is_array(leaf)]
    shardings = {a.shape: a.sharding for a in arrays if isinstance(a.sharding, NamedSharding)}
    meshes = {sharding.mesh for sharding in shardings.values()}
    if len(meshes) != 1:
        raise ValueError(
            f"The parameters must lie on one mesh, but they lie on {len(meshes)}. Place them with "
            "`jax.device_put(params, jax.sharding.NamedSharding(mesh, spec))`."
        )
    (mesh,) = meshes
    dynamic, static = eqx.partition(params, eqx.is_array)

    def init(dynamic: PyTree) -> S:
        return algorithm.init(eqx.combine(dynamic, static), key=key)

    shapes = eqx.filter_eval_shape(init, dynamic)
    wanted = [_like(leaf, shardings, mesh) for leaf in jtu.tree_leaves(shapes) if _is_shape(leaf)]

    def arrays_of(dynamic: PyTree) -> list[Array]:
        return [leaf for leaf in jtu.tree_leaves(init(dynamic)) if eqx.is_array(leaf)]

    made = iter(jax.jit(arrays_of, out_shardings=wanted)(dynamic))
    return jtu.tree_map(lambda leaf: next(made) if _is_shape(leaf) else leaf, shapes)


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _like(leaf: jax.ShapeDtypeStruct, shardings: dict[tuple[int, ...], Any], mesh: Any) -> NamedSharding:
    """The sharding of the largest parameter shape that the array ends with."""
    for axes in range(len(leaf.shape), 0, -1):
        sharding = shardings.get(leaf.shape[len(leaf.shape) - axes :])
        if sharding is not None:
            return NamedSharding(mesh, PartitionSpec(*(None,) * (len(leaf.shape) - axes), *sharding.spec))
    return NamedSharding(mesh, PartitionSpec())
