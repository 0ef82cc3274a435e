"""What schedules share: the checks of their numbers, and the scaling of a step."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar, ScalarLike

from .._core.arrays._trees import compute_dtype


def count(x: ScalarLike) -> Int[Array, ""]:
    """A whole number, as a leaf."""
    return jnp.asarray(x, jnp.int32)


def warmup(clock: Int[Array, ""], horizon: Int[Array, ""], share: Float[Array, ""]) -> tuple[Array, Array]:
    """The linear rise over the first `share` of the horizon, and how much of the rest is done: both from 0 to 1."""
    dtype = compute_dtype(share.dtype)
    t, end = clock.astype(dtype), horizon.astype(dtype)
    start = share.astype(dtype) * end
    rise = jnp.minimum((t + 1) / jnp.maximum(start, 1), 1)
    # The lower bound matters if all of the horizon is warm-up.
    return rise, jnp.clip((t - start) / jnp.maximum(end - start, 1e-3), 0, 1)


def half_cosine(done: Float[Array, ""], final: Float[Array, ""]) -> Float[Array, ""]:
    """From 1 at `done` = 0 to `final` at 1, along half a cosine."""
    final = final.astype(done.dtype)
    return final + (1 - final) * (1 + jnp.cos(jnp.pi * done)) / 2


class Window(NamedTuple):
    """Losses that are averaged over windows of steps: their sum in the present window, and how many were seen."""

    total: Float[Array, ""]
    seen: Int[Array, ""]

    @staticmethod
    def empty(dtype: Any) -> "Window":
        """No loss was seen."""
        return Window(jnp.zeros((), dtype), jnp.zeros((), jnp.int32))

    def add(self, loss: Float[Array, ""], length: Int[Array, ""]) -> tuple["Window", Bool[Array, ""], Float[Array, ""]]:
        """The window after one more loss, whether that completed one of this length, and the average up to here."""
        total, seen = self.total + loss.astype(self.total.dtype), self.seen + 1
        due = seen >= length
        return Window(jnp.where(due, 0, total), jnp.where(due, 0, seen)), due, total / seen.astype(total.dtype)


def scaled(params: PyTree, proposed: PyTree, factor: Float[Array, ""]) -> PyTree:
    """The parameters that lie `factor` times as far away as those that an inner algorithm proposed."""

    def scale(old: Any, new: Any) -> Any:
        # An untouched leaf stays the same object; it may hold infinities, which arithmetic would spoil.
        if new is old or not eqx.is_inexact_array(old):
            return new
        dtype = compute_dtype(old.dtype)
        start, length = old.astype(dtype), factor.astype(jnp.finfo(dtype).dtype)
        return (start + length * (new.astype(dtype) - start)).astype(old.dtype)

    return jtu.tree_map(scale, params, proposed)


def needed(name: str, value: Scalar | None) -> Float[Array, ""]:
    """The loss, which a schedule that follows it cannot do without."""
    if value is None:
        raise ValueError(f"`{name}` follows the loss, but no `value` was given. Call `step(..., value=loss)`.")
    return value.astype(jnp.result_type(float))
