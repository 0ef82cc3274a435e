"""What all agents share."""

from typing import Any

import optax

from ..._core import AbstractAlgorithm, ClipByGlobalNorm, from_optax


def adam(learning_rate: float) -> AbstractAlgorithm[Any, Any, Any]:
    """What agents learn with if nothing else is given: Adam, with gradients of a norm of at most 1."""
    return ClipByGlobalNorm(from_optax(optax.adam, learning_rate=learning_rate), 1.0)
