"""A memory of what happened, as a pytree."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Int, PRNGKeyArray, PyTree


class Replay(eqx.Module):
    """The last `capacity` steps of several episodes that run side by side; the oldest are overwritten."""

    rows: PyTree
    count: Int[Array, ""]

    @property
    def _capacity(self) -> int:
        return jtu.tree_leaves(self.rows)[0].shape[0]

    @staticmethod
    def empty(row: PyTree, capacity: int) -> "Replay":
        """A memory of `capacity` steps, each like `row`: arrays, or their shapes, with an axis for the episodes."""
        rows = jtu.tree_map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), row)
        return Replay(rows, jnp.zeros((), jnp.int32))

    def add(self, rows: PyTree) -> "Replay":
        """Remember some steps, in the order of time, at the end."""
        new = jtu.tree_leaves(rows)[0].shape[0]
        kept = jtu.tree_map(lambda old, x: jnp.concatenate([old, x])[-self._capacity :], self.rows, rows)
        return Replay(kept, self.count + new)

    def sample(self, batch: int, length: int, *, key: PRNGKeyArray) -> PyTree:
        """Draw sequences of steps that followed each other: arrays that begin with axes of `batch` and `length`."""
        episodes = jtu.tree_leaves(self.rows)[0].shape[1]
        stored = jnp.minimum(self.count, self._capacity)
        first, second = jr.uniform(key, (2, batch))
        choices = jnp.maximum(stored - length + 1, 1)
        ages = jnp.minimum((first * choices.astype(first.dtype)).astype(jnp.int32), choices - 1)
        times = (self._capacity - stored + ages)[:, None] + jnp.arange(length, dtype=jnp.int32)[None]
        columns = jnp.minimum((second * episodes).astype(jnp.int32), episodes - 1)
        return jtu.tree_map(lambda x: x[times, columns[:, None]], self.rows)
