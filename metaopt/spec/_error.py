"""What is said when a spec is wrong."""

import difflib
import json
import re
import reprlib
from collections.abc import Iterable
from typing import Any

from .._core.files._printable import printable


Place = tuple[str | int, ...]
"""Where something stands in a spec: the table keys and list positions that lead there."""

DEEPEST = 32
"""How many tables and lists may stand inside one another."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 48
_SHORT.maxlevel = 3


class SpecError(ValueError):
    """Where a spec is wrong, what was given, what was wanted, and what was probably meant."""

    path: str
    problem: str | None
    expected: str | None
    given: str | None
    suggestion: str | None

    def __init__(
        self,
        path: str | Place,
        problem: str | None = None,
        *,
        expected: str | None = None,
        given: str | None = None,
        suggestion: str | None = None,
    ):
        """**Arguments:**

        - `path`: where in the spec.
        - `problem`: what is wrong, as a sentence. By default, what was expected and what was given.
        - `expected`, `given`: in words.
        - `suggestion`: the existing word that was probably meant.
        """
        self.path = path if isinstance(path, str) else place(path)
        self.problem = problem
        self.expected = expected
        self.given = given
        self.suggestion = suggestion
        self.args = (self.path, problem)

    def __str__(self) -> str:
        text = self.problem or f"expected {self.expected}, given {self.given}."
        text = f"{self.path}: {text}" if self.path else text
        text = text if self.suggestion is None else f"{text} Did you mean `{self.suggestion}`?"
        # What is wrong was written by somebody, and is shown on terminals.
        return printable(text, lines=True)


def place(path: Place) -> str:
    """Write `("learner", "stages", 1, "rate")` as `learner.stages[1].rate`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch("[A-Za-z0-9_-]{1,64}", part)
            text += f"{'.' if text else ''}{part if bare else json.dumps(part[:64])}"
    return text


def shown(value: Any) -> str:
    """Write any object in a few characters."""
    try:
        return _SHORT.repr(value)
    except Exception:  # a `__repr__` may do anything, and an integer may be too long to be written
        return f"<{type(value).__name__}>"


def listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words) or "none"


def closest(word: str, words: Iterable[str]) -> str | None:
    """Find the word that was probably meant."""
    matches = difflib.get_close_matches(word[:64].lower(), list(words), n=1)
    return matches[0] if matches else None


def check_depth(path: Place) -> None:
    if len(path) > DEEPEST:
        problem = f"more than {DEEPEST} tables and lists stand inside one another. Does the spec contain itself?"
        raise SpecError(path[:4], problem)


def check_keys(table: Any, path: Place) -> dict[str, Any]:
    for key in table:
        if not isinstance(key, str):
            problem = f"the key {shown(key)} is not a string."
            raise SpecError(path, problem, expected="a string", given=shown(key))
    return dict(table)
