"""What is known about all tasks, where each device runs some of them."""

import itertools as it
from typing import TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Int, Key, PRNGKeyArray

from ..base import MetaProblem


A = TypeVar("A")


def total(tree: A, problem: MetaProblem) -> A:
    """The sum over devices of what each has summed over its own tasks, in one all-reduce."""
    if problem.axis is None:
        return tree
    leaves, structure = jtu.tree_flatten(tree)
    # One long vector per dtype: between processes, each array of an all-reduce costs a round trip of its own.
    for dtype in sorted({x.dtype for x in leaves}, key=str):
        own = [i for i, x in enumerate(leaves) if x.dtype == dtype]
        stops = list(it.accumulate(leaves[i].size for i in own))
        sums = jax.lax.psum(jnp.concatenate([leaves[i].ravel() for i in own]), problem.axis)
        for i, part in zip(own, jnp.split(sums, stops[:-1]), strict=True):
            leaves[i] = part.reshape(leaves[i].shape)
    return jtu.tree_unflatten(structure, leaves)


def task_indices(problem: MetaProblem) -> Int[Array, " tasks"]:
    """The numbers of the tasks of this device, among those of all devices."""
    own = jnp.arange(problem.tasks, dtype=jnp.int32)
    return own if problem.axis is None else own + problem.tasks * jax.lax.axis_index(problem.axis)


def task_keys(key: PRNGKeyArray, indices: Int[Array, " tasks"]) -> Key[Array, " tasks"]:
    """One key per task, by its index: the same whatever the tasks are spread over."""
    return jax.vmap(lambda i: jr.fold_in(key, i))(indices)
