"""Specs made into objects, and written out in full."""

from typing import Any, TypeVar, overload

from ._parse import parse
from ._registry import Registry


T = TypeVar("T")


@overload
def build(spec: Any, kind: type[T], *, registry: Registry) -> T: ...


@overload
def build(spec: Any, kind: Any, *, registry: Registry) -> Any: ...


def build(spec: Any, kind: Any, *, registry: Registry) -> Any:
    """Make the object that a spec describes.

    A spec consists of tables, lists, numbers, strings and booleans, as they come from TOML, JSON or Python. Where an
    object of a registered kind is wanted stands the name of a registry entry, or a table of its `name` and its options.
    Where any other class is wanted stands a table of its options. An object of the right kind passes through.

    Options are checked against the annotations of the constructor that takes them. An integer is fine for a float, a
    number or nested lists of numbers for an array, an integer for a random key, whose seed it is, a list for a tuple,
    and the string `"none"` for `None`, for which TOML has no word. The whole spec is checked before anything is made.

    **Arguments:**

    - `spec`: the spec.
    - `kind`: the class to make an instance of, or any annotation.
    - `registry`: what names mean.

    **Returns:** the object.

    **Raises:** [`metaopt.spec.SpecError`][] for whatever is wrong, what constructors say of their arguments included.
    """
    return parse(spec, kind, (), registry).make()


def normalize(spec: Any, kind: type, *, registry: Registry) -> dict[str, Any]:
    """Write a spec out in full, as data that JSON and TOML can hold.

    Names become tables, numbers take the type that is asked for, and every default that is plain data is filled in,
    except `None`, which is what an absent option stands for. Building either spec gives the same object.

    **Arguments:** as those of [`metaopt.spec.build`][].

    **Returns:** a new table.

    **Raises:** [`metaopt.spec.SpecError`][] for a spec that is wrong, as far as this can be told without making
    anything, and for one that holds a Python object which plain data cannot describe.
    """
    return parse(spec, kind, (), registry).plain()
