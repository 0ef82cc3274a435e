"""What several cells share."""

import functools as ft
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ..._core.arrays._numbers import number
from ..._core.arrays._trees import Leaf, Matched, compute_dtype, match, trainable
from ...backend import Feature, Pointwise


# To look for a number other than zero in tensors up to this size costs less than to decide whether to look.
_SMALL = 8192


class CellState(NamedTuple):
    """The state of a cell: the number of steps taken; and per trainable leaf of the parameters a substate, and whether
    its gradient was ever other than zero."""

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    tensors: PyTree
    started: PyTree


def default_key(key: PRNGKeyArray | None) -> PRNGKeyArray:
    return jr.key(0) if key is None else key


def log_complement(decays: float | Sequence[float], name: str) -> Float[Array, "..."]:
    r"""Decay rates $\beta$ as the leaf $\log(1 - \beta)$: a change of 0.01 changes the memory $1 / (1 - \beta)$ by 1%.

    **Raises:**

    - `ValueError`: if a decay is not in $[0, 1)$.
    """
    values = decays if isinstance(decays, Sequence) else [decays]
    if not all(0 <= decay < 1 for decay in values):
        raise ValueError(f"`{name}` must be at least 0 and less than 1, but {decays} was given.")
    return jnp.log1p(-number(decays))


def positive_log(x: float, name: str) -> Float[Array, ""]:
    """The logarithm of a positive number, as a leaf.

    **Raises:**

    - `ValueError`: if the number is not positive.
    """
    if not x > 0:
        raise ValueError(f"`{name}` must be positive, but {x} was given.")
    return jnp.log(number(x))


def complement(log: Float[Array, "*k"], like: Array) -> Float[Array, "*k"]:
    r"""The weight $1 - \beta$ of a new value, of the leaf $\log(1 - \beta)$; in $(0, 1]$ whatever the leaf."""
    return jnp.exp(jnp.minimum(log.astype(like.dtype), 0))


def average(weight: Float[Array, " k"], old: Float[Array, "k *p"], new: Float[Array, "*p"]) -> Float[Array, "k *p"]:
    r"""Exponential moving averages with several decays, $m_k \leftarrow m_k + (1 - \beta_k)(x - m_k)$."""
    weight = weight.reshape(-1, *(1,) * new.ndim)
    return old + weight * (new[None] - old)


def correction(weight: Float[Array, "*k"], step: Int[Array, ""]) -> Float[Array, "*k"]:
    r"""What an average that started at zero is multiplied by, $1 / (1 - \beta^{t})$, with $t$ counted from 1."""
    # In terms of 1 - beta: for a slow average, beta rounds to 1 long before its complement rounds to 0.
    log_decay = jnp.log1p(-jnp.minimum(weight, 1 - float(jnp.finfo(weight.dtype).epsneg)))
    return -1 / jnp.expm1((step.astype(weight.dtype) + 1) * log_decay)


def init_tensors(make: Callable[[Float[Array, "..."]], Any], params: PyTree) -> CellState:
    """Make a state of `make(leaf)` for each trainable leaf, given in the dtype that is computed in."""

    def one(leaf: Array) -> Any:
        return make(leaf.astype(compute_dtype(leaf.dtype)))

    leaves = trainable(params)
    return CellState(jnp.zeros((), jnp.int32), jtu.tree_map(one, leaves), not_started(leaves))


def not_started(leaves: PyTree) -> PyTree:
    """That no leaf had a gradient yet."""
    return jtu.tree_map(lambda _: jnp.zeros((), bool), leaves)


def moving(state: CellState, matched: Matched) -> list[Bool[Array, ""]]:
    """Of each matched leaf, whether its gradient is other than zero now, or was before.

    A leaf of which this is not so is not trained: its gradient is stopped, or its part of a model is frozen. Learned
    rules move what has no gradient, too, by what they learned of averages and weights, so `finish` holds it where it
    is. Gradients are looked at until there is one.
    """

    def one(leaf: Leaf, before: Bool[Array, ""]) -> Bool[Array, ""]:
        def looked() -> Bool[Array, ""]:
            return jnp.any(leaf.grad != 0)

        if leaf.grad.size <= _SMALL:
            return before | looked()
        return jax.lax.cond(before, lambda: jnp.ones((), bool), looked)

    return [one(*pair) for pair in zip(matched.leaves, matched.pick(state.started), strict=True)]


class HeldOperands(eqx.Module):
    """The operands of a rule, and a number that is zero where the tensor stays where it is."""

    own: Any
    moves: Float[Array, ""]


class _HeldSeen(eqx.Module):
    own: Any
    param: Float[Array, "*p"]
    moves: Float[Array, ""]


@ft.cache
def held(pointwise: Pointwise) -> Pointwise:
    """The same rule on `HeldOperands`: kernels hold what does not move while they have it at hand."""

    def observe(param: Any, state: Any, x: HeldOperands) -> tuple[Any, _HeldSeen]:
        new, seen = pointwise.observe(param, state, x.own)
        return new, _HeldSeen(seen, param, x.moves)

    def features(x: _HeldSeen) -> Sequence[Feature]:
        return pointwise.features(x.own)

    def finish_step(x: _HeldSeen, outputs: Sequence[Any]) -> Array:
        return jnp.where(x.moves != 0, pointwise.finish(x.own, outputs), x.param)

    return Pointwise(observe, features, finish_step)


def widen(leaf: Leaf) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """A parameter and its gradient in the dtype that is computed in."""
    dtype = compute_dtype(leaf.param.dtype)
    return leaf.param.astype(dtype), leaf.grad.astype(dtype)


def match_real(params: PyTree, grads: PyTree) -> Matched:
    """As `match`, for rules that read single real numbers.

    **Raises:**

    - `TypeError`: if a parameter is complex.
    """
    matched = match(params, grads)
    for leaf in matched.leaves:
        if jnp.iscomplexobj(leaf.param):
            raise TypeError(
                f"`{leaf.path}` is complex ({leaf.param.dtype}), but this learned rule updates real parameters. "
                "Optimize real and imaginary part as two arrays."
            )
    return matched


def finish(
    state: CellState,
    matched: Matched,
    moves: Sequence[Bool[Array, ""]],
    tensors: Sequence[Any],
    new: Sequence[Float[Array, "..."]],
    *,
    done: bool = False,
) -> tuple[CellState, PyTree]:
    """Put new substates and new parameters (rounded once, to their own dtype) where they belong.

    **Arguments:**

    - `state`, `matched`: from before the step.
    - `moves`: what `moving` says of each leaf; one that does not move keeps its parameters bit for bit.
    - `tensors`, `new`: the substates and the parameters of each leaf.
    - `done`: whether kernels have held already what does not move.
    """
    rounded = []
    for array, move, leaf in zip(new, moves, matched.leaves, strict=True):
        array = array.astype(leaf.param.dtype)
        rounded.append(array if done else jnp.where(move, array, leaf.param))
    started = matched.put(state.started, moves)
    return CellState(state.count + 1, matched.put(state.tensors, tensors), started), matched.rebuild(rounded)
