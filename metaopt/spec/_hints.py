"""What annotations say to somebody who writes specs."""

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import AbstractArray, ArrayLike, PyTree

from ._error import Place, SpecError, shown


REQUIRED = inspect.Parameter.empty
"""Stands where a default would be."""

UNIONS = (types.UnionType, typing.Union)
SEQUENCES: dict[Any, Callable[[Any], Any]] = {
    list: list,
    tuple: tuple,
    collections.abc.Sequence: tuple,
    collections.abc.Iterable: tuple,
}
MAPPINGS = (dict, collections.abc.Mapping)


class Parameter(NamedTuple):
    hint: Any
    default: Any


class Parameters(NamedTuple):
    """What a factory can be given by name; `others` is the annotation of its `**options`, if it has them."""

    named: dict[str, Parameter]
    others: Any


class ArrayHint(NamedTuple):
    """What an annotation says about an array."""

    library: str  # "jax" or "numpy"
    kinds: frozenset[str]  # of "bool", "int", "float", "key"
    dims: str
    dtype: str | None  # where the annotation leaves no choice


def bare(hint: Any) -> Any:
    """Strip an annotation to what a spec can be checked against."""
    origin = typing.get_origin(hint)
    if isinstance(hint, typing.TypeVar):
        return Any if hint.__bound__ is None else bare(hint.__bound__)
    if isinstance(hint, typing.NewType):
        return bare(hint.__supertype__)
    if origin is typing.Annotated:
        return bare(typing.get_args(hint)[0])
    if origin in UNIONS or origin in SEQUENCES or origin in MAPPINGS or origin is typing.Literal:
        return hint
    if hint is None:
        return types.NoneType
    if isinstance(origin, type):  # the `AbstractAlgorithm` of `AbstractAlgorithm[S, P, G]`
        return origin
    anything = hint is object or hint is REQUIRED or isinstance(hint, type(PyTree))
    return hint if isinstance(hint, type) and not anything else Any


def members(union: Any) -> list[Any]:
    """List the members of a union. Where a random key is wanted, old keys, arrays of integers, are left out."""
    found = [(member, array_hint(member)) for member in map(bare, typing.get_args(union))]
    is_key = any(array is not None and "key" in array.kinds for _, array in found)
    return [member for member, array in found if not is_key or array is None or "key" in array.kinds]


def array_hint(hint: Any) -> ArrayHint | None:
    """Read a jaxtyping annotation, `jax.Array` or `np.ndarray`; `None` for all others."""
    numbers = frozenset({"bool", "int", "float"})
    if hint is jax.Array or hint is np.ndarray:
        return ArrayHint("numpy" if hint is np.ndarray else "jax", numbers, "...", None)
    if not (isinstance(hint, type) and issubclass(hint, AbstractArray)):
        return None
    library = "numpy" if hint.array_type is np.ndarray else "jax"
    if not isinstance(hint.dtypes, tuple | list):
        return ArrayHint(library, numbers, hint.dim_str, None)
    starts = {"bool": "bool", "int": "int", "uint": "int", "float": "float", "bfloat": "float", "prng": "key"}
    kinds = {starts[start] for start in starts for dtype in hint.dtypes if str(dtype).startswith(start)}
    return ArrayHint(library, frozenset(kinds), hint.dim_str, hint.dtypes[0] if len(hint.dtypes) == 1 else None)


def readable(hint: Any) -> str:
    """Write an annotation in words."""
    hint = bare(hint)
    origin, arguments, array = typing.get_origin(hint), typing.get_args(hint), array_hint(hint)
    if origin in UNIONS:
        return " | ".join(dict.fromkeys(map(readable, members(hint))))
    if origin is typing.Literal:
        return " | ".join(map(repr, arguments))
    if arguments:
        inside = ["..." if each is Ellipsis else readable(each) for each in arguments]
        return f"{origin.__name__.lower()}[{', '.join(inside)}]"
    if array is None:
        return "None" if hint is types.NoneType else hint.__name__
    kind = "number" if len(array.kinds) != 1 else next(iter(array.kinds)).replace("key", "seed")
    return f"{kind} array ({array.dims})" if array.dims else kind


def mismatch(value: Any, hint: Any, path: Place, word: str | None = None) -> SpecError:
    """Say that a value is of the wrong type."""
    return SpecError(path, expected=f"`{readable(hint)}`", given=shown(value), suggestion=word)


def parameters(factory: Callable[..., Any]) -> Parameters | None:
    """Read the options of a class or a function; `None` where it does not tell them."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return None
    is_class = isinstance(factory, type)
    hints = _type_hints(factory.__init__ if is_class else factory)
    named: dict[str, Parameter] = {}
    others: Any = None
    for name, parameter in signature.parameters.items():
        hint = bare(hints.get(name, parameter.annotation))
        if parameter.kind is parameter.VAR_KEYWORD:
            others = hint
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            named[name] = Parameter(hint, parameter.default)
    if is_class and dataclasses.is_dataclass(factory):
        declared = _type_hints(factory)
        for field in dataclasses.fields(factory):
            if "converter" in field.metadata and field.name in named:
                # Equinox annotates the argument with what the converter takes, which mostly is anything.
                hint, default = named[field.name]
                own = bare(declared.get(field.name, Any))
                named[field.name] = Parameter(own if hint in (Any, ArrayLike) else hint | own, default)
    return Parameters(named, others)


def _type_hints(factory: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(factory)
    except (AttributeError, NameError, SyntaxError, TypeError):
        return {}  # names that exist for the type checker alone: there is nothing to check against
