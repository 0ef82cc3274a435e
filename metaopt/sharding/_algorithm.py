"""Algorithms whose kernels run where the parameters lie."""

from typing import Any, TypeVar

import jax.tree_util as jtu
from jaxtyping import PyTree

from .._core import AbstractAlgorithm
from .._core.arrays._layouts import layouts


A = TypeVar("A", bound=AbstractAlgorithm[Any, Any, Any])


def shard_algorithm(algorithm: A, params: PyTree) -> A:
    """Let an algorithm update sharded parameters where they lie.

    `jax.jit` partitions most of a step by itself, but not kernels that visit a tensor piece by piece: without this, it
    would gather the tensor for them. Here each device runs them on its own part of every tensor.

    ```python
    params = jax.device_put(params, shardings)
    algorithm = shard_algorithm(algorithm, params)
    state = shard_state(algorithm, params)
    step = jax.jit(lambda *x: algorithm.step(*x), donate_argnums=(0, 1))
    ```

    **Arguments:**

    - `algorithm`: any algorithm. One without such kernels is returned as it is.
    - `params`: arrays on a mesh, sharded by `jax.sharding.NamedSharding`.

    **Returns:**

    The algorithm, with the same leaves, for parameters of this structure and these shardings.

    **Raises:**

    - `ValueError`: if no parameter is on a mesh, or they are on different ones.
    """
    from ..backend import AbstractBackend, Sharded  # only those who shard learned rules need them

    mesh, shardings = layouts(params)
    specs = tuple(("params" + jtu.keystr(path), sharding.spec) for path, sharding in shardings.items())

    def one(x: Any) -> Any:
        inner = x.inner if isinstance(x, Sharded) else x
        return Sharded(inner, mesh, specs) if isinstance(inner, AbstractBackend) else x

    return jtu.tree_map(one, algorithm, is_leaf=lambda x: isinstance(x, AbstractBackend))
