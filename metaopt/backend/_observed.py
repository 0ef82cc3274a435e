"""A tensor whose state is up to date: what features are made of."""

import math
from typing import NamedTuple

import jax
from jaxtyping import Array, Float, PyTree

from .base import Pointwise, Tensor


class Observed(NamedTuple):
    """What is seen of a tensor, with the leaves that [`metaopt.backend.Tensor`][] describes.

    `axes` are the mesh axes that the tensor is spread over.
    """

    seen: PyTree[Float[Array, "..."]]
    shape: tuple[int, ...]
    axes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def everywhere(self, means: Float[Array, " k"]) -> Float[Array, " k"]:
        """Means over the whole tensor, of those over the part of it that this device has."""
        return jax.lax.pmean(means, self.axes) if self.axes else means


def observe(pointwise: Pointwise, tensor: Tensor) -> tuple[PyTree[Float[Array, "..."]], Observed]:
    """The new state of a tensor, and what is seen of it then."""
    state, seen = pointwise.observe(tensor.param, tensor.state, tensor.operands)
    return state, Observed(seen, tensor.shape, tensor.axes)
