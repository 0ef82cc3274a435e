"""The fused update for GPUs, in Triton: each program has some elements of one row."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

from metaopt.backend import Network

from .._elements import Rule
from .._layout import FULL, ROW, SCALAR, Layout
from ._evaluate import evaluate, varying


# Products of matrices smaller than this are not worth the matrix units.
_SMALLEST_PRODUCT = 16
# Products in three parts of single precision each: as accurate as without the matrix units, to a few roundings.
_PRECISION = jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3


class Plan(NamedTuple):
    """What is known when a kernel is compiled."""

    rule: Rule
    layout: Layout
    block: int
    warps: int
    interpret: bool

    @property
    def grid(self) -> tuple[int, int]:
        return math.prod(self.layout.rows), pl.cdiv(self.layout.cols, self.block)


class _Place(NamedTuple):
    """The elements of one program: a row, the columns, and which of these exist."""

    row: Array
    col: Array
    exists: Array


def _place(plan: Plan) -> _Place:
    col = pl.program_id(1) * plan.block + jnp.arange(plan.block, dtype=jnp.int32)
    return _Place(pl.program_id(0), col, col < plan.layout.cols)


def _loader(plan: Plan, place: _Place, refs: Sequence[Any]) -> Any:
    """How operands are read: what varies along columns for each element, all else once."""
    layout = plan.layout

    def begin(leaf: int) -> Array:
        at, row = jnp.int32(0), place.row
        for size, strides in zip(reversed(layout.rows), reversed(layout.strides), strict=True):
            at = at + (row % size) * jnp.int32(strides[leaf])
            row = row // size
        return at

    def load(leaf: int, index: int) -> Array:
        start = begin(leaf) + jnp.int32(index * layout.free[leaf])
        if layout.leaf_kinds[leaf] in (SCALAR, ROW):
            return refs[leaf][start]
        return triton.load(refs[leaf].at[start + place.col], mask=place.exists, other=1)

    return load


def mean_squares(plan: Plan, arrays: Sequence[Array]) -> Float[Array, " features"]:
    """The mean squares of all features."""
    rule, layout = plan.rule, plan.layout
    count, dtype = len(rule.squares), arrays[0].dtype
    padded = pl.next_power_of_2(count)

    def kernel(*refs: Any) -> None:
        *operands, out = refs
        place = _place(plan)
        known: dict[int, Array] = {}
        evaluate(rule, rule.squares, _loader(plan, place, operands), known)
        first_col, first_row = pl.program_id(1) == 0, place.row == 0
        sums = jnp.zeros(padded, dtype)
        lanes = jnp.arange(padded, dtype=jnp.int32)
        for k, n in enumerate(rule.squares):
            kind = layout.kinds[n]
            if known[n].ndim:
                total = jnp.sum(jnp.where(place.exists, known[n], jnp.zeros((), dtype)))
            else:
                total = jnp.where(first_col, known[n], jnp.zeros((), dtype))
            if kind not in (ROW, FULL):
                total = jnp.where(first_row, total, jnp.zeros((), dtype))
            sums = jnp.where(lanes == k, total, sums)
        out[pl.program_id(0) * pl.num_programs(1) + pl.program_id(1), :] = sums

    rows, across = plan.grid
    (shape,) = varying([((rows * across, padded), dtype)], arrays)
    partial = _call(plan, kernel, shape, {})(*map(_flat, arrays))
    totals = jnp.sum(partial, axis=0)[:count]
    counts = [(1, rows, layout.cols, rows * layout.cols)[layout.kinds[n]] for n in rule.squares]
    return totals / jnp.asarray(counts, dtype)


def has_matrices(network: Network) -> bool:
    """Whether all hidden layers are large enough for products of matrices."""
    hidden = [layer.bias.shape[0] for layer in network.layers[:-1]]
    return min(hidden, default=0) >= _SMALLEST_PRODUCT


def update(
    plan: Plan,
    network: Network,
    arrays: Sequence[Array],
    results: Sequence[jax.ShapeDtypeStruct],
    aliases: dict[int, int],
) -> list[Array]:
    """The new states and parameters.

    **Arguments:**

    - `plan`: what is computed.
    - `network`: with the scales of features in its first weights, and the context in its first bias.
    - `arrays`: the operands.
    - `results`: what comes out.
    - `aliases`: which operands the results overwrite.
    """
    rule = plan.rule
    sizes = [network.layers[0].weight.shape[1], *[layer.weight.shape[0] for layer in network.layers]]
    matrices = has_matrices(network)
    weights = _as_matrices(network) if matrices else [x for layer in network.layers for x in (layer.weight, layer.bias)]
    apply = _matrix_network if matrices else _written_network
    count = len(arrays)

    def kernel(*refs: Any) -> None:
        operands, weight_refs, outs = refs[:count], refs[count : count + len(weights)], refs[count + len(weights) :]
        place = _place(plan)
        load = _loader(plan, place, operands)
        known: dict[int, Array] = {}
        evaluate(rule, rule.values, load, known)
        outputs = apply(plan, weight_refs, [known[n] for n in rule.values], sizes)
        known.update(zip(rule.outputs, outputs, strict=True))
        numbers = [n for own in rule.state for n in own] + [rule.param]
        evaluate(rule, numbers, load, known)
        start = place.row * plan.layout.cols + place.col
        for out, own in zip(outs, [*rule.state, (rule.param,)], strict=True):
            for index, n in enumerate(own):
                value = jnp.broadcast_to(known[n], start.shape)
                triton.store(out.at[start + jnp.int32(index * plan.layout.free[0])], value, mask=place.exists)

    shapes = varying([((math.prod(x.shape),), x.dtype) for x in results], [*arrays, *weights])
    new = _call(plan, kernel, shapes, aliases)(*map(_flat, arrays), *weights)
    return [x.reshape(like.shape) for x, like in zip(new, results, strict=True)]


def _call(plan: Plan, kernel: Any, out: Any, aliases: dict[int, int]) -> Any:
    return pl.pallas_call(
        kernel,
        out_shape=out,
        grid=plan.grid,
        input_output_aliases=aliases,
        interpret=plan.interpret,
        compiler_params=triton.CompilerParams(num_warps=plan.warps, num_stages=1),
    )


def _flat(x: Array) -> Array:
    return x.reshape(-1)


def _written_network(plan: Plan, refs: Sequence[Any], values: list[Array], sizes: Sequence[int]) -> list[Array]:
    """A network of few units, each of them an array of elements."""
    x = values
    for layer, (weight, bias) in enumerate(zip(refs[::2], refs[1::2], strict=True)):
        x = [jax.nn.relu(unit) for unit in x] if layer else x
        x = [
            jnp.broadcast_to(sum((weight[j, k] * unit for k, unit in enumerate(x)), start=bias[j]), (plan.block,))
            for j in range(sizes[layer + 1])
        ]
    return x


def _as_matrices(network: Network) -> list[Array]:
    """Weights with sizes that are powers of two. The first ones stand by input, as columns."""

    def pad(x: Array, *sizes: int) -> Array:
        return jnp.pad(x, [(0, size - n) for size, n in zip(sizes, x.shape, strict=True)])

    sizes = [pl.next_power_of_2(layer.weight.shape[0]) for layer in network.layers]
    first, *others = network.layers
    *hidden, last = others
    weights = [pad(first.weight.T, first.weight.shape[1], sizes[0]), pad(first.bias, sizes[0])]
    for k, layer in enumerate(hidden):
        weights += [pad(layer.weight, sizes[k + 1], sizes[k]), pad(layer.bias, sizes[k + 1])]
    return [*weights, pad(last.weight, last.weight.shape[0], sizes[-2]), last.bias]


def _matrix_network(plan: Plan, refs: Sequence[Any], values: list[Array], sizes: Sequence[int]) -> list[Array]:
    """A network whose units are the rows of matrices: between hidden layers there are products of matrices."""
    first, first_bias, *hidden, last, last_bias = refs
    precision = jax.lax.Precision.HIGHEST if plan.interpret else _PRECISION
    bias = first_bias[:]
    for k, value in enumerate(values):
        bias = bias + first[k, :] * value if value.ndim == 0 else bias
    x = jnp.broadcast_to(bias[:, None], (bias.shape[0], plan.block))
    for k, value in enumerate(values):
        x = x + first[k, :][:, None] * value[None, :] if value.ndim else x
    for weight, bias in zip(hidden[::2], hidden[1::2], strict=True):
        x = jnp.dot(weight[:, :], jnp.maximum(x, 0), precision=precision, preferred_element_type=x.dtype)
        x = x + bias[:][:, None]
    x = jnp.maximum(x, 0)
    return [jnp.sum(last[j, :][:, None] * x, axis=0) + last_bias[j] for j in range(sizes[-1])]
