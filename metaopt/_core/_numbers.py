"""Numbers that are given to algorithms and drivers."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def number(x: Any) -> Float[Array, "..."]:
    """A number that one could learn, as a leaf."""
    return jnp.asarray(x, jnp.result_type(float))


@contextlib.contextmanager
def usual_promotion() -> Iterator[None]:
    """Ranks and types of numbers are promoted in here, as code of others wants it that was not written for the strict
    settings."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def check_counts(**counts: int | None) -> None:
    """Check that numbers of things, where they are given, are at least 1.

    **Raises:**

    - `ValueError`: naming the first that is not.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"`{name}` must be at least 1, but {count} was given.")


def check_seconds(**times: float | None) -> None:
    """Check that times, where they are given, are above 0.

    **Raises:**

    - `ValueError`: naming the first that is not.
    """
    for name, seconds in times.items():
        if seconds is not None and not seconds > 0:
            raise ValueError(f"`{name}` must be above 0, but {seconds} was given.")
