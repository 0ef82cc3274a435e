"""The backend that runs everywhere."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from ._network import Network
from ._xla_dense import dense
from ._xla_tiled import split, tiled
from ._xla_unrolled import multiply_adds, unrolled
from .base import AbstractBackend, Pointwise, Tensor


class XLA(AbstractBackend):
    """Kernels written in JAX alone. This is the default, and what other backends are tested against.

    Small tensors are gathered into matrices and go through the network together. A large tensor goes through it in
    tiles that stay in cache or, if the network has few units, as one fused elementwise loop.

    **Attributes:**

    - `block`: how many elements make a tile; tensors up to this size are small.
    - `unroll`: up to how many multiplications per element a network is written out.
    """

    block: int = eqx.field(static=True, default=8192)
    unroll: int = eqx.field(static=True, default=400)

    def __check_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"`block` must be at least 1, but {self.block} was given.")

    def pointwise_network(
        self,
        pointwise: Pointwise,
        network: Network,
        context: Float[Array, " context"],
        tensors: Sequence[Tensor],
    ) -> list[Float[Array, "..."]]:
        results: dict[int, Array] = {}
        small: dict[str, list[int]] = {}
        for index, tensor in enumerate(tensors):
            dtype = _dtype(tensor)
            if math.prod(tensor.shape) == 0:
                results[index] = jnp.zeros(tensor.shape, dtype)
            elif self._is_large(pointwise, tensor):
                results[index] = self._large(pointwise, *_cast(network, context, dtype), tensor)
            else:
                small.setdefault(str(dtype), []).append(index)
        for dtype, indices in small.items():
            for group in self._groups(indices, tensors):
                own = [tensors[index] for index in group]
                out = dense(pointwise, *_cast(network, context, dtype), own)
                results.update(zip(group, out, strict=True))
        return [results[index] for index in range(len(tensors))]

    def _is_large(self, pointwise: Pointwise, tensor: Tensor) -> bool:
        if math.prod(tensor.shape) <= self.block:
            return False
        # Tiles are cut from features that differ from element to element.
        return bool(split(jax.eval_shape(pointwise.features, tensor.operands), tensor.shape)[0])

    def _large(
        self, pointwise: Pointwise, network: Network, context: Float[Array, " context"], tensor: Tensor
    ) -> Float[Array, "..."]:
        if multiply_adds(pointwise, network, tensor) <= self.unroll:
            return unrolled(pointwise, tensor.shape, self.block, network, context, tensor.operands)
        return tiled(pointwise, network, context, tensor, self.block)

    def _groups(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> list[list[int]]:
        """Consecutive tensors of together at most two blocks, so that their matrix stays in cache too."""
        groups, room = [], 0
        for index in indices:
            size = math.prod(tensors[index].shape)
            if not groups or size > room:
                groups.append([])
                room = 2 * self.block
            groups[-1].append(index)
            room -= size
        return groups


def _dtype(tensor: Tensor) -> jnp.dtype:
    return jnp.result_type(*jtu.tree_leaves(tensor.operands))


def _cast(network: Network, context: Float[Array, " context"], dtype: str | jnp.dtype) -> tuple[Network, Array]:
    return jtu.tree_map(lambda x: x.astype(dtype), (network, context))
