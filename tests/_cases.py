"""Cases of a test: some for `nox -s tests`, one of each kind, and all of them for `nox -s slow`."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest


def fast(cases: Iterable[str] | Mapping[str, Any], *names: str) -> list[Any]:
    """All cases, by name or with names; those that are not named here are slow."""
    table = cases if isinstance(cases, Mapping) else {name: name for name in cases}
    assert set(names) <= set(table)
    return [pytest.param(x, id=name, marks=[pytest.mark.slow] * (name not in names)) for name, x in table.items()]


def slow(*cases: Any) -> list[Any]:
    return [pytest.param(case, marks=pytest.mark.slow) for case in cases]
