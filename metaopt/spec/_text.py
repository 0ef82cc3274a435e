"""Specs as text."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ._error import DEEPEST, Place, SpecError, check_depth, check_keys, shown
from ._numbers import read_number


_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{DEEPEST}}}")


def read(path: str | Path) -> dict[str, Any]:
    """Read a spec from a file.

    **Arguments:**

    - `path`: a `.toml` or `.json` file.

    **Returns:** the spec.

    **Raises:** [`metaopt.spec.SpecError`][] for a file that is missing or unreadable, and for wrong text (with line).
    """
    path, name = Path(path), str(path)
    try:
        reader = {".toml": _read_toml, ".json": _read_json}[path.suffix]
        spec = reader(path.read_text(encoding="utf-8-sig"))
    except KeyError as error:
        raise SpecError(name, expected="a `.toml` or `.json` file", given=shown(path.suffix)) from error
    except FileNotFoundError as error:
        raise SpecError(name, "there is no such file.") from error
    except OSError as error:
        raise SpecError(name, f"cannot be read: {error.strerror}.") from error
    except RecursionError as error:
        raise SpecError(name, "too many tables and lists stand inside one another.") from error
    except ValueError as error:
        raise SpecError(name, f"{error}.") from error
    if not isinstance(spec, dict):
        raise SpecError(name, expected="a table", given=shown(spec))
    return spec


def _read_toml(text: str) -> dict[str, Any]:
    if _LONG_KEY.search(text):  # which takes time that grows with the square of its length
        raise ValueError(f"A key has more than {DEEPEST} parts")
    return tomllib.loads(text)


def _read_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A table of keys that differ."""
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"The key {shown(key)} stands twice in one table")
        table[key] = value
    return table


def dumps(spec: Mapping[str, Any]) -> str:
    """Write a spec as TOML.

    **Arguments:**

    - `spec`: plain data. `None`, for which TOML has no word, is written as `"none"`, which
        [`metaopt.spec.build`][] takes for it.

    **Returns:** the text.

    **Raises:** [`metaopt.spec.SpecError`][] for what TOML cannot hold.
    """
    lines: list[str] = []
    _write_table(spec, (), (), lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _write_table(table: Mapping[Any, Any], path: Place, header: tuple[str, ...], lines: list[str]) -> None:
    check_depth(path)
    nested = []
    for key, value in check_keys(table, path).items():
        here, name = (*path, key), _text(key, path, bare=True)
        is_list = isinstance(value, list | tuple) and len(value) > 0
        if isinstance(value, Mapping):
            nested.append((value, here, f"[{'.'.join((*header, name))}]", name))
        elif is_list and all(isinstance(each, Mapping) for each in value):
            title = f"[[{'.'.join((*header, name))}]]"
            nested += [(each, (*here, index), title, name) for index, each in enumerate(value)]
        else:
            lines.append(f"{name} = {_value(value, here)}")
    for value, here, title, name in nested:
        lines += ["", title]
        _write_table(value, here, (*header, name), lines)


def _value(value: Any, path: Place) -> str:
    check_depth(path)
    if isinstance(value, Mapping):
        table = check_keys(value, path)
        return f"{{{', '.join(f'{_text(k, path, bare=True)} = {_value(v, (*path, k))}' for k, v in table.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(each, (*path, index)) for index, each in enumerate(value))}]"
    if value is None or isinstance(value, str):
        return _text("none" if value is None else value, path)
    return str(read_number(value, frozenset({"bool", "int", "float"}), path)).lower()


def _text(text: str, path: Place, *, bare: bool = False) -> str:
    if bare and re.fullmatch("[A-Za-z0-9_-]+", text):
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SpecError(path, f"{shown(text)} holds half a character.") from error
    # JSON's escapes are TOML's. All that would steer a terminal is escaped, too.
    return "".join(each if each.isprintable() else _escape(each) for each in json.dumps(text, ensure_ascii=False))


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
