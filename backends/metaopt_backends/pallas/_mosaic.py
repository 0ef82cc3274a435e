"""The fused update for TPUs, in Mosaic: each program has a rectangle of elements."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu
from jaxtyping import Array

from metaopt.backend import Network

from .._elements import Rule
from .._layout import COLUMN, FULL, ROW, SCALAR, Layout
from ._evaluate import evaluate, varying


# A rectangle is some registers of 8 x 128 numbers.
_TILE = (8, 128)


class Plan(NamedTuple):
    """What is known when a kernel is compiled. A rectangle has at most `height` x `width` elements."""

    rule: Rule
    layout: Layout
    height: int = 32
    width: int = 256
    interpret: bool = False


class _Shape(NamedTuple):
    """The tensor as a matrix; one long row is folded into many."""

    rows: int
    cols: int
    padding: int


def _shape(layout: Layout) -> _Shape:
    rows, width = math.prod(layout.rows), _TILE[1]
    if layout.rows:
        return _Shape(rows, layout.cols, 0)
    rows = pl.cdiv(layout.cols, width)
    return _Shape(rows, width, rows * width - layout.cols)


def update(
    plan: Plan,
    network: Network,
    arrays: Sequence[Array],
    results: Sequence[jax.ShapeDtypeStruct],
) -> list[Array]:
    """The new states and parameters, of a network with all scales and the context folded in; see the Triton kernel."""
    rule, layout, shape = plan.rule, plan.layout, _shape(plan.layout)
    height = min(plan.height, pl.cdiv(shape.rows, _TILE[0]) * _TILE[0])
    width = min(plan.width, pl.cdiv(shape.cols, _TILE[1]) * _TILE[1])
    operands, specs = [], []
    for leaf, array in enumerate(arrays):
        operand, spec = _operand(array, leaf, layout, shape, height, width)
        operands.append(operand)
        specs.append(spec)
    weights = [x for layer in network.layers for x in (layer.weight, layer.bias)]
    units = [layer.weight.shape[0] for layer in network.layers]
    count, free = len(arrays), [len(own) for own in rule.state] + [1]

    def kernel(*refs: Any) -> None:
        own, weight_refs, rest = refs[:count], refs[count : count + len(weights)], refs[count + len(weights) :]
        outs, (x, *hidden) = rest[: len(results)], rest[len(results) :]

        def load(leaf: int, index: int) -> Array:
            return own[leaf][index] if layout.leaf_kinds[leaf] == SCALAR else own[leaf][index, :, :]

        known: dict[int, Array] = {}
        evaluate(rule, rule.values, load, known)
        for k, n in enumerate(rule.values):
            x[k] = jnp.broadcast_to(known[n], (height, width))
        outputs = _network(weight_refs, [x, *hidden], [len(rule.values), *units])
        known.update(zip(rule.outputs, outputs, strict=True))
        numbers = [n for numbers in rule.state for n in numbers] + [rule.param]
        evaluate(rule, numbers, load, known)
        for out, own_numbers in zip(outs, [*rule.state, (rule.param,)], strict=True):
            for index, n in enumerate(own_numbers):
                out[index, :, :] = jnp.broadcast_to(known[n], (height, width))

    dtype = arrays[0].dtype
    memory = pl.BlockSpec(memory_space=tpu.SMEM)
    block = [pl.BlockSpec((k, height, width), lambda i, j: (0, i, j)) for k in free]
    new = pl.pallas_call(
        kernel,
        out_shape=varying([((k, shape.rows, shape.cols), dtype) for k in free], [*arrays, *weights]),
        grid=(pl.cdiv(shape.rows, height), pl.cdiv(shape.cols, width)),
        in_specs=[*specs, *[memory] * len(weights)],
        out_specs=block,
        scratch_shapes=[tpu.VMEM((n, height, width), dtype) for n in (len(rule.values), *units)],
        interpret=plan.interpret,
        compiler_params=tpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
    )(*operands, *weights)
    return [_unfold(x, like, shape) for x, like in zip(new, results, strict=True)]


def _operand(
    array: Array, leaf: int, layout: Layout, shape: _Shape, height: int, width: int
) -> tuple[Array, pl.BlockSpec]:
    """An operand with its free axes as one, and which part of it a program sees."""
    kind, size = layout.leaf_kinds[leaf], math.prod(layout.rows)
    if kind == SCALAR:
        return array.reshape(-1), pl.BlockSpec(memory_space=tpu.SMEM)
    if kind == COLUMN:
        return array.reshape(-1, 1, shape.cols), _spec(array.size // shape.cols, 1, width)
    # Rows may be counted over several axes, of which an operand may know some only.
    count = array.size // layout.free[leaf]
    own = tuple(n if strides[leaf] else 1 for n, strides in zip(layout.rows, layout.strides, strict=True))
    cols = layout.cols if kind == FULL else 1
    full = jnp.broadcast_to(array.reshape(count, *own, cols), (count, *layout.rows, cols)).reshape(count, size, cols)
    if kind == ROW:
        return full, _spec(count, height, 1)
    if shape.padding or not layout.rows:
        full = jnp.pad(full, [(0, 0), (0, 0), (0, shape.padding)], constant_values=1)
        full = full.reshape(count, shape.rows, shape.cols)
    return full, _spec(count, height, width)


def _spec(count: int, height: int, width: int) -> pl.BlockSpec:
    def index(i: Any, j: Any) -> tuple[Any, Any, Any]:
        return 0, i if height > 1 else 0, j if width > 1 else 0

    return pl.BlockSpec((count, height, width), index)


def _unfold(x: Array, like: jax.ShapeDtypeStruct, shape: _Shape) -> Array:
    flat = x.reshape(x.shape[0], -1)
    return flat[:, : flat.shape[1] - shape.padding].reshape(like.shape)


def _network(refs: Sequence[Any], stores: Sequence[Any], sizes: Sequence[int]) -> list[Array]:
    """A dense network, unit by unit: a loop over the units of a layer, with the sum over its inputs written out."""
    last = len(sizes) - 2
    for layer in range(last + 1):
        weight, bias = refs[2 * layer], refs[2 * layer + 1]
        source, target = stores[layer], stores[layer + 1]

        def unit(j: Any, _: None, layer: int = layer) -> None:
            total = jnp.full(target.shape[1:], bias[j])
            for k in range(sizes[layer]):
                total = total + weight[j, k] * source[k]
            target[j] = jnp.maximum(total, 0) if layer < last else total

        jax.lax.fori_loop(0, sizes[layer + 1], unit, None)
    return [stores[-1][j] for j in range(sizes[-1])]
