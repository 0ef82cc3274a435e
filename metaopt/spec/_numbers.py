"""Numbers and arrays in specs."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import AnnotationError, Shaped, jaxtyped

from ._error import Place, SpecError, check_depth, shown
from ._hints import ArrayHint, mismatch


def read_number(value: Any, kinds: frozenset[str], path: Place) -> bool | int | float:
    """Check a number: an integer is fine for a float, a boolean is not one for an integer."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool):
        if "bool" in kinds:
            return value
    elif isinstance(value, int):
        if "int" in kinds and -(2**63) <= value < 2**63:
            return int(value)
        if "float" in kinds and "int" not in kinds and abs(value) < 2**1023:
            return float(value)
    elif isinstance(value, float) and "float" in kinds:
        return float(value)
    expected = "".join(kinds) if len(kinds) == 1 else "number"
    raise SpecError(path, expected=f"`{expected}`", given=shown(value))


def read_array(value: Any, hint: Any, array: ArrayHint, path: Place) -> tuple[Any, Any]:
    """Make the array that an annotation asks for of a number or nested lists; of an integer, a random key.

    **Returns:** the array and the numbers.
    """
    try:
        if isinstance(value, jax.Array | np.ndarray):
            value = value.tolist()
        if "key" in array.kinds:
            seed = int(read_number(value, frozenset({"int"}), path))
            return jr.key(seed), seed
        numbers = _read_numbers(value, array.kinds, path)
        if _fits(np.shape(numbers), array.dims):
            return _as_array(numbers, array), numbers
    except SpecError:
        raise
    except (ArithmeticError, TypeError, ValueError) as error:
        raise mismatch(value, hint, path) from error
    raise mismatch(value, hint, path)


def satisfies(value: Any, hint: Any) -> bool:
    """Whether an array is as its annotation says, as far as this can be told for it alone."""
    with jaxtyped("context"):
        try:
            return isinstance(value, hint)
        except AnnotationError:  # a size that depends on that of another argument
            return True


def to_numbers(array: jax.Array | np.ndarray) -> Any:
    """Write an array as nested lists; `None` if they would not be read as the same array."""
    library = jnp if isinstance(array, jax.Array) else np
    try:
        numbers = array.tolist()
        again = library.asarray(numbers)
    except (ArithmeticError, TypeError):  # a traced array, or one of random keys
        return None
    return numbers if again.dtype == array.dtype and again.shape == array.shape else None


def _read_numbers(value: Any, kinds: frozenset[str], path: Place) -> Any:
    check_depth(path)
    if isinstance(value, list | tuple):
        return [_read_numbers(each, kinds, (*path, index)) for index, each in enumerate(value)]
    return read_number(value, kinds, path)


def _fits(shape: tuple[int, ...], dims: str) -> bool:
    return satisfies(np.empty(shape, bool), Shaped[np.ndarray, dims])


def _as_array(numbers: Any, array: ArrayHint) -> jax.Array | np.ndarray:
    dtype: Any = array.dtype
    if dtype is None and np.size(numbers) == 0 and len(array.kinds) == 1:
        dtype = {"bool": bool, "int": int, "float": float}[next(iter(array.kinds))]
    with np.errstate(over="ignore"):
        made = np.asarray(numbers, dtype) if array.library == "numpy" else jnp.asarray(numbers, dtype)
        exact = np.asarray(numbers)
        if exact.dtype == float and not np.array_equal(np.isinf(exact), np.isinf(exact.astype(made.dtype))):
            raise OverflowError  # a rate of 1e300 must not become infinite in single precision
    return made
