"""Results as JSON."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._core.files._files import write_at_once


def to_json(data: Any) -> str:
    """Write numbers, text, arrays, and nests of lists and mappings as strict JSON.

    JSON has no numbers for what is not finite: infinity is written as the text `"inf"` or `"-inf"`, NaN as `null`.

    **Arguments:**

    - `data`: what to write. Arrays become nested lists.

    **Returns:**

    Indented JSON that ends with a newline.

    **Raises:**

    - `TypeError`: for anything else, naming where it stands.
    """
    return json.dumps(_plain(data, "$"), indent=2, allow_nan=False) + "\n"


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write [`metaopt.evaluate.to_json`][] to a file, at once or not at all.

    **Arguments:**

    - `path`: where to. Missing folders are made, and a file that is there is replaced.
    - `data`: what to write.

    **Raises:**

    - `OSError`: if the file cannot be written; whatever was there before is untouched.
    - `TypeError`: as in [`metaopt.evaluate.to_json`][]; nothing is written.
    """
    write_at_once(path, to_json(data).encode())


def _plain(data: Any, where: str) -> Any:
    if data is None or isinstance(data, str | bool):
        return data
    if isinstance(data, Mapping):
        return {str(name): _plain(value, f"{where}.{name}") for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value, f"{where}[{i}]") for i, value in enumerate(data)]
    if isinstance(data, int):
        return int(data)
    if isinstance(data, float):
        return _number(float(data))
    try:
        array = np.asarray(data)
    except TypeError:
        array = np.asarray(None)
    if array.dtype.kind not in "biufU":
        # Numbers of jax's own dtypes, such as bfloat16, are floats to it but not to numpy.
        if array.dtype.kind != "V" or not array.dtype.name.startswith(("bfloat", "float")):
            raise TypeError(
                f"`{where}` is a `{type(data).__name__}`, which has no place in JSON. Write numbers or text."
            )
        array = array.astype(float)
    return _plain(array.tolist(), where)


def _number(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else "inf" if value > 0 else "-inf"
