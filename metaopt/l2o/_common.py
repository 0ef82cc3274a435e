"""What several cells share."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._core._numbers import number
from .._core._trees import Leaf, Matched, compute_dtype, match, trainable


class CellState(NamedTuple):
    """The state of a cell: the number of steps taken, and one substate per trainable leaf of the parameters."""

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    tensors: PyTree


def horizon_leaf(x: Any) -> Int[Array, ""]:
    if isinstance(x, int) and x < 1:
        raise ValueError(f"`horizon` must be at least 1, but {x} was given.")
    return jnp.asarray(x, jnp.int32)


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

    return CellState(jnp.zeros((), jnp.int32), jtu.tree_map(one, trainable(params)))


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
    state: CellState, matched: Matched, tensors: Sequence[Any], new: Sequence[Float[Array, "..."]]
) -> tuple[CellState, PyTree]:
    """Put new substates and new parameters (rounded once, to their own dtype) where they belong."""
    rounded = [x.astype(leaf.param.dtype) for x, leaf in zip(new, matched.leaves, strict=True)]
    return CellState(state.count + 1, matched.put(state.tensors, tensors)), matched.rebuild(rounded)
