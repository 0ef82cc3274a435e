"""Known functions of points: sources, coefficients, boundary values."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core.arrays._numbers import number


Known = Callable[..., Any] | float


class Constant(eqx.Module):
    """A function with the same value everywhere."""

    number: Float[Array, "..."] = eqx.field(converter=number)

    def __call__(self, points: Float[Array, "n d"]) -> Float[Array, "n m"]:
        row = jnp.atleast_1d(self.number).astype(points.dtype)
        return jnp.broadcast_to(row[None, :], (points.shape[0], row.shape[0]))


class Function(eqx.Module):
    """A plain function of points and of arrays, which are leaves: tasks that differ in them can be batched.

    **Arguments:**

    - `function`: from points, one a row, and `parameters` to values, one a row.
    - `parameters`: the arrays.
    """

    function: Callable[..., Any] = eqx.field(static=True)
    parameters: tuple[Any, ...]

    def __init__(self, function: Callable[..., Any], *parameters: Any):
        self.function = function
        self.parameters = parameters

    def __call__(self, points: Float[Array, "n d"]) -> Float[Array, "..."]:
        return self.function(points, *self.parameters)


def as_function(given: Any) -> Any:
    """A number or a plain function, as a pytree that can be batched."""
    if isinstance(given, eqx.Module):
        return given
    return Function(given) if callable(given) else Constant(given)


def constant(function: Any) -> Any:
    """The number that a function is everywhere, if that is known."""
    return function.number if isinstance(function, Constant) else None


def values(function: Any, points: Float[Array, "n d"], outputs: int, name: str) -> Float[Array, "n m"]:
    """The values of a known function, one column for each output.

    **Raises:**

    - `ValueError`: if their shape is another.
    """
    found = jnp.asarray(function(points)).astype(points.dtype)
    found = found[:, None] if found.ndim == 1 else found
    wanted = (points.shape[0], outputs)
    if isinstance(function, Constant) and found.shape == (points.shape[0], 1):
        return jnp.broadcast_to(found, wanted)
    if found.shape != wanted:
        raise ValueError(
            f"`{name}` of {points.shape[0]} points has shape {found.shape}, but {wanted} was wanted"
            f"{' (or one axis less)' if outputs == 1 else ''}. Return one row for each point."
        )
    return found
