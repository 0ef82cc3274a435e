"""How arrays that belong to a parameter lie on a mesh."""

from typing import Any

import equinox as eqx
import jax.tree_util as jtu
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree


def layouts(params: PyTree) -> tuple[Mesh, dict[tuple[Any, ...], NamedSharding]]:
    """The mesh that parameters lie on, and the sharding of each, by its path.

    **Raises:**

    - `ValueError`: if no parameter is on a mesh, or they are on different ones.
    """
    leaves = jtu.tree_flatten_with_path(params)[0]
    found = {
        path: leaf.sharding for path, leaf in leaves if eqx.is_array(leaf) and isinstance(leaf.sharding, NamedSharding)
    }
    meshes = {sharding.mesh for sharding in found.values()}
    if len(meshes) != 1:
        raise ValueError(
            f"The parameters must lie on one mesh, but they lie on {len(meshes)}. Place them with "
            "`jax.device_put(params, jax.sharding.NamedSharding(mesh, spec))`."
        )
    (mesh,) = meshes
    assert isinstance(mesh, Mesh)  # arrays that exist lie on devices
    return mesh, found


def follow(shape: tuple[int, ...], param_shape: tuple[int, ...], spec: PartitionSpec) -> PartitionSpec | None:
    """The layout of an array whose last axes are those of a parameter, or have size one; nothing if they are not.

    Axes in front, such as one of several averages, are not split.
    """
    free = len(shape) - len(param_shape)
    own = shape[max(free, 0) :]
    if free < 0 or not all(n in (1, m) for n, m in zip(own, param_shape, strict=True)):
        return None
    entries = [*spec, *[None] * (len(param_shape) - len(spec))]
    kept = [entry if n == m else None for n, m, entry in zip(own, param_shape, entries, strict=True)]
    return PartitionSpec(*[None] * free, *kept)
