"""Values that all processes share."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .._core.files._save import is_key


T = TypeVar("T")


def replicate(tree: T, mesh: Mesh) -> T:
    """Place the arrays of a pytree, which must be the same in all processes, on all devices of a mesh."""
    everywhere = NamedSharding(mesh, PartitionSpec())

    def place(leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        if is_key(leaf):
            return jr.wrap_key_data(place(jr.key_data(leaf)), impl=jr.key_impl(leaf))
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, everywhere, lambda index: array[index])

    return jtu.tree_map(place, tree)


def fetch(tree: T) -> T:
    """Copies of replicated arrays with which a process can compute alone."""

    def copy(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        if is_key(leaf):
            return jr.wrap_key_data(copy(jr.key_data(leaf)), impl=jr.key_impl(leaf))
        return jnp.asarray(np.asarray(leaf))

    return jtu.tree_map(copy, tree)


def agree(number: int) -> int:
    """The largest of the numbers that the processes have. All must ask at the same point of the program."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.asarray(number, np.int32))))
