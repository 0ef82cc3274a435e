"""What heads share that remember nothing."""

from jaxtyping import Array, Float, PyTree

from ..base import AbstractHead


class _AbstractStatelessHead(AbstractHead):
    """A head whose step is a function of the outputs and of its own numbers alone."""

    @property
    def signal_count(self) -> int:
        return 0

    @property
    def output_scale(self) -> float:
        return 1.0

    def init(self, param: Float[Array, "*p"]) -> PyTree:
        del param
        return None

    @staticmethod
    def observe(
        state: PyTree, operands: PyTree[Float[Array, "..."]], grad: Float[Array, "*p"]
    ) -> tuple[PyTree, PyTree[Float[Array, "..."]]]:
        del grad
        return state, operands

    @staticmethod
    def signals(seen: PyTree[Float[Array, "..."]]) -> list[Float[Array, "..."]]:
        del seen
        return []
