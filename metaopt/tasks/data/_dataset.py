"""Data that tasks share."""

import functools as ft
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class Dataset(Mapping[str, np.ndarray]):
    """Named arrays that are equal, and hash equal, if their contents are.

    A task holds its data set as a static field: it is no leaf, so it is neither batched nor differentiated nor copied
    per task, and its arrays become constants of the compiled program. Comparing two data sets costs a comparison of
    digests, which are computed once.

    ```python
    data = Dataset("mine", inputs=np.zeros((100, 64), np.float32), labels=np.arange(100) % 10)
    data["inputs"].shape
    ```
    """

    name: str

    def __init__(self, name: str, /, **arrays: Any):
        """**Arguments:**

        - `name`: what to call it in messages; plays no part in comparisons.
        - `**arrays`: the arrays, which are copied and made read-only.

        **Raises:**

        - `ValueError`: if no array is given, or one holds Python objects.
        """
        if not arrays:
            raise ValueError(f"The data set `{name}` needs at least one array; write `Dataset(name, inputs=...)`.")
        self.name = name
        self._arrays = {key: _frozen(key, arrays[key]) for key in sorted(arrays)}

    @ft.cached_property
    def digest(self) -> str:
        """A digest of names, dtypes, shapes and contents."""
        found = hashlib.sha256()
        for key, array in self._arrays.items():
            found.update(f"{key}:{array.dtype.str}:{array.shape};".encode())
            found.update(array.tobytes())
        return found.hexdigest()

    def __getitem__(self, key: str) -> np.ndarray:
        return self._arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dataset) and (self is other or self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{key}={array.dtype}{list(array.shape)}" for key, array in self._arrays.items())
        return f"Dataset({self.name!r}, {shapes})"


def _frozen(key: str, array: Any) -> np.ndarray:
    copy = np.array(array, order="C")
    if copy.dtype.hasobject:
        raise ValueError(f"`{key}` holds Python objects, but numbers were wanted. Convert it with `np.asarray` first.")
    copy.setflags(write=False)
    return copy
