"""A function of one task, over all of them."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.tree_util as jtu

from ..base import MetaProblem


A = TypeVar("A")
S = TypeVar("S")


def over_tasks(function: Callable[..., A], problem: MetaProblem, *arguments: Any) -> A:
    """Map a function over the leading axis of its arguments, `problem.batch_size` tasks at a time."""
    if problem.batch_size is None or problem.batch_size >= problem.tasks:
        return eqx.filter_vmap(function)(*arguments)
    dynamic, static = eqx.partition(arguments, eqx.is_array)
    rest = []

    def one(dynamic: Any) -> Any:
        result, other = eqx.partition(function(*eqx.combine(dynamic, static)), eqx.is_array)
        rest.append(other)
        return result

    results = jax.lax.map(one, dynamic, batch_size=problem.batch_size if problem.batch_size > 1 else None)
    return eqx.combine(results, rest[0])


def advance_tasks(function: Callable[[S], tuple[S, A]], problem: MetaProblem, state: S) -> tuple[S, A]:
    """Map a function from a state to a new one, and more, over the leading axis, `problem.batch_size` tasks at a time.

    The states of a batch are written over those it had, so that no second copy of all of them is needed.
    """
    size = problem.batch_size
    if size is None or size >= problem.tasks:
        return eqx.filter_vmap(function)(state)
    dynamic, static = eqx.partition(state, eqx.is_array)
    kept: list[Any] = []

    def batch(dynamic: Any) -> tuple[Any, Any]:
        new, more = eqx.filter_vmap(function)(eqx.combine(dynamic, static))
        arrays, other = eqx.partition(more, eqx.is_array)
        kept.append(other)
        return eqx.filter(new, eqx.is_array), arrays

    def body(number: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        dynamic, found = carry
        first = number * size
        own = jtu.tree_map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, size), dynamic)
        return jtu.tree_map(
            lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, first, 0), (dynamic, found), batch(own)
        )

    whole, rest = divmod(problem.tasks, size)
    shapes = jax.eval_shape(lambda x: batch(jtu.tree_map(lambda x: x[:size], x))[1], dynamic)
    found = jtu.tree_map(lambda x: jax.lax.full((problem.tasks, *x.shape[1:]), 0, x.dtype), shapes)
    carry = jax.lax.fori_loop(0, whole, body, (dynamic, found))
    if rest:
        last = batch(jtu.tree_map(lambda x: x[-rest:], carry[0]))
        carry = jtu.tree_map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, whole * size, 0), carry, last)
    return eqx.combine(carry[0], static), eqx.combine(carry[1], kept[0])
