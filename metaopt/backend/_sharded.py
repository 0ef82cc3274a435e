"""Kernels that run where the parameters lie."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.tree_util as jtu
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, PyTree

from .._core.arrays._layouts import follow
from ._network import Network
from .base import AbstractBackend, Pointwise, Tensor, Updated


T = TypeVar("T")


class Sharded(AbstractBackend):
    """Kernels of another backend, each device on its own part of every tensor.

    All that devices tell each other are mean squares of features. Made by [`metaopt.sharding.shard_algorithm`][].
    """

    inner: AbstractBackend
    mesh: Mesh = eqx.field(static=True)
    specs: tuple[tuple[str, PartitionSpec], ...] = eqx.field(static=True)

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
        def update(shared: tuple[Network, Array], tensors: Sequence[Tensor]) -> list[Updated]:
            return self.inner.network_update(pointwise, *shared, tensors)

        return self._on_parts(update, (network, context), tensors)

    def elementwise_update(
        self, update: Callable[[Any, Sequence[Tensor]], list[Updated]], shared: PyTree, tensors: Sequence[Tensor]
    ) -> list[Updated]:
        def on_parts(shared: PyTree, tensors: Sequence[Tensor]) -> list[Updated]:
            return self.inner.elementwise_update(update, shared, tensors)

        return self._on_parts(on_parts, shared, tensors)

    def perturb(self, params: T, noise: T, total: T, restart: Bool[Array, ""]) -> tuple[T, T]:
        return self.inner.perturb(params, noise, total, restart)

    def gram(self, vectors: Float[Array, "m *n"]) -> Float[Array, "m m"]:
        return self.inner.gram(vectors)

    def combine(self, coefficients: Float[Array, " m"], vectors: Float[Array, "m *n"]) -> Float[Array, "*n"]:
        return self.inner.combine(coefficients, vectors)

    def contract_pairs(
        self, integrals: Float[Array, "pairs pairs"], density: Float[Array, "n n"]
    ) -> Float[Array, "n n"]:
        return self.inner.contract_pairs(integrals, density)

    def exchange_of_factors(
        self, factors: Float[Array, "auxiliary pairs"], density: Float[Array, "n n"]
    ) -> Float[Array, "n n"]:
        return self.inner.exchange_of_factors(factors, density)

    def _on_parts(
        self, update: Callable[[Any, Sequence[Tensor]], list[Updated]], shared: PyTree, tensors: Sequence[Tensor]
    ) -> list[Updated]:
        specs = [self._spec(tensor) for tensor in tensors]

        def split(tree: PyTree, tensor: Tensor, spec: PartitionSpec) -> PyTree:
            return jtu.tree_map(lambda x: follow(x.shape, tensor.shape, spec) or PartitionSpec(), tree)

        def local(shared: PyTree, arrays: list[tuple[Any, Any, Any]]) -> list[tuple[Any, Any]]:
            own = [
                Tensor(*array, tensor.name, tensor.axes + _axes(spec))
                for array, tensor, spec in zip(arrays, tensors, specs, strict=True)
            ]
            return [(updated.state, updated.param) for updated in update(shared, own)]

        inside = [split(t[:3], t, spec) for t, spec in zip(tensors, specs, strict=True)]
        outside = [(split(t.state, t, spec), spec) for t, spec in zip(tensors, specs, strict=True)]
        # Derivatives of what is mapped are right without tracking what varies, as all means are taken explicitly.
        mapped = jax.shard_map(
            local, mesh=self.mesh, in_specs=(PartitionSpec(), inside), out_specs=outside, check_vma=False
        )
        return [Updated(*new) for new in mapped(shared, [tensor[:3] for tensor in tensors])]

    def _spec(self, tensor: Tensor) -> PartitionSpec:
        known = dict(self.specs)
        if tensor.name not in known:
            raise ValueError(
                f"`{tensor.name}` is not among the parameters that the algorithm was sharded for, which are "
                f"{', '.join(known)}. Call `metaopt.sharding.shard_algorithm` with the parameters of this step."
            )
        return known[tensor.name]


def _axes(spec: PartitionSpec) -> tuple[str, ...]:
    """The mesh axes that a tensor is spread over."""
    return tuple(name for entry in spec if entry for name in ((entry,) if isinstance(entry, str) else entry))
