"""A function of one task, over all of them."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax

from ..base import MetaProblem


A = TypeVar("A")


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
