"""The backend of kernels for GPUs and TPUs."""

import functools as ft
import logging
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from metaopt.backend import (
    EPSILON,
    XLA,
    AbstractBackend,
    AbstractPartialBackend,
    Layer,
    Network,
    Pointwise,
    Tensor,
    Updated,
)

from .._elements import Rule, Unsupported, trace
from .._layout import lay_out
from .._shared import by_reference, everywhere, results_of
from . import _mosaic, _triton


T = TypeVar("T")


LOGGER = logging.getLogger("metaopt")
_DTYPES = ("float32",)


class Pallas(AbstractPartialBackend):
    """Kernels for GPUs (Triton) and TPUs (Mosaic), which read and write each number of a large tensor once or twice.

    The features and the step of a rule are computed in the kernel, together with its network. Small tensors, other
    dtypes than float32, rules that are not elementwise, other platforms and derivatives are left to the reference.

    **Attributes:**

    - `smallest`: tensors of fewer elements go to the reference, which treats many of them together.
    - `block`: how many elements a program of a GPU has; a power of two. By default 512, or 256 where there are products
        of matrices.
    - `warps`: how many warps it has.
    - `interpret`: run a kernel without its device, operation by operation: `triton` or `mosaic`. For tests.
    - `reference`: what runs where this does not.
    """

    smallest: int = eqx.field(static=True, default=8193)
    block: int | None = eqx.field(static=True, default=None)
    warps: int = eqx.field(static=True, default=4)
    interpret: Literal["triton", "mosaic"] | None = eqx.field(static=True, default=None)
    reference: AbstractBackend = XLA()

    def __check_init__(self) -> None:
        if self.block is not None and (self.block < 16 or self.block & (self.block - 1)):
            raise ValueError(f"`block` must be a power of two of at least 16, but {self.block} was given.")
        if self.warps < 1:
            raise ValueError(f"`warps` must be at least 1, but {self.warps} was given.")
        if self.interpret not in (None, "triton", "mosaic"):
            raise ValueError(f"`interpret` must be `triton` or `mosaic`, but `{self.interpret}` was given.")

    def network_update(
        self,
        pointwise: Pointwise,
        network: Network,
        context: Float[Array, " context"],
        tensors: Sequence[Tensor],
    ) -> list[Updated]:
        new: dict[int, Updated] = {}
        rest = []
        for index, tensor in enumerate(tensors):
            if tensor.param.size < self.smallest or tensor.param.dtype.name not in _DTYPES:
                rest.append(index)
                continue
            try:
                rule = trace(pointwise, network, tensor)
            except Unsupported as error:
                _warn(str(error))
                rest.append(index)
                continue
            shared = jtu.tree_map(lambda x: x.astype(tensor.param.dtype), (network, context))
            new[index] = _update(self, pointwise, _Traced(rule), tensor.axes, *shared, tensor[:3])
        own = self.reference.network_update(pointwise, network, context, [tensors[i] for i in rest])
        new.update(zip(rest, own, strict=True))
        return [new[index] for index in range(len(tensors))]

    @staticmethod
    def unusable() -> str | None:
        platform = jax.default_backend()
        return None if platform in ("gpu", "tpu") else f"it is for GPUs and TPUs, and jax runs on {platform} here"


@ft.cache
def _warn(reason: str) -> None:
    LOGGER.warning("metaopt: no Pallas kernel, the XLA path runs instead: %s.", reason)


class _Traced:
    """A rule as a static argument."""

    def __init__(self, rule: Rule):
        self.rule = rule
        self.key = (tuple(rule.program.nodes), *rule[1:])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Traced) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@ft.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def _update(
    backend: Pallas,
    pointwise: Pointwise,
    traced: _Traced,
    axes: tuple[str, ...],
    network: Network,
    context: Float[Array, " context"],
    tensor: tuple[Any, Any, Any],
) -> Updated:
    def gpu(*arguments: Any) -> Updated:
        return _on_gpu(backend, traced.rule, axes, *arguments)

    def tpu(*arguments: Any) -> Updated:
        return _on_tpu(backend, pointwise, traced.rule, axes, *arguments)

    other = by_reference(backend.reference, pointwise, axes)
    if backend.interpret is not None:
        return (gpu if backend.interpret == "triton" else tpu)(network, context, tensor)
    return jax.lax.platform_dependent(network, context, tensor, cuda=gpu, tpu=tpu, default=other)


@_update.defjvp
def _update_jvp(
    backend: Pallas,
    pointwise: Pointwise,
    traced: _Traced,
    axes: tuple[str, ...],
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
) -> tuple[Updated, Updated]:
    del traced

    return jax.jvp(by_reference(backend.reference, pointwise, axes), primals, tangents)


def _on_gpu(
    backend: Pallas, rule: Rule, axes: tuple[str, ...], network: Network, context: Array, tensor: tuple[Any, Any, Any]
) -> Updated:
    layout = lay_out(rule, tensor[0].shape)
    block = backend.block or (256 if _triton.has_matrices(network) else 512)
    block = max(min(block, 1 << (layout.cols - 1).bit_length()), 16)
    plan = _triton.Plan(rule, layout, block, backend.warps, backend.interpret is not None)
    arrays = layout.arrange(jtu.tree_leaves(tensor), tensor[0].shape)
    means = everywhere(_triton.mean_squares(plan, arrays), axes)
    results = results_of(tensor)
    new = _triton.update(plan, _folded(network, context, means), arrays, results.shapes, results.aliases)
    return results.updated(new)


def _on_tpu(
    backend: Pallas,
    pointwise: Pointwise,
    rule: Rule,
    axes: tuple[str, ...],
    network: Network,
    context: Array,
    tensor: tuple[Any, Any, Any],
) -> Updated:
    layout = lay_out(rule, tensor[0].shape)
    features = pointwise.features(pointwise.observe(*tensor)[1])
    squares = [jnp.square(f.value) if f.square is None else f.square for f in features]
    means = everywhere(jnp.stack([jnp.mean(square) for square in squares]), axes)
    plan = _mosaic.Plan(rule, layout, interpret=backend.interpret is not None)
    arrays = layout.arrange(jtu.tree_leaves(tensor), tensor[0].shape)
    results = results_of(tensor)
    return results.updated(_mosaic.update(plan, _folded(network, context, means), arrays, results.shapes))


def _folded(network: Network, context: Float[Array, " context"], means: Float[Array, " features"]) -> Network:
    """The network with the scales of features in its first weights, and the context in its first bias."""
    first, *others = network.layers
    count = means.shape[0]
    weight = first.weight[:, :count] * jax.lax.rsqrt(means + EPSILON)[None, :]
    return Network((Layer(weight, first.bias + first.weight[:, count:] @ context), *others))
