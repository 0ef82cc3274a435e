"""The loss, as algorithms are told it."""

import abc
import functools as ft
import sys
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


class MissingValueWarning(UserWarning):
    """A rule that looks at the loss was stepped without it, and steps worse for it."""


class AbstractLossReader(eqx.Module):
    """A part of the contract for algorithms that look at the loss, but do not fail without it.

    A step of theirs without a `value` warns, wherever in another algorithm they are.
    """

    @property
    @abc.abstractmethod
    def without_value(self) -> str:
        """What the rule does when it is told no loss: the rest of a sentence that begins with "It"."""


def told(step: Callable[..., Any]) -> Callable[..., Any]:
    """A `step` that is told the loss as an array, whatever kind of number it was, and that warns where it is missed."""

    @ft.wraps(step)
    def step_with_loss(self: Any, *args: Any, value: Any = None, **options: Any) -> Any:
        if value is None and isinstance(self, AbstractLossReader):
            _miss(type(self).__name__, self.without_value)
        return step(self, *args, value=_as_loss(value), **options)

    return step_with_loss


def _as_loss(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, jax.Array | np.ndarray | np.generic | int | float):
        raise TypeError(
            f"`value` must be the loss, a number or a 0-d array of one, but a `{type(value).__name__}` was given."
        )
    array = jnp.asarray(value) if eqx.is_array(value) else jnp.asarray(value, jnp.result_type(float))
    if array.shape:
        raise ValueError(
            f"`value` must be the loss, a single number, but its shape is {array.shape}. Give the mean of the losses."
        )
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"`value` must be the loss, a real number, but its dtype is {array.dtype}.")
    return array.astype(jnp.result_type(float))


def _miss(rule: str, consequence: str) -> None:
    warn_user(
        f"`{rule}` looks at the loss, but no `value` was given: it {consequence}, and its steps are worse for it. Call "
        "`algorithm.step(state, params, grads, value=loss)`, or, with `tx = metaopt.to_optax(algorithm)`, "
        "`tx.update(grads, opt_state, params, value=loss)`. `TrainState.apply_gradients` of Flax cannot pass it: write "
        "`updates, opt_state = tx.update(grads, ts.opt_state, ts.params, value=loss)` in its place, and then "
        "`ts.replace(step=ts.step + 1, params=optax.apply_updates(ts.params, updates), opt_state=opt_state)`.",
        MissingValueWarning,
    )


_LIBRARIES = {"metaopt", "metaopt_backends", "jax", "equinox", "optax", "flax", "jaxtyping", "beartype", "functools"}


def warn_user(text: str, category: type[Warning]) -> None:
    """Warn at the line of the user's own code that led here, so that Python shows it once for each such line."""
    level, frame = 1, sys._getframe()
    while frame is not None and _is_library(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def _is_library(module: str) -> bool:
    return module.split(".")[0] in _LIBRARIES or module == "contextlib"
