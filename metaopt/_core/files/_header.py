"""What a checkpoint says of itself: JSON of one strict schema, checked when it is written and when it is read."""

import functools as ft
import json
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np


_DEEPEST = 64
_MOST_AXES = 32
_LARGEST = 2**48
_DTYPES = frozenset(
    ["bool", "bfloat16", "complex64", "complex128", "float4_e2m1fn"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64)]
    + [f"float{bits}" for bits in (16, 32, 64)]
    + [
        f"float8_{kind}"
        for kind in ("e3m4", "e4m3", "e4m3b11fnuz", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")
    ]
)

# What Python makes of them takes about so many bytes, without the text itself.
_COSTS = np.zeros(256, np.int64)
_COSTS[[ord(mark) for mark in ",[:{"]] = 48, 64, 64, 120
_STEPS = np.zeros(256, np.int64)
_STEPS[[ord(mark) for mark in "[]{}"]] = 1, -1, 1, -1
_SPARE = 48 * 2**20
_CHUNK = 2**20


class HeaderError(ValueError):
    """Raised for a header that is wrong. The text is a clause: it says what the header does."""


def check_dtype(name: str) -> np.dtype[Any] | None:
    """The dtype of a name, if arrays of it are saved: booleans and the numbers that jax has."""
    try:
        return jnp.dtype(name) if name in _DTYPES else None
    except TypeError:  # of a newer jax
        return None


def parse_header(text: memoryview, payload: int) -> dict[str, Any]:
    """Read a header, and check all of it.

    **Arguments:**

    - `text`: JSON.
    - `payload`: how many bytes of arrays follow.

    **Returns:**

    `metadata`, and the `path`, `shape`, `dtype` and `key` of each of `leaves`.

    **Raises:**

    - `HeaderError`: if anything is wrong with it.
    """
    _check_structure(text, payload)
    try:
        header = json.loads(str(text, "ascii"), object_pairs_hook=_table)
    except HeaderError:
        raise
    except UnicodeDecodeError as error:
        raise HeaderError(f"is not ASCII text at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"is not JSON ({str(error).rstrip('.')})") from error
    if not _has_keys(header, "metadata", "leaves"):
        raise HeaderError("is not a table of `metadata` and `leaves`")
    metadata, leaves = header["metadata"], header["leaves"]
    if not isinstance(metadata, dict) or not isinstance(leaves, list):
        raise HeaderError("has `metadata` that are no table, or `leaves` that are no list")
    known: set[str] = set()
    size = 0
    for index, leaf in enumerate(leaves):
        if not _has_keys(leaf, "path", "shape", "dtype", "key") or not isinstance(leaf["path"], str):
            raise HeaderError(f"describes leaf {index} by other words than `path`, `shape`, `dtype` and `key`")
        if leaf["path"] in known:
            raise HeaderError(f"has two leaves at `{leaf['path']}`")
        known.add(leaf["path"])
        size += _bytes_of(leaf)
    if size != payload:
        raise HeaderError(f"describes arrays of {size} bytes, but {payload} bytes follow")
    return header


def _has_keys(table: Any, *keys: str) -> bool:
    return isinstance(table, dict) and table.keys() == set(keys)


def _check_structure(text: memoryview, payload: int) -> None:
    """Look for what would take too much memory, or too deep a recursion, before the text is read as JSON."""
    bare = text.tobytes().replace(b"\\\\", b"").replace(b'\\"', b"")
    cost, depth, quotes = 0, 0, 0
    for start in range(0, len(bare), _CHUNK):
        chunk = np.frombuffer(bare, np.uint8, min(_CHUNK, len(bare) - start), start)
        before = quotes + np.cumsum(chunk == ord('"'))
        quotes = before[-1]
        marks = chunk[before % 2 == 0]
        cost += int(_COSTS[marks].sum())
        depths = depth + np.cumsum(_STEPS[marks])
        if depths.max(initial=0) > _DEEPEST:
            raise HeaderError(f"has more than {_DEEPEST} tables and lists inside one another")
        depth = int(depths[-1]) if depths.size else depth
    if cost > 3 * (len(text) + payload) + _SPARE:
        raise HeaderError("holds more tables, lists and numbers than a file of this size should")


def _table(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise HeaderError("has a key twice in one table")
    return table


def _bytes_of(leaf: dict[str, Any]) -> int:
    """How many bytes an array takes, after all that is said of it is checked."""
    path, shape, name, key = leaf["path"], leaf["shape"], leaf["dtype"], leaf["key"]
    dtype = check_dtype(name) if isinstance(name, str) else None
    if dtype is None:
        raise HeaderError(f"says that `{path}` is of dtype {_short(name)}, which is not known here")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise HeaderError(f"says that `{path}` is of shape {_short(shape)}, which is no list of whole numbers")
    # Also of axes beside one without elements, as they are multiplied by others.
    if len(shape) > _MOST_AXES or math.prod(n for n in shape if n) > _LARGEST:
        raise HeaderError(f"says that `{path}` is of shape {_short(shape)}, which is too large")
    if key is not None:
        data = _key_shape(key) if isinstance(key, str) else None
        if data is None:
            raise HeaderError(f"says that `{path}` holds random keys of kind {_short(key)}, which is not known here")
        if dtype != np.uint32 or tuple(shape[-len(data) :]) != data:
            raise HeaderError(f"says that `{path}` holds random keys ({key}), but they are no {name}{_short(shape)}")
    return math.prod(shape) * dtype.itemsize


@ft.lru_cache(maxsize=64)
def _key_shape(kind: str) -> tuple[int, ...] | None:
    """The shape of the data of one random key; nothing for a kind that does not exist."""
    try:
        return jax.eval_shape(lambda: jr.key_data(jr.key(0, impl=kind))).shape
    except ValueError:
        return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
