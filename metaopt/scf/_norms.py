"""Numbers that several accelerators need."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from .._core._numbers import number


def _known(x: Any) -> bool:
    return not isinstance(x, Tracer) and eqx.is_array_like(x)


def positive(x: Any) -> Float[Array, ""]:
    """A number that must be positive.

    **Raises:**

    - `ValueError`: if it is not.
    """
    if _known(x) and not x > 0:
        raise ValueError(f"A positive number was wanted, but {x} was given.")
    return number(x)


def fraction(x: Any) -> Float[Array, ""]:
    """A number of at least zero and less than one.

    **Raises:**

    - `ValueError`: if it is not.
    """
    if _known(x) and not 0 <= x < 1:
        raise ValueError(f"A number of at least 0 and less than 1 was wanted, but {x} was given.")
    return number(x)


def largest(matrix: Float[Array, "..."]) -> Float[Array, ""]:
    return jnp.max(jnp.abs(matrix))
