"""Aligned text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def align(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table: the first column to the left, the others to the right."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def figure(value: float, digits: int = 4) -> str:
    """A number for people: a few significant digits, without an exponent where none is needed."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 10**digits:
        places = digits - 1 - math.floor(math.log10(abs(value)))
        return f"{value:.{max(places, 0)}f}"
    return f"{value:.{digits}g}" if abs(value) >= 1e6 or abs(value) < 1e-3 else f"{value:.0f}"


def cell(value: Any) -> str:
    """Any entry of a table as text."""
    if value is None:
        return "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return str(value)
    if isinstance(value, float | np.floating):
        return figure(float(value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {cell(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    if np.ndim(value) > 0:
        return cell(np.asarray(value).tolist())
    return cell(np.asarray(value).item()) if not isinstance(value, str) else value
