"""The part of MessagePack that flax stores trees of arrays in: strict, and without its packages."""

import math
import struct
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np


Tree = Any  # dictionaries with text as keys; arrays, numbers, text, lists and nothing as leaves

ARRAY, COMPLEX, SCALAR = 1, 2, 3
CHUNKED = "__msgpack_chunked_array__"
DEEPEST = 32
LARGEST = 2**40
# Values of one byte become objects of many.
MOST_VALUES = 2**19
DTYPES = frozenset(
    ["bool", "bfloat16", "complex64", "complex128"]
    + [f"float{bits}" for bits in (16, 32, 64)]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
NUMBERS = {
    **{0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"},
    **{0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"},
}


class FormatError(ValueError):
    """Raised for bytes that are not what flax writes; says where and why, and whether they only end too early."""

    def __init__(self, text: str, *, truncated: bool = False):
        ValueError.__init__(self, text)
        self.truncated = truncated


class _Reader:
    """Reads values from the front of some bytes. Those of arrays, which stand in extensions, are not copied."""

    def __init__(self, data: memoryview, left: Iterator[int], *, is_extension: bool = False):
        self.data, self.position, self.left, self.is_extension = data, 0, left, is_extension

    def take(self, size: int) -> memoryview:
        if size > len(self.data) - self.position:
            text = f"it ends at byte {len(self.data)}, but {size} more are wanted at {self.position}"
            raise FormatError(text, truncated=True)
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self, depth: int = 0) -> Tree:
        start = self.position
        if depth > DEEPEST:
            raise FormatError(f"it is nested more than {DEEPEST} deep at byte {start}")
        if next(self.left, None) is None:
            raise FormatError(f"it holds more than {MOST_VALUES} values")
        kind = self.take(1)[0]
        if kind < 0x80 or kind >= 0xE0:
            return kind if kind < 0x80 else kind - 0x100
        if kind < 0x90:
            return self.map(kind & 0xF, depth)
        if kind < 0xA0:
            return self.list(kind & 0xF, depth)
        if kind < 0xC0:
            return self.text(kind & 0x1F)
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[kind]
        if 0xC4 <= kind <= 0xC9:
            size = self.number(">" + "BHI"[(kind - 0xC4) % 3])
            return self.extension(size, depth) if kind >= 0xC7 else self.bytes(size)
        if 0xD4 <= kind <= 0xD8:
            return self.extension(1 << kind - 0xD4, depth)
        if 0xD9 <= kind <= 0xDB:
            return self.text(self.number(">" + "BHI"[kind - 0xD9]))
        if kind in (0xDC, 0xDD):
            return self.list(self.number(">H" if kind == 0xDC else ">I"), depth)
        if kind in (0xDE, 0xDF):
            return self.map(self.number(">H" if kind == 0xDE else ">I"), depth)
        raise FormatError(f"byte {start} is {kind:#x}, which begins no value")

    def text(self, size: int) -> str:
        start = self.position
        try:
            return self.take(size).tobytes().decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"what should be text at byte {start} is none") from error

    def bytes(self, size: int) -> memoryview | bytes:
        return self.take(size) if self.is_extension else self.take(size).tobytes()

    def list(self, size: int, depth: int) -> list[Tree]:
        return [self.value(depth + 1) for _ in range(size)]

    def map(self, size: int, depth: int) -> Tree:
        found: dict[str, Tree] = {}
        for _ in range(size):
            start, key = self.position, self.value(depth + 1)
            if not isinstance(key, str):
                raise FormatError(f"the key at byte {start} is no text")
            if key in found:
                raise FormatError(f"the key {key!r} at byte {start} is there twice")
            found[key] = self.value(depth + 1)
        return _unchunked(found) if CHUNKED in found else found

    def extension(self, size: int, depth: int) -> Any:
        start, code = self.position, self.number(">b")
        inside = _Reader(self.take(size), self.left, is_extension=True)
        value = inside.value(depth + 1)
        if inside.position != size:
            raise FormatError(f"the extension at byte {start} does not end where it should")
        if code in (ARRAY, SCALAR):
            return _array(value, start)
        if code == COMPLEX and isinstance(value, list) and [type(x) for x in value] == [float, float]:
            return complex(*value)
        raise FormatError(f"the extension at byte {start} is of an unknown type, {code}")


def _array(value: Tree, start: int) -> np.ndarray:
    match value:
        case [list(shape), (str() | memoryview()) as name, memoryview() as content]:
            name = name.tobytes().decode(errors="replace") if isinstance(name, memoryview) else name
        case _:
            raise FormatError(f"the array at byte {start} is not a shape, a dtype and bytes")
    if name not in DTYPES:
        raise FormatError(f"the array at byte {start} has the unknown dtype {name[:40]!r}")
    dtype = np.dtype(jnp.dtype(name)).newbyteorder("<") if name != "bfloat16" else np.dtype(jnp.bfloat16)
    if len(content) != _size(shape, start) * dtype.itemsize:
        raise FormatError(f"the array at byte {start} has {len(content)} bytes, which is not {name}{shape}")
    return np.frombuffer(content, dtype).reshape(shape)


def _size(shape: Any, start: int | str) -> int:
    whole = all(type(n) is int and n >= 0 for n in shape)
    if not whole or len(shape) > DEEPEST or math.prod(n for n in shape if n) > LARGEST:
        raise FormatError(f"the array at byte {start} has the impossible shape {str(shape)[:80]}")
    return math.prod(shape)


def _unchunked(found: dict[str, Tree]) -> np.ndarray:
    """An array that was too large for one value, of its pieces."""
    shape, chunks = (_sequence(found.get(name)) for name in ("shape", "chunks"))
    if set(found) != {CHUNKED, "shape", "chunks"} or not all(isinstance(x, np.ndarray) and x.ndim == 1 for x in chunks):
        raise FormatError("an array in pieces has other parts than its shape and one-dimensional pieces")
    if not chunks or len({x.dtype for x in chunks}) > 1 or sum(x.size for x in chunks) != _size(shape, "?"):
        raise FormatError(f"the pieces of an array do not make one of shape {shape}")
    return np.concatenate(chunks).reshape(shape)


def _sequence(x: Tree) -> list[Tree]:
    """What flax made a dictionary of: `{"0": first, "1": second}`."""
    if not isinstance(x, dict) or set(x) != {str(i) for i in range(len(x))}:
        raise FormatError("an array in pieces does not number its parts")
    return [x[str(i)] for i in range(len(x))]


def unpack(data: bytes) -> Tree:
    """Read a tree that flax has written.

    **Raises:**

    - `FormatError`: if the bytes are anything else.
    """
    reader = _Reader(memoryview(data), iter(range(MOST_VALUES)))
    value = reader.value()
    if reader.position != len(data):
        raise FormatError(f"{len(data) - reader.position} bytes follow after its end at byte {reader.position}")
    return value


def pack(tree: Tree, *, chunk: int = 2**30) -> bytes:
    """Write a tree of dictionaries and arrays as flax does.

    **Arguments:**

    - `tree`: dictionaries with text as keys, and arrays.
    - `chunk`: arrays of more bytes are written in pieces of this size.
    """
    if isinstance(tree, dict):
        items = [_pack_text(key) + pack(value, chunk=chunk) for key, value in tree.items()]
        return _head(len(items), 0x80, 0x10, (0xDE, 0xDF)) + b"".join(items)
    if isinstance(tree, np.ndarray):
        return _pack_array(tree) if tree.nbytes <= chunk else _pack_pieces(tree, chunk)
    if tree is True:
        return b"\xc3"
    if isinstance(tree, int) and tree >= 0:
        return _head(tree, 0, 0x80, (0xCC, 0xCD, 0xCE, 0xCF))
    raise TypeError(f"Only dictionaries and arrays can be written, but a `{type(tree).__name__}` was given.")


def _head(size: int, small: int, limit: int, codes: tuple[int, ...]) -> bytes:
    """The first bytes of a value of a size: one byte, or a code and the size in as few bytes as hold it."""
    if size < limit:
        return bytes([small | size])
    forms = "HI" if len(codes) == 2 else "BHIQ"[: len(codes)]
    code, form = next((c, f) for c, f in zip(codes, forms, strict=True) if size < 1 << 8 * struct.calcsize(f))
    return bytes([code]) + struct.pack(">" + form, size)


def _pack_text(text: str) -> bytes:
    content = text.encode()
    return _head(len(content), 0xA0, 0x20, (0xD9, 0xDA, 0xDB)) + content


def _pack_array(array: np.ndarray) -> bytes:
    little = array.astype(array.dtype.newbyteorder("<")) if array.dtype.kind in "fiuc" else array
    content = little.tobytes()
    shape = _head(array.ndim, 0x90, 0x10, (0xDC, 0xDD)) + b"".join(pack(n) for n in array.shape)
    raw = _head(len(content), 0, 0, (0xC4, 0xC5, 0xC6)) + content
    inside = b"\x93" + shape + _pack_text(array.dtype.name) + raw
    return _head(len(inside), 0, 0, (0xC7, 0xC8, 0xC9)) + bytes([ARRAY]) + inside


def _pack_pieces(array: np.ndarray, chunk: int) -> bytes:
    flat, size = array.reshape(-1), max(1, chunk // array.itemsize)
    pieces = [flat[start : start + size] for start in range(0, flat.size, size)]
    numbered = [{str(i): x for i, x in enumerate(parts)} for parts in (array.shape, pieces)]
    return pack({CHUNKED: True, "shape": numbered[0], "chunks": numbered[1]}, chunk=size * array.itemsize)
