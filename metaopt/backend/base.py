"""What a backend is: other implementations of the same kernels, chosen when a function is compiled."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from ._network import Network


class Feature(NamedTuple):
    """One input of a per-parameter network.

    `value` is broadcastable to the tensor: a feature that depends on the row alone has size 1 along the columns, and
    is then paid for once per row. `square` may give `value**2` where that is cheaper than squaring `value`.
    """

    value: Float[Array, "..."]
    square: Float[Array, "..."] | None = None


class Pointwise(NamedTuple):
    """The two functions around a per-parameter network. Both must be elementwise, and close over no arrays.

    `features(operands)` lists the inputs of the network; `finish(operands, outputs)` makes the result of the operands
    and the network's outputs. Both are called with whole tensors or with tiles of them.
    """

    features: Callable[[Any], Sequence[Feature]]
    finish: Callable[[Any, Sequence[Array]], Array]


class Tensor(NamedTuple):
    """What a per-parameter network is applied to.

    Each leaf of `operands` is a scalar, or its last `len(shape)` axes are broadcastable to `shape`. Further axes in
    front are free: momenta with `k` decays are one leaf `[k, *shape]`. [`metaopt.backend.per_tensor`][] makes leaves
    that are constant over the tensor.
    """

    operands: PyTree[Float[Array, "..."]]
    shape: tuple[int, ...]


class AbstractBackend(eqx.Module):
    """A set of kernels.

    Backends have no leaves and are hashable: they are static fields of the algorithms that use them, so the choice is
    part of the cache key of `jax.jit` and costs nothing at run time.
    """

    @abc.abstractmethod
    def pointwise_network(
        self,
        pointwise: Pointwise,
        network: Network,
        context: Float[Array, " context"],
        tensors: Sequence[Tensor],
    ) -> list[Float[Array, "..."]]:
        r"""Apply one small network to every element of every tensor.

        With features $f_k$, an array per tensor, and a context $c$ that all elements of all tensors share,

        $$y = \mathrm{finish}\left(N\left(\frac{f_1}{\sqrt{\overline{f_1^2} + 10^{-5}}}, \ldots,
              \frac{f_K}{\sqrt{\overline{f_K^2} + 10^{-5}}}, c_1, \ldots, c_T\right)\right)$$

        where the bars are means over the tensor.

        **Arguments:**

        - `pointwise`: the features and what is done with the outputs.
        - `network`: takes $K + T$ inputs.
        - `context`: the $T$ inputs that are the same everywhere, such as features of the time.
        - `tensors`: the operands.

        **Returns:**

        One array per tensor, of its shape.
        """


def per_tensor(x: Float[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Give numbers that belong to a whole tensor the trailing axes of size one that an operand has."""
    return x.reshape(x.shape + (1,) * len(shape))
