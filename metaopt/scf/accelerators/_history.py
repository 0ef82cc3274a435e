"""The last few Fock matrices and what was known at each."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Int


class History(NamedTuple):
    """Rings of arrays: the newest entry takes the place of the oldest.

    - `entries`: a tree whose leaves have a leading axis of places.
    - `count`: how many entries were ever added.
    """

    entries: Any
    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def size(self) -> int:
        return jtu.tree_leaves(self.entries)[0].shape[0]

    @property
    def newest(self) -> Int[Array, ""]:
        """The place of the last entry that was added."""
        return (self.count - 1) % self.size

    @property
    def valid(self) -> Bool[Array, " places"]:
        """Which places hold an entry."""
        return jnp.arange(self.size, dtype=self.count.dtype) < self.count

    def add(self, entry: Any) -> "History":
        place = self.count % self.size
        entries = jtu.tree_map(lambda ring, x: ring.at[place].set(x), self.entries, entry)
        return History(entries, self.count + 1)


def empty(entry: Any, size: int) -> History:
    """A history for entries of this kind."""
    return History(jtu.tree_map(lambda x: jnp.zeros((size, *x.shape), x.dtype), entry), jnp.zeros((), jnp.int32))


def products(
    ring: Float[Array, "places *shape"], other: Float[Array, "places *shape"]
) -> Float[Array, "places places"]:
    """Inner products of all with all."""
    flat, others = (x.reshape(x.shape[0], -1) for x in (ring, other))
    return flat @ others.T


def combined(weights: Float[Array, " places"], ring: Float[Array, "places *shape"]) -> Float[Array, "*shape"]:
    return jnp.tensordot(weights, ring, 1)


def check_history(history: int, least: int = 1, most: int | None = None) -> None:
    """Refuse a history of a length that cannot be.

    **Raises:**

    - `ValueError`: with the limits.
    """
    if history < least or (most is not None and history > most):
        limits = f"at least {least}" if most is None else f"between {least} and {most}"
        raise ValueError(f"`history` must be {limits}, but {history} was given.")
