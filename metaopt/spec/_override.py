"""Specs changed from the command line."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, time
from typing import Any

from ._error import Place, SpecError, shown


_KEY = r'(?:[A-Za-z0-9_-]+|"[^"]*")'
_STEPS = rf"{_KEY}(?:\[[0-9]{{1,9}}\])*"
_ASSIGNMENT = re.compile(rf"\s*({_STEPS}(?:\.{_STEPS})*)\s*=(.*)", re.DOTALL)


def override(spec: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Change a few places of a spec.

    **Arguments:**

    - `spec`: the spec; it stays as it is.
    - `assignments`: texts like `learner.stages[1].rate=0.1`. What follows `=` is read as a TOML value, or else as a
        string. Tables that do not exist are made; a name becomes the table that it is short for.

    **Returns:** the changed spec.

    **Raises:** [`metaopt.spec.SpecError`][] for an assignment that cannot be read, and for a path through something
    that is not a table or through a list that is too short.
    """
    changed = dict(spec)
    for assignment in assignments:
        match = _ASSIGNMENT.fullmatch(assignment)
        if match is None:
            raise SpecError("", expected="`path.to.option=value`", given=shown(assignment))
        steps = re.findall(rf"{_KEY}|\[[0-9]+\]", match[1])
        path = tuple(int(step[1:-1]) if step[0] == "[" else step.strip('"') for step in steps)
        changed = _assign(changed, path, 0, _read_value(match[2].strip()))
    return changed


def _assign(node: Any, path: Place, depth: int, value: Any) -> Any:
    if depth == len(path):
        return value
    here, step = path[:depth], path[depth]
    if isinstance(step, int):
        if not isinstance(node, list | tuple):
            raise SpecError(here, expected=f"a list, which would have a [{step}]", given=shown(node))
        if step >= len(node):
            raise SpecError(here, f"there is no [{step}] in a list of {len(node)}, which are counted from [0].")
        return [*node[:step], _assign(node[step], path, depth + 1, value), *node[step + 1 :]]
    node = {} if node is None else {"name": node} if isinstance(node, str) else node
    if not isinstance(node, Mapping):
        raise SpecError(here, expected=f"a table, which could have a `{step}`", given=shown(node))
    return {**node, step: _assign(node.get(step), path, depth + 1, value)}


def _read_value(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return text if len(table) > 1 or isinstance(table["value"], date | time) else table["value"]
