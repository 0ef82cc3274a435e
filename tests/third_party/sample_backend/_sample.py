"""A backend of another distribution."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jaxtyping import Array, Bool, Float, PyTree

from metaopt.backend import XLA, AbstractBackend, Network, Pointwise, Tensor, Updated


T = TypeVar("T")

CALLS: list[str] = []


class Sample(AbstractBackend):
    """Let XLA do the work, and note what was asked for."""

    inner: AbstractBackend = XLA()

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
        CALLS.append("network_update")
        return self.inner.network_update(pointwise, network, context, tensors)

    def elementwise_update(
        self, update: Callable[[Any, Sequence[Tensor]], list[Updated]], shared: PyTree, tensors: Sequence[Tensor]
    ) -> list[Updated]:
        CALLS.append("elementwise_update")
        return self.inner.elementwise_update(update, shared, tensors)

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
