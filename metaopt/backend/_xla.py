"""The backend that runs everywhere."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, PyTree

from ._network import Network
from ._observed import Observed, observe
from ._pairs import contract, exchange
from ._xla_dense import dense
from ._xla_tiled import split, tiled
from ._xla_unrolled import multiply_adds, unrolled
from .base import AbstractBackend, Pointwise, Tensor, Updated


T = TypeVar("T")


_IN_CACHE, _BUSY = 8192, 2**20


class XLA(AbstractBackend):
    """Kernels written in JAX alone. This is the default, and what other backends are tested against.

    Small tensors are gathered into matrices and go through the network together. A large tensor goes through it in
    tiles that stay in cache or, if the network has few units, as one fused elementwise loop.

    **Attributes:**

    - `block`: how many elements make a tile; tensors up to this size are small. By default as many as stay in cache on
        CPUs, and as many as keep a GPU or TPU busy.
    - `unroll`: up to how many multiplications per element a network is written out.
    """

    block: int | None = eqx.field(static=True, default=None)
    unroll: int = eqx.field(static=True, default=400)

    def __check_init__(self) -> None:
        if self.block is not None and self.block < 1:
            raise ValueError(f"`block` must be at least 1, but {self.block} was given.")

    @property
    def _size(self) -> int:
        # Not when it is made: that may be before JAX has its devices.
        return self.block or (_IN_CACHE if jax.default_backend() == "cpu" else _BUSY)

    @staticmethod
    def unusable() -> str | None:
        return None

    def network_update(
        self,
        pointwise: Pointwise,
        network: Network,
        context: Float[Array, " context"],
        tensors: Sequence[Tensor],
    ) -> list[Updated]:
        observed = [observe(pointwise, tensor) for tensor in tensors]
        new: dict[int, Array] = {}
        small: dict[str, list[int]] = {}
        for index, (tensor, (_, seen)) in enumerate(zip(tensors, observed, strict=True)):
            dtype = tensor.param.dtype
            if tensor.param.size == 0:
                new[index] = tensor.param
            elif self._is_large(pointwise, seen):
                new[index] = self._large(pointwise, *_cast(network, context, dtype), seen)
            else:
                small.setdefault(str(dtype), []).append(index)
        for dtype, indices in small.items():
            for group in self._groups(indices, tensors):
                own = [observed[index][1] for index in group]
                out = dense(pointwise, *_cast(network, context, dtype), own)
                new.update(zip(group, out, strict=True))
        return [Updated(state, new[index]) for index, (state, _) in enumerate(observed)]

    def elementwise_update(
        self, update: Callable[[Any, Sequence[Tensor]], list[Updated]], shared: PyTree, tensors: Sequence[Tensor]
    ) -> list[Updated]:
        return update(shared, tensors)

    def perturb(self, params: T, noise: T, total: T, restart: Bool[Array, ""]) -> tuple[T, T]:
        pair = jtu.tree_map(lambda x, e: jnp.stack([x + e, x - e]), params, noise)
        new = jtu.tree_map(lambda old, e: jnp.where(restart, jnp.zeros_like(old), old) + e, total, noise)
        return pair, new

    def gram(self, vectors: Float[Array, "m *n"]) -> Float[Array, "m m"]:
        flat = vectors.reshape(vectors.shape[0], -1)
        return jnp.matmul(flat, flat.T, precision=jax.lax.Precision.HIGHEST)

    def combine(self, coefficients: Float[Array, " m"], vectors: Float[Array, "m *n"]) -> Float[Array, "*n"]:
        return jnp.tensordot(coefficients, vectors, axes=1, precision=jax.lax.Precision.HIGHEST)

    def contract_pairs(
        self, integrals: Float[Array, "pairs pairs"], density: Float[Array, "n n"]
    ) -> Float[Array, "n n"]:
        return contract(integrals, density)

    def exchange_of_factors(
        self, factors: Float[Array, "auxiliary pairs"], density: Float[Array, "n n"]
    ) -> Float[Array, "n n"]:
        return exchange(factors, density)

    def _is_large(self, pointwise: Pointwise, tensor: Observed) -> bool:
        if tensor.size <= self._size:
            return False
        # Tiles are cut from features that differ from element to element.
        return bool(split(jax.eval_shape(pointwise.features, tensor.seen), tensor.shape)[0])

    def _large(
        self, pointwise: Pointwise, network: Network, context: Float[Array, " context"], tensor: Observed
    ) -> Float[Array, "..."]:
        if multiply_adds(pointwise, network, tensor) <= self.unroll:
            return unrolled(pointwise, tensor.shape, tensor.axes, self._size, network, context, tensor.seen)
        return tiled(pointwise, network, context, tensor, self._size)

    def _groups(self, indices: Sequence[int], tensors: Sequence[Tensor]) -> list[list[int]]:
        """Consecutive tensors of together at most two blocks, so that their matrix stays in cache too."""
        groups, room = [], 0
        for index in indices:
            size = tensors[index].param.size
            if not groups or size > room:
                groups.append([])
                room = 2 * self._size
            groups[-1].append(index)
            room -= size
        return groups


def _cast(network: Network, context: Float[Array, " context"], dtype: str | jnp.dtype) -> tuple[Network, Array]:
    return jtu.tree_map(lambda x: x.astype(dtype), (network, context))
