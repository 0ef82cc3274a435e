"""The checker of annotations that the tests run under."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype


# As for static checkers, an `int` is a `float`.
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_checked: dict[Any, Callable[..., Any]] = {}


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arguments of a function that jaxtyping makes from a signature.

    A function within a function is made, and decorated, in every call of the outer one. Its signature stays the same.
    """
    code = function.__code__
    shape = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags, code.co_varnames
    defaults = len(function.__defaults__ or ()), tuple(function.__kwdefaults__ or ())
    key = function.__module__, function.__qualname__, shape, defaults, tuple(function.__annotations__.items())
    if key not in _checked:
        _checked[key] = _check(function)
    return _checked[key]
