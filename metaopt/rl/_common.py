"""What all agents share."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import optax

from .._core import AbstractAlgorithm, ClipByGlobalNorm, from_optax


def adam(learning_rate: float) -> AbstractAlgorithm[Any, Any, Any]:
    """What agents learn with if nothing else is given: Adam, with gradients of a norm of at most 1."""
    return ClipByGlobalNorm(from_optax(optax.adam, learning_rate=learning_rate), 1.0)


@contextlib.contextmanager
def promotion() -> Iterator[None]:
    """For distributions and environments of others, which are not written for the strict settings."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
