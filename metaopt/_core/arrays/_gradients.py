"""Values and gradients of losses."""

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import equinox as eqx
from jaxtyping import Array, Float


P = TypeVar("P")
A = ParamSpec("A")


def value_and_grad(
    loss: Callable[Concatenate[P, A], Float[Array, ""]],
) -> Callable[Concatenate[P, A], tuple[Float[Array, ""], P]]:
    """Make a function that returns a loss and its gradient, as algorithms take it.

    It is `equinox.filter_value_and_grad` with a type that static checkers understand: the gradient is that by all
    arrays of floating-point numbers in the first argument, and looks like this argument, with `None` elsewhere.

    **Arguments:**

    - `loss`: a function of the parameters, and of whatever else, that returns a scalar.

    **Returns:**

    A function of the same arguments that returns the loss and the gradient.
    """

    return eqx.filter_value_and_grad(loss)
