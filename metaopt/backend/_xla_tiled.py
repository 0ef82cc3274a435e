"""The per-parameter network over one large tensor, tile by tile, with everything folded that can be."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._network import Network
from ._observed import Observed
from ._tiles import Matrix, Region, as_matrix, assemble, count, for_each, layout, regions, tile
from ._xla_dense import fold
from .base import EPSILON, Feature, Pointwise


# A matrix product takes as long for one or two outputs as for many; weighted sums do not.
FEW = 2


class Folded(NamedTuple):
    """A first layer with everything folded in that is known before the elements are visited.

    The inverse root mean squares are in the weights of `full`, the features that differ from element to element.
    All other features depend on the row or on the column alone (or on neither): what they contribute is `offsets`.
    """

    full: Sequence[int]
    weight: Float[Array, "hidden full"]
    offsets: list[Float[Array, "hidden ..."]]


def split(features: Sequence[Feature], shape: tuple[int, ...]) -> tuple[list[int], dict[tuple[int, ...], list[int]]]:
    """The indices of the features of full shape, and of all others by their shape."""
    full, low = [], {}
    for index, feature in enumerate(features):
        if feature.value.shape == shape:
            full.append(index)
        else:
            low.setdefault(feature.value.shape, []).append(index)
    return full, low


def squared(feature: Feature) -> Float[Array, "..."]:
    return jnp.square(feature.value) if feature.square is None else feature.square


def fold_features(
    network: Network, features: Sequence[Feature], tensor: Observed, moments: Float[Array, " full"]
) -> Folded:
    """Fold normalizers, row features and column features into the first layer.

    **Arguments:**

    - `network`: with the context folded in already.
    - `features`: of the whole tensor.
    - `tensor`: the tensor, of any shape to which the features are broadcastable.
    - `moments`: mean squares of the features of full shape.
    """
    first = network.layers[0]
    full, low = split(features, tensor.shape)
    weight = first.weight[:, jnp.asarray(full)] * jax.lax.rsqrt(moments + EPSILON)[None, :]
    offsets = [first.bias.reshape(-1, *(1,) * len(tensor.shape))]
    for members in low.values():
        values = jnp.stack([features[index].value for index in members])
        # A feature held once per row stands for equally many elements each: its mean over them is its mean.
        mean = jnp.mean(jnp.stack([squared(features[i]) for i in members]), axis=tuple(range(1, values.ndim)))
        mean = tensor.everywhere(mean)
        scaled = first.weight[:, jnp.asarray(members)] * jax.lax.rsqrt(mean + EPSILON)[None, :]
        offsets.append(jnp.tensordot(scaled, values, axes=1))
    return Folded(full, weight, offsets)


def second_moments(pointwise: Pointwise, matrix: Matrix, block: int, full: Sequence[int]) -> Float[Array, " full"]:
    """Mean squares of the given features, which must have full shape, in one pass over the tensor."""
    whole = jax.eval_shape(pointwise.features, matrix.seen)
    totals = []
    for region in regions(matrix, block):
        rows, lanes = layout(region)

        def add(sums: list[Array], index: Int[Array, ""], region: Region = region) -> tuple[list[Array], None]:
            features = pointwise.features(tile(matrix, matrix.seen, region, index))
            squares = [squared(features[i]).reshape(rows, lanes) for i in full]
            return [s + jnp.sum(square, axis=0) for s, square in zip(sums, squares, strict=True)], None

        start = [jnp.zeros(lanes, whole[i].value.dtype) for i in full]
        sums, _ = jax.lax.scan(jax.checkpoint(add), start, jnp.arange(count(matrix, region)))
        totals.append(jnp.stack([jnp.sum(s) for s in sums]))
    return sum(totals[1:], start=totals[0]) / math.prod(matrix.shape)


def tiled(
    pointwise: Pointwise, network: Network, context: Float[Array, " context"], tensor: Observed, block: int
) -> Float[Array, "..."]:
    """The network of `network_update` for one tensor, in tiles of about `block` elements."""
    network = fold(network, context)
    matrix = as_matrix(tensor, block)
    full, _ = split(jax.eval_shape(pointwise.features, matrix.seen), matrix.shape)
    moments = tensor.everywhere(second_moments(pointwise, matrix, block // 2, full))
    folded = fold_features(network, pointwise.features(matrix.seen), tensor._replace(shape=matrix.shape), moments)
    parts = []
    for region in regions(matrix, block):

        def update(index: Int[Array, ""], region: Region = region) -> Float[Array, "height width"]:
            seen, offsets = tile(matrix, (matrix.seen, folded.offsets), region, index)
            features = pointwise.features(seen)
            outputs = _apply(network, folded, [features[i].value for i in folded.full], offsets, region)
            return pointwise.finish(seen, outputs)

        parts.append((region, for_each(count(matrix, region), update)))
    return assemble(matrix, parts).reshape(tensor.shape)


def _apply(
    network: Network,
    folded: Folded,
    values: Sequence[Float[Array, "height width"]],
    offsets: Sequence[Float[Array, "hidden ..."]],
    region: Region,
) -> list[Float[Array, "height width"]]:
    # A batched product of [rows, features, lanes] is what the matrix multiplication is fastest at: its working set
    # is one row. A single product over all elements of the tile was a third slower.
    rows, lanes = layout(region)
    x = jnp.stack([value.reshape(rows, lanes) for value in values], axis=1)
    x = _batched(folded.weight, x)
    for offset in offsets:
        x = x + _arrange(offset, region)
    *hidden, last = network.layers[1:]
    for layer in hidden:
        x = _batched(layer.weight, jax.nn.relu(x)) + layer.bias[None, :, None]
    x = jax.nn.relu(x)
    if last.bias.size <= FEW:
        outputs = [jnp.sum(w[None, :, None] * x, axis=1) + b for w, b in zip(last.weight, last.bias, strict=True)]
    else:
        outputs = list(jnp.swapaxes(_batched(last.weight, x) + last.bias[None, :, None], 0, 1))
    return [output.reshape(region.height, region.width) for output in outputs]


def _batched(weight: Float[Array, "out in"], x: Float[Array, "rows in lanes"]) -> Float[Array, "rows out lanes"]:
    return jnp.broadcast_to(weight[None], (x.shape[0], *weight.shape)) @ x


def _arrange(offset: Float[Array, "hidden ..."], region: Region) -> Float[Array, "..."]:
    if offset.shape[1:] != (1, 1) and layout(region) != (region.height, region.width):
        offset = jnp.broadcast_to(offset, (offset.shape[0], region.height, region.width))
        offset = offset.reshape(offset.shape[0], *layout(region))
    return jnp.swapaxes(offset, 0, 1)
