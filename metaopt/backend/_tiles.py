"""Large tensors cut into tiles that stay in cache."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PyTree

from ._observed import Observed


A = TypeVar("A")

# A tile of fewer elements is not worth its dispatch.
SMALLEST = 1024
# Matrix products over many more columns than this leave the first-level cache.
LANES = 1024


class Matrix(NamedTuple):
    """A tensor seen as `[cols]`, `[rows, cols]` or `[lead, rows, cols]`; each axis of a leaf has that size or 1.

    No axis is added: the compiler would lay such an array out anew, and copy it.
    """

    seen: PyTree[Float[Array, "..."]]
    shape: tuple[int, ...]

    @property
    def lead(self) -> int:
        return self.shape[0] if len(self.shape) > 2 else 1

    @property
    def rows(self) -> int:
        return self.shape[-2] if len(self.shape) > 1 else 1

    @property
    def cols(self) -> int:
        return self.shape[-1]


class Region(NamedTuple):
    """A rectangle of tiles of one size, in every matrix."""

    row: int
    col: int
    down: int
    across: int
    height: int
    width: int


def as_matrix(tensor: Observed, block: int) -> Matrix:
    """See a tensor as matrices of its last two axes, or as one long row where nothing depends on rows alone."""
    shape = tensor.shape
    leaves = jtu.tree_leaves(tensor.seen)
    size = tensor.size
    structured = any(_trailing(leaf, shape) not in (shape, (1,) * len(shape)) for leaf in leaves)
    if structured and len(shape) > 1 and min(shape[-2] * shape[-1], block) >= SMALLEST:
        seen = shape if len(shape) < 4 else (math.prod(shape[:-2]), *shape[-2:])
    else:
        seen = (size,)

    def reshape(leaf: Array) -> Array:
        extra = leaf.shape[: max(leaf.ndim - len(shape), 0)]
        trailing = _trailing(leaf, shape)
        if math.prod(trailing) == 1:
            return leaf.reshape(*extra, *(1,) * len(seen))
        if len(seen) == 1:
            return jnp.broadcast_to(leaf, (*extra, *shape)).reshape(*extra, size)
        if len(shape) > 3:
            lead = 1 if math.prod(trailing[:-2]) == 1 else seen[0]
            leaf = jnp.broadcast_to(leaf, (*extra, *(shape[:-2] if lead > 1 else trailing[:-2]), *trailing[-2:]))
            return leaf.reshape(*extra, lead, *trailing[-2:])
        return leaf

    return Matrix(jtu.tree_map(reshape, tensor.seen), seen)


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
    """Slice tile `index` of a region out of each leaf, as `[..., height or 1, width or 1]`."""
    index, across = index // region.across, index % region.across
    lead, down = index // region.down, index % region.down
    starts = (region.row + down * region.height, region.col + across * region.width)
    zero = jnp.zeros((), index.dtype)

    def cut(leaf: Array) -> Array:
        axes = len(matrix.shape)
        extra = leaf.shape[: leaf.ndim - axes]
        n_lead, n_rows, n_cols = (1,) * (3 - axes) + leaf.shape[leaf.ndim - axes :]
        height, width = min(n_rows, region.height), min(n_cols, region.width)
        col = starts[1] if n_cols > 1 else zero
        zeros = [zero] * len(extra)
        if axes == 1:
            return jax.lax.dynamic_slice(leaf, [*zeros, col], (*extra, width)).reshape(*extra, 1, width)
        # Matrices are stacked to one, which is no copy; then there is no axis to drop from the slice.
        leaf = leaf.reshape(*extra, n_lead * n_rows, n_cols) if axes > 2 else leaf
        row = (lead * n_rows if n_lead > 1 else zero) + (starts[0] if n_rows > 1 else zero)
        return jax.lax.dynamic_slice(leaf, [*zeros, row, col], (*extra, height, width))

    return jtu.tree_map(cut, tree)


def count(matrix: Matrix, region: Region) -> int:
    """How many tiles a region has, over all matrices."""
    return matrix.lead * region.down * region.across


def assemble(matrix: Matrix, parts: Sequence[tuple[Region, Float[Array, "_ _ _"]]]) -> Float[Array, "lead rows cols"]:
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
