"""Numbers that are given to algorithms and drivers."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
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


class Range(NamedTuple):
    """Which numbers an option may have. A method refuses others, by the names of the options that they were given for.

    - `text`: the range in words, after "must be".
    - `low`, `high`: its ends.
    - `open_low`, `open_high`: whether the ends themselves are out of it.
    - `whole`: whether only whole numbers are in it.
    """

    text: str
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    whole: bool = False

    def check(self, **given: Any) -> None:
        """Check what a constructor was given.

        **Arguments:**

        - `**given`: numbers, arrays, or sequences of numbers, by name. What is not known yet, because it is traced, and
            what is no number at all passes; so does `None`, for an option that is left out.

        **Raises:**

        - `ValueError`: naming the first that is not in the range; NaN is in none.
        """
        for name, value in given.items():
            number = _known(value)
            if number is not None and not self._holds(number):
                # Where infinity alone is the matter, the rest of the range is no help.
                endless = np.any(np.isinf(number)) and self._holds(number[~np.isinf(number)])
                wanted = "finite" if endless and np.all(number > self.low) else self.text
                raise ValueError(f"`{name}` must be {wanted}, but {_shown(value)} was given.")

    def _holds(self, x: np.ndarray) -> bool:
        above = x > self.low if self.open_low else x >= self.low
        below = x < self.high if self.open_high else x <= self.high
        return bool(np.all(above & below) and (not self.whole or np.all(x == np.round(x))))


POSITIVE = Range("positive", 0, open_low=True, open_high=True)
LIMIT = Range("positive (`inf` for no limit)", 0, open_low=True)
NONNEGATIVE = Range("at least 0", 0, open_high=True)
FRACTION = Range("between 0 and 1", 0, 1)
DECAY = Range("at least 0 and less than 1", 0, 1, open_high=True)
SHARE = Range("positive and at most 1", 0, 1, open_low=True)
INSIDE = Range("between 0 and 1, both excluded", 0, 1, open_low=True, open_high=True)
GROWTH = Range("at least 1", 1, open_high=True)
REAL = Range("a finite number", open_low=True, open_high=True)
COUNT = Range("a whole number of at least 1", 1, open_high=True, whole=True)
WHOLE = Range("a whole number of at least 0", 0, open_high=True, whole=True)


def check_counts(**counts: Any) -> None:
    """Check that numbers of things, where they are given, are whole and at least 1.

    **Raises:**

    - `ValueError`: naming the first that is not.
    """
    for name, count in counts.items():
        number = _known(count)
        if number is not None and np.any(~(number >= 1)):
            raise ValueError(f"`{name}` must be at least 1, but {_shown(count)} was given.")
    COUNT.check(**counts)


def check_seconds(**times: float | None) -> None:
    """Check that times, where they are given, are above 0.

    **Raises:**

    - `ValueError`: naming the first that is not.
    """
    for name, seconds in times.items():
        if seconds is not None and not seconds > 0:
            raise ValueError(f"`{name}` must be above 0, but {seconds} was given.")


def _known(x: Any) -> np.ndarray | None:
    """The numbers, if they can be looked at already."""
    if isinstance(x, tuple | list):
        if any(isinstance(each, Tracer) for each in x):
            return None
        x = np.asarray(x)
    if isinstance(x, Tracer) or not isinstance(x, bool | int | float | np.generic | np.ndarray | jax.Array):
        return None
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return None
    # Dtypes of machine learning are not NumPy's own.
    found = np.asarray(x)
    kinds = np.asarray(found, np.float64) if jnp.issubdtype(found.dtype, jnp.floating) else found
    return kinds if kinds.dtype.kind in "biuf" else None


def _shown(x: Any) -> str:
    return str(np.asarray(x)) if isinstance(x, jax.Array | np.ndarray | np.generic) else repr(x)
