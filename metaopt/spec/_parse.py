"""Specs checked against annotations."""

import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import jax
import numpy as np

from ._error import Place, SpecError, check_depth, check_keys, closest, listed, shown
from ._hints import (
    MAPPINGS,
    REQUIRED,
    SEQUENCES,
    UNIONS,
    Parameters,
    array_hint,
    bare,
    members,
    mismatch,
    parameters,
    readable,
)
from ._numbers import read_array, read_number, satisfies, to_numbers
from ._registry import Registry, entry_parameters, is_value


class Node(NamedTuple):
    """A checked piece of spec: it makes what it describes, and it writes itself out in full, as plain data."""

    make: Callable[[], Any]
    plain: Callable[[], Any]


def parse(value: Any, hint: Any, path: Place, registry: Registry) -> Node:
    """Check a piece of spec against an annotation, all the way down, without making anything."""
    check_depth(path)
    hint = bare(hint)
    origin, arguments, array = typing.get_origin(hint) or hint, typing.get_args(hint), array_hint(hint)
    if hint is Any:
        return _parse_anything(value, path, registry)
    if origin in UNIONS:
        return _parse_union(value, hint, path, registry)
    if origin is typing.Literal:
        return _parse_choice(value, hint, path)
    if origin in SEQUENCES and isinstance(value, list | tuple):
        return _parse_items(value, hint, path, registry)
    if origin in MAPPINGS and isinstance(value, Mapping):
        inner = arguments[1] if arguments else Any
        return _table({k: parse(v, inner, (*path, k), registry) for k, v in check_keys(value, path).items()})
    if origin in SEQUENCES or origin in MAPPINGS:
        raise mismatch(value, hint, path)
    if hint in (NoneType, bool, int, float, str, Path):
        return _parse_scalar(value, hint, path)
    if array is None:
        return _parse_entry(value, hint, path, registry)
    if isinstance(value, jax.Array | np.ndarray) and satisfies(value, hint):
        return _python(value, path)
    return _leaf(*read_array(value, hint, array, path))


def _leaf(value: Any, data: Any) -> Node:
    return Node(lambda: value, lambda: data)


def _python(value: Any, path: Place) -> Node:
    """An object that was given as such. Of these, arrays can be written as plain data."""

    def plain() -> Any:
        data = to_numbers(value) if isinstance(value, jax.Array | np.ndarray) else None
        if data is None:
            raise SpecError(path, f"{shown(value)} is a Python object, which plain data cannot describe.")
        return data

    return Node(lambda: value, plain)


def _table(nodes: dict[str, Node]) -> Node:
    return Node(
        lambda: {key: node.make() for key, node in nodes.items()},
        lambda: {key: node.plain() for key, node in nodes.items()},
    )


def _call(kind: type, name: str | None, factory: Callable[..., Any], options: Node, path: Place) -> Node:
    def make() -> Any:
        arguments = options.make()
        try:
            made = factory(**arguments)
        except Exception as error:  # whatever a constructor says of its arguments
            # A run-time type checker appends a table of all arguments, under a line.
            text = str(error).split("\n-----")[0].strip()
            usual = isinstance(error, TypeError | ValueError) and text
            raise SpecError(path, text if usual else f"{type(error).__name__}: {text}") from error
        if not _is_instance(made, kind):
            raise SpecError(path, f"`{name}` made {shown(made)}, which is no `{kind.__name__}`.")
        return made

    return Node(make, lambda: ({} if name is None else {"name": name}) | options.plain())


def _parse_anything(value: Any, path: Place, registry: Registry) -> Node:
    if type(value) in (dict, list, tuple):
        return parse(value, type(value), path, registry)
    if type(value) in (int, float):
        read_number(value, frozenset({"int", "float"}), path)
    is_plain = value is None or type(value) in (bool, int, float, str)
    return _leaf(value, value) if is_plain else _python(value, path)


def _parse_scalar(value: Any, hint: Any, path: Place) -> Node:
    if hint in (bool, int, float):
        number = read_number(value, frozenset({hint.__name__}), path)
        return _leaf(number, number)
    if hint is NoneType and (value is None or (isinstance(value, str) and value == "none")):
        return _leaf(None, None)
    if hint is str and isinstance(value, str):
        return _leaf(value, value)
    if hint is Path and isinstance(value, str | Path):
        return _leaf(Path(value), str(value))
    raise mismatch(value, hint, path)


def _parse_choice(value: Any, hint: Any, path: Place) -> Node:
    choices = typing.get_args(hint)
    if any(type(choice) is type(value) and choice == value for choice in choices):
        return _leaf(value, value)
    words = [choice for choice in choices if isinstance(choice, str)]
    raise mismatch(value, hint, path, closest(value, words) if isinstance(value, str) else None)


def _parse_items(value: list[Any] | tuple[Any, ...], hint: Any, path: Place, registry: Registry) -> Node:
    origin, hints = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is tuple and hints and hints[-1] is not Ellipsis:
        if len(value) != len(hints):
            raise mismatch(value, hint, path)
    else:
        hints = (hints[0] if hints else Any,) * len(value)
    nodes = [parse(each, hints[index], (*path, index), registry) for index, each in enumerate(value)]
    return Node(lambda: SEQUENCES[origin](node.make() for node in nodes), lambda: [node.plain() for node in nodes])


def _parse_union(value: Any, hint: Any, path: Place, registry: Registry) -> Node:
    """Take the first member that fits: first choices, then names, `None`, and the value's own type."""

    def rank(member: Any) -> int:
        is_kind = isinstance(member, type) and bool(registry.names(member))
        tests = (typing.get_origin(member) is typing.Literal, is_kind, member is NoneType, member is type(value), True)
        return tests.index(True)

    telling: list[SpecError] = []
    for member in sorted(members(hint), key=rank):
        try:
            return parse(value, member, path, registry)
        except SpecError as error:
            # One that says more than that the type is wrong: the spec was meant for this member.
            if error.problem is not None or error.path != SpecError(path).path:
                telling.append(error)
    raise max(telling, key=lambda error: len(error.path)) if telling else mismatch(value, hint, path)


def _parse_entry(value: Any, kind: type, path: Place, registry: Registry) -> Node:
    names = registry.names(kind)
    is_table = isinstance(value, Mapping)
    if _is_instance(value, kind):
        return _python(value, path)
    if not names and not inspect.isabstract(kind) and not kind.__name__.startswith("Abstract"):
        known = parameters(kind)
        if known is None or not is_table:
            raise mismatch(value, kind, path)
        return _call(kind, None, kind, _parse_options(kind.__name__, value, known, path, registry), path)
    if not isinstance(value, str) and not is_table:
        expected = f"`{kind.__name__}`, by its name or as a table"
        raise SpecError(path, expected=expected, given=shown(value))
    table = check_keys(value, path) if is_table else {"name": value}
    here = (*path, "name") if is_table else path
    if "name" not in table:
        problem = f"missing: which `{kind.__name__}`? There are {listed(names)}."
        raise SpecError(here, problem, expected=", ".join(names), given="nothing")
    name = table.pop("name")
    if not isinstance(name, str):
        raise mismatch(name, str, here)
    factory = registry.get(kind, name, path=here)
    options = _parse_options(name, table, entry_parameters(kind, factory), path, registry)
    return _leaf(factory, {"name": name}) if is_value(kind, factory) else _call(kind, name, factory, options, path)


def _parse_options(label: str, table: Mapping[Any, Any], known: Parameters, path: Place, registry: Registry) -> Node:
    table = check_keys(table, path)
    for key in table:
        if key not in known.named and known.others is None:
            word = closest(key, known.named)
            problem = f"`{label}` has no such option." + (f" It has {listed(known.named)}." if word is None else "")
            expected = ", ".join(known.named)
            raise SpecError((*path, key), problem, expected=expected, given=shown(key), suggestion=word)
    nodes: dict[str, Node] = {}
    for key, (hint, default) in known.named.items():
        if key in table:
            nodes[key] = parse(table.pop(key), hint, (*path, key), registry)
        elif default is REQUIRED:
            expected = f"`{readable(hint)}`"
            problem = f"missing: `{label}` needs it, as {expected}."
            raise SpecError((*path, key), problem, expected=expected, given="nothing")
        elif default is not None and _is_plain(default):
            try:
                nodes[key] = parse(default, hint, (*path, key), registry)
            except SpecError:
                continue  # not what its own annotation says: left to the constructor
    for key, value in table.items():
        nodes[key] = parse(value, known.others, (*path, key), registry)
    return _table(nodes)


def _is_instance(value: Any, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be checked at run time
        return False


def _is_plain(default: Any) -> bool:
    if type(default) in (list, tuple):
        return all(map(_is_plain, default))
    if type(default) is dict:
        return all(map(_is_plain, default.values()))
    return default is None or type(default) in (bool, int, float, str)
