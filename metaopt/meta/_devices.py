"""What is known about all tasks, where each device runs some of them."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, Key, PRNGKeyArray

from .base import MetaProblem


A = TypeVar("A")


def total(tree: A, problem: MetaProblem) -> A:
    """The sum over devices of what each has summed over its own tasks, in one all-reduce."""
    return tree if problem.axis is None else jax.lax.psum(tree, problem.axis)


def task_indices(problem: MetaProblem) -> Int[Array, " tasks"]:
    """The numbers of the tasks of this device, among those of all devices."""
    own = jnp.arange(problem.tasks, dtype=jnp.int32)
    return own if problem.axis is None else own + problem.tasks * jax.lax.axis_index(problem.axis)


def task_keys(key: PRNGKeyArray, indices: Int[Array, " tasks"]) -> Key[Array, " tasks"]:
    """One key per task, by its index: the same whatever the tasks are spread over."""
    return jax.vmap(lambda i: jr.fold_in(key, i))(indices)
