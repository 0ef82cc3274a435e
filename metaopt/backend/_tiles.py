"""Large tensors cut into tiles that stay in cache."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PyTree

from .base import Tensor


A = TypeVar("A")

# A tile of fewer elements is not worth its dispatch.
SMALLEST = 1024
# Matrix products over many more columns than this leave the first-level cache.
LANES = 1024


class Matrix(NamedTuple):
    """A tensor seen as `lead` matrices; each axis of a leaf of `operands` has that size or 1."""

    operands: PyTree[Float[Array, "..."]]
    lead: int
    rows: int
    cols: int


class Region(NamedTuple):
    """A rectangle of tiles of one size, in every matrix."""

    row: int
    col: int
    down: int
    across: int
    height: int
    width: int


def as_matrix(tensor: Tensor, block: int) -> Matrix:
    """See a tensor as matrices of its last two axes, or as one long row where nothing depends on rows alone."""
    shape = tensor.shape
    leaves = jtu.tree_leaves(tensor.operands)
    size = _size(shape)
    structured = any(_trailing(leaf, shape) not in (shape, (1,) * len(shape)) for leaf in leaves)
    if structured and len(shape) > 1 and min(shape[-2] * shape[-1], block) >= SMALLEST:
        lead = _size(shape[:-2])
        rows, cols = shape[-2:]
    else:
        lead, rows, cols = 1, 1, size

    def reshape(leaf: Array) -> Array:
        extra = leaf.shape[: max(leaf.ndim - len(shape), 0)]
        trailing = _trailing(leaf, shape)
        if _size(trailing) == 1:
            return leaf.reshape(*extra, 1, 1, 1)
        if rows == 1:
            return jnp.broadcast_to(leaf, (*extra, *shape)).reshape(*extra, 1, 1, size)
        if _size(trailing[:-2]) > 1:
            leaf = jnp.broadcast_to(leaf, (*extra, *shape[:-2], *trailing[-2:]))
        return leaf.reshape(*extra, -1 if _size(trailing[:-2]) > 1 else 1, *trailing[-2:])

    return Matrix(jtu.tree_map(reshape, tensor.operands), lead, rows, cols)


def _size(shape: Sequence[int]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _trailing(leaf: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    return leaf.shape[leaf.ndim - len(shape) :] if leaf.ndim else (1,) * len(shape)


def regions(matrix: Matrix, block: int) -> list[Region]:
    """Cover a matrix with tiles of about `block` elements: whole rows where they fit, pieces of one row elsewhere."""
    if matrix.cols <= 2 * block:
        width, height = matrix.cols, _divisor(matrix.rows, max(1, block // matrix.cols))
    else:
        width, height = block, 1
    down, across = divmod(matrix.rows, height), divmod(matrix.cols, width)
    rows = [(0, down[0], height), (down[0] * height, 1, down[1])]
    cols = [(0, across[0], width), (across[0] * width, 1, across[1])]
    return [
        Region(row, col, n_down, n_across, h, w) for row, n_down, h in rows for col, n_across, w in cols if h * w > 0
    ]


def _divisor(n: int, target: int) -> int:
    """The largest divisor of `n` between `target // 2` and `target`; `target` itself if there is none."""
    if target >= n:
        return n
    return next((d for d in range(target, target // 2, -1) if n % d == 0), target)


def layout(region: Region) -> tuple[int, int]:
    """How the elements of a tile are arranged for the network: a batch of rows of about `LANES` elements."""
    if LANES // 4 <= region.width <= LANES * 3 // 2:
        return region.height, region.width
    size = region.height * region.width
    lanes = next((d for d in range(min(LANES, size), LANES // 4, -1) if size % d == 0), size)
    return size // lanes, lanes


def tile(matrix: Matrix, tree: PyTree[Float[Array, "..."]], region: Region, index: Int[Array, ""]) -> PyTree:
    """Slice tile `index` of a region out of each leaf (`[..., lead or 1, rows or 1, cols or 1]`)."""
    index, across = index // region.across, index % region.across
    lead, down = index // region.down, index % region.down
    starts = (lead, region.row + down * region.height, region.col + across * region.width)
    sizes = (1, region.height, region.width)

    def cut(leaf: Array) -> Array:
        extra = leaf.ndim - 3
        whole = [n == 1 for n in leaf.shape[extra:]]
        start = [jnp.zeros((), index.dtype)] * extra
        start += [jnp.zeros((), index.dtype) if w else s for w, s in zip(whole, starts, strict=True)]
        size = leaf.shape[:extra] + tuple(1 if w else n for w, n in zip(whole, sizes, strict=True))
        return jnp.squeeze(jax.lax.dynamic_slice(leaf, start, size), axis=extra)

    return jtu.tree_map(cut, tree)


def count(matrix: Matrix, region: Region) -> int:
    """How many tiles a region has, over all matrices."""
    return matrix.lead * region.down * region.across


def assemble(
    matrix: Matrix, parts: Sequence[tuple[Region, Float[Array, "tiles height width"]]]
) -> Float[Array, "lead rows cols"]:
    """The inverse of cutting into tiles."""
    bands: dict[int, list[Array]] = {}
    for region, tiles in parts:
        grid = tiles.reshape(matrix.lead, region.down, region.across, region.height, region.width)
        band = grid.transpose(0, 1, 3, 2, 4)
        shape = (matrix.lead, region.down * region.height, region.across * region.width)
        bands.setdefault(region.row, []).append(band.reshape(shape))
    joined = [band[0] if len(band) == 1 else jnp.concatenate(band, axis=2) for band in bands.values()]
    return joined[0] if len(joined) == 1 else jnp.concatenate(joined, axis=1)


def for_each(n: int, body: Callable[[Int[Array, ""]], A]) -> A:
    """`jax.lax.map` over `n` tiles; the backward pass computes tiles anew instead of keeping what was in them."""
    body = jax.checkpoint(body)
    if n == 1:
        return jtu.tree_map(lambda x: x[None], body(jnp.asarray(0)))
    return jax.lax.map(body, jnp.arange(n))
