"""The largest part of a matrix of integrals, from a few of its columns."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


# Diagonal elements as close as this, of themselves, belong to pairs that a symmetry of the molecule exchanges.
_EQUAL = 1e-7
# A column of which less than this is left, of its diagonal element, is a combination of those before.
_DEPENDENT = 1e-4


def leading(
    diagonal: Float[Array, " pairs"],
    column: Callable[[Int[Array, ""]], Float[Array, " pairs"]],
    count: int,
    limit: Float[Array, ""],
) -> Float[Array, "count pairs"]:
    """The first factors $L$ of a pivoted Cholesky decomposition of a positive matrix, which is close to $L^T L$.

    Each takes the column with the largest diagonal element that is left. Columns with equal diagonal elements are taken
    one after the other, and none of them if not all have a place: what a symmetry exchanges stays together, so that
    the result has the symmetry of the matrix.

    **Arguments:**

    - `diagonal`, `column`: of the matrix.
    - `count`: how many factors the result has room for.
    - `limit`: how many there may be; the others are zero.
    """

    def twins(current: Int[Array, ""], left: Float[Array, " pairs"], done: Bool[Array, " pairs"]) -> Array:
        own = diagonal[current]
        return (jnp.abs(diagonal - own) <= _EQUAL * own) & ~done & (left > _DEPENDENT * diagonal)

    def add(m: Int[Array, ""], carry: Any) -> Any:
        factors, left, done, current, begun = carry
        equal = twins(current, left, done)
        goes_on = jnp.any(equal)
        place = jnp.argmax(jnp.where(done | (goes_on & ~equal), -jnp.inf, left))
        some = (m < limit.astype(m.dtype)) & (left[place] > _EQUAL * jnp.max(diagonal))
        rest = column(place) - factors[:, place] @ factors
        row = jnp.where(some, rest / jnp.sqrt(jnp.where(some, left[place], 1)), 0)
        begun = jnp.where(some & (~goes_on | (m == 0)), m.astype(begun.dtype), begun)
        current = jnp.where(some, place, current)
        return factors.at[m].set(row), left - row**2, done.at[place].set(done[place] | some), current, begun

    first = jnp.argmax(diagonal)
    none = jnp.zeros(diagonal.shape, bool)
    start = jnp.zeros((count, diagonal.size), diagonal.dtype), diagonal, none, first, jnp.zeros_like(first)
    factors, left, done, current, begun = jax.lax.fori_loop(0, count, add, start)
    complete = ~jnp.any(twins(current, left, done))
    return jnp.where((complete | (jnp.arange(count, dtype=begun.dtype) < begun))[:, None], factors, 0)
