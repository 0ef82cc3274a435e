"""Results as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from ._comparison import Comparison
from ._text import align, cell


def report(result: Comparison | Mapping[str, Any] | Sequence[Mapping[str, Any]], *, title: str | None = None) -> str:
    """Write results as aligned text for people.

    **Arguments:**

    - `result`: a [`metaopt.evaluate.Comparison`][]; or a mapping, which becomes a line per entry; or a sequence of flat
        mappings, which becomes a table with a column for each name that occurs.
    - `title`: a first line.

    **Returns:**

    Lines of text, without a newline at the end.
    """
    if isinstance(result, Comparison):
        text = result.table()
    elif isinstance(result, Mapping):
        width = max((len(str(name)) for name in result), default=0)
        text = "\n".join(f"{str(name).ljust(width)}  {cell(value)}" for name, value in result.items())
    else:
        columns = list(dict.fromkeys(name for row in result for name in row))
        text = align(columns, [[cell(row.get(name)) for name in columns] for row in result]) if columns else ""
    return text if title is None else f"{title}\n\n{text}"
