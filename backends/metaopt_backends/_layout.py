"""How the operands of a tensor lie in memory, as rows of contiguous elements."""

import itertools as it
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ._elements import Leaf, Rule


# What a value varies along: nothing, rows, columns, both.
SCALAR, ROW, COLUMN, FULL = range(4)
# Shorter rows than this are not worth a loop of their own.
SHORTEST_ROW = 64
# What depends on columns alone is worth a table if there are at least so many rows.
FEWEST_ROWS = 16


class Layout(NamedTuple):
    """A tensor as rows of contiguous elements.

    - `rows`: the sizes of the axes over which rows are counted.
    - `cols`: how many elements a row has.
    - `leaf_kinds`, `kinds`: per operand and per number of the rule, what it varies along.
    - `strides`: per axis of `rows`, per operand, how far apart its numbers are.
    - `free`: per operand, how far apart its free indices are.
    - `spread`: the operands that must be broadcast to the shape of the tensor first.
    """

    rows: tuple[int, ...]
    cols: int
    leaf_kinds: tuple[int, ...]
    kinds: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    free: tuple[int, ...]
    spread: tuple[bool, ...]

    def numbers(self) -> np.ndarray:
        """All of it that is known only when a kernel is called, as numbers."""
        flat = [len(self.rows), self.cols, *self.rows, *it.chain(*self.strides), *self.free]
        return np.array(flat, dtype=np.int64)

    def arrange(self, arrays: Sequence[Any], shape: tuple[int, ...]) -> list[Any]:
        """The operands as the kernel reads them."""

        def one(x: Any, spread: bool) -> Any:
            free = x.shape[: max(x.ndim - len(shape), 0)]
            return jnp.broadcast_to(x, (*free, *shape)) if spread else x

        return [one(x, spread) for x, spread in zip(arrays, self.spread, strict=True)]


def lay_out(rule: Rule, shape: tuple[int, ...]) -> Layout:
    """Choose what is a row, and say where everything is."""
    leaves = rule.leaves
    groups = _groups(shape, leaves)
    partial = [any(leaf.varies) and not _is_full(leaf, shape) for leaf in leaves]
    spread = (False,) * len(leaves)
    if len(groups) > 1 and math.prod(shape[axis] for axis in groups[-1]) < SHORTEST_ROW:
        spread = tuple(partial)
        leaves = tuple(
            Leaf(leaf.free, tuple(n > 1 for n in shape)) if own else leaf
            for leaf, own in zip(leaves, spread, strict=True)
        )
        groups = _groups(shape, leaves)
    inner = groups[-1] if groups else []
    outer = groups[:-1]
    rows = tuple(math.prod(shape[axis] for axis in group) for group in outer)
    tabled = math.prod(rows) >= FEWEST_ROWS

    def kind(varies: Sequence[bool]) -> int:
        along_rows, along_cols = any(varies[a] for group in outer for a in group), any(varies[a] for a in inner)
        if along_cols:
            return COLUMN if tabled and not along_rows else FULL
        return ROW if along_rows else SCALAR

    everywhere = tuple(n > 1 for n in shape)
    varies = [
        everywhere if any(spread) and any(own) else own for own in rule.varies
    ]  # where one operand is broadcast, all that varies does so along every axis
    strides = tuple(tuple(_stride(leaf, shape, group) for leaf in leaves) for group in outer)
    free = tuple(math.prod(n for n, v in zip(shape, leaf.varies, strict=True) if v) for leaf in leaves)
    return Layout(
        rows,
        math.prod(shape[axis] for axis in inner),
        tuple(kind(leaf.varies) for leaf in leaves),
        tuple(kind(own) for own in varies),
        strides,
        free,
        spread,
    )


def _is_full(leaf: Leaf, shape: tuple[int, ...]) -> bool:
    return all(v or n == 1 for v, n in zip(leaf.varies, shape, strict=True))


def _groups(shape: tuple[int, ...], leaves: Sequence[Leaf]) -> list[list[int]]:
    """Neighboring axes along which the same operands vary, as one; axes of size one are left out."""
    groups: list[list[int]] = []
    last = None
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        pattern = tuple(leaf.varies[axis] for leaf in leaves)
        if pattern == last:
            groups[-1].append(axis)
        else:
            groups.append([axis])
        last = pattern
    return groups


def _stride(leaf: Leaf, shape: tuple[int, ...], group: list[int]) -> int:
    """How far apart the numbers of an operand are along a group of axes."""
    if not leaf.varies[group[-1]]:
        return 0
    return math.prod(n for axis, (n, v) in enumerate(zip(shape, leaf.varies, strict=True)) if v and axis > group[-1])
