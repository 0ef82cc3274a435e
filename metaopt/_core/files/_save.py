"""Saving and loading pytrees: one file, written at once or not at all."""

import hashlib
import json
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from .._budget import OverBudget, budget
from ._files import CheckpointError, read_bytes, write_at_once
from ._header import HeaderError, check_dtype, parse_header


T = TypeVar("T")
_MAGIC = b"METAOPT1"
# A build that fits its file takes far fewer calls: a few thousand for each array, or for each word of its spec.
_CALLS, _CALLS_PER_LEAF, _CALLS_PER_BYTE = 1_000_000, 20_000, 500
# So many of anything take little memory.
_LARGE = 2**16


class _Content(NamedTuple):
    """A whole file: its header, and the bytes of all arrays, one after another."""

    path: str
    header: dict[str, Any]
    payload: memoryview


def save(
    path: str | os.PathLike[str],
    tree: PyTree,
    *,
    spec: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Save the arrays of a pytree to one file.

    The file holds a JSON header (paths, shapes and dtypes of the leaves, your metadata) and the raw arrays, with a
    checksum over all of it. It is written beside its destination and moved there, so a crash leaves the old file or
    the new one. What a process that was killed has written beside it, `NAME.<12 hexadecimal digits>.tmp`, is removed by
    the next one that saves there. Files get the mode that the umask says, those that were there before, too.

    **Arguments:**

    - `path`: where to. Missing folders are made.
    - `tree`: any pytree; only arrays (typed random keys included) and Python numbers are stored.
    - `spec`: the spec of a learner, so that [`metaopt.load`][] can rebuild it from the file alone.
    - `metadata`: more JSON data to keep with it.

    **Raises:**

    - `OSError`: if the file cannot be written; whatever was there before is untouched.
    - `TypeError`: for arrays of text or objects, and for metadata that JSON cannot hold.
    - `ValueError`: for metadata that are nested too deep or have two keys that JSON writes alike, and for a tree with
        two leaves at one path.
    """
    metadata = {**(metadata or {}), **({} if spec is None else {"spec": spec})}
    leaves, blobs = [], []
    for key_path, leaf in jtu.tree_flatten_with_path(tree)[0]:
        if not eqx.is_array_like(leaf):
            continue
        path_text, array = jtu.keystr(key_path), np.asarray(jr.key_data(leaf) if is_key(leaf) else leaf)
        if check_dtype(array.dtype.name) is None:
            raise TypeError(f"`{path_text}` has dtype {array.dtype}, but only numbers and random keys can be saved.")
        kind = str(jr.key_impl(leaf)) if is_key(leaf) else None
        leaves.append({"path": path_text, "shape": list(array.shape), "dtype": array.dtype.name, "key": kind})
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        blobs.append(native.reshape(-1).view(np.uint8))
    header = json.dumps({"metadata": metadata, "leaves": leaves}).encode()
    try:
        parse_header(memoryview(header), sum(blob.size for blob in blobs))
    except HeaderError as error:
        raise ValueError(f"This cannot be saved, as its header {error}. It could not be read again.") from error
    parts = [len(header).to_bytes(8, "little"), header, *blobs]
    checksum = hashlib.sha256()
    for part in parts:
        checksum.update(part)
    write_at_once(path, [_MAGIC, checksum.digest(), *parts])


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a checkpoint says of itself: `metadata`, and the `path`, `shape` and `dtype` of each leaf.

    All of it is checked, whoever has written the file: paths are unique, dtypes and kinds of random keys are known, and
    as many bytes follow as the shapes say.

    **Raises:**

    - `CheckpointError`: if the file is missing, is no checkpoint, or is damaged.
    """
    return _read(path).header


def load(path: str | os.PathLike[str], like: T) -> T:
    """Load a pytree that was saved with [`metaopt.save`][].

    **Arguments:**

    - `path`: the file.
    - `like`: a pytree of the same structure, whose arrays are replaced by those in the file.

    **Returns:**

    `like` with the arrays from the file.

    **Raises:**

    - `CheckpointError`: if the file is missing, is no checkpoint, is truncated or damaged, or does not fit `like`;
        the text names the first leaf that does not fit.
    """
    content = _read(path)
    _check_fit(content, _kinds(like))
    return _fill(content, like)


def load_made(path: str | os.PathLike[str], make: Callable[[Any], T]) -> T:
    """Load what was saved with its spec into what is made of that spec.

    Before any array is made, shapes are compared: a damaged file could ask for more memory than there is, or for more
    layers than could be made in a day.

    **Arguments:**

    - `path`: the file.
    - `make`: makes a pytree of a spec.

    **Raises:**

    - `CheckpointError`: as [`metaopt.load`][]; and whatever `make` raises.
    """
    content = _read(path)
    spec = content.header["metadata"].get("spec")
    if spec is None:
        raise CheckpointError(
            f"`{path}` holds no spec of a learner. Pass the structure that was saved: `metaopt.load(path, like)`."
        )
    leaves = content.header["leaves"]
    calls = _CALLS + _CALLS_PER_LEAF * len(leaves) + _CALLS_PER_BYTE * len(json.dumps(spec))
    # A size makes so many arrays, or arrays of so many numbers. What is larger than all that the file holds is another
    # number, such as a seed. What is made is then the same whatever it is; which is seen first, as a list of so many
    # layers would be too long.
    largest = max(_LARGE, len(leaves) + sum(math.prod(entry["shape"]) for entry in leaves))
    small = [_replaced(spec, largest, number) for number in (2, 3)]
    try:
        with budget(calls):
            if small[0] != small[1] and _depends(make, small):
                raise OverBudget
            wanted = _kinds_made(make, spec)
    except OverBudget:
        raise CheckpointError(
            f"`{path}` does not fit: its spec asks for far more than the {len(leaves)} arrays that it holds."
        ) from None
    _check_fit(content, wanted)
    return _fill(content, make(spec))


def _replaced(spec: Any, largest: int, number: int) -> Any:
    """A spec with a small number in the place of those that are larger than anything could be."""
    if isinstance(spec, dict):
        return {key: _replaced(value, largest, number) for key, value in spec.items()}
    if isinstance(spec, list):
        return [_replaced(value, largest, number) for value in spec]
    return number if isinstance(spec, int) and spec > largest else spec


def _depends(make: Callable[[Any], Any], specs: list[Any]) -> bool:
    """Whether leaves differ between what is made of specs, as far as something can be made of them."""
    try:
        first, *others = (_kinds_made(make, spec) for spec in specs)
    except Exception:  # as a number may have to be larger than another, so that this says nothing of the spec itself
        return False
    return any(other != first for other in others)


def _kinds_made(make: Callable[[Any], Any], spec: Any) -> dict[str, str]:
    """What the leaves would be of what is made of a spec."""
    kinds: dict[str, str] = {}

    def look() -> None:
        kinds.update(_kinds(make(spec)))

    try:
        jax.eval_shape(look)
    except Exception as error:
        if not _asks_for_numbers(error):
            raise
        look()
    return kinds


def _asks_for_numbers(error: BaseException | None) -> bool:
    """Whether something failed because it looks at numbers, which are not known yet when only shapes are."""
    abstract = (jax.errors.JAXTypeError, jax.errors.JAXIndexError)
    return error is not None and (isinstance(error, abstract) or _asks_for_numbers(error.__cause__))


def _kinds(tree: Any) -> dict[str, str]:
    """What each leaf that is stored must be, by its path."""
    leaves = jtu.tree_flatten_with_path(tree)[0]
    return {jtu.keystr(path): kind_of(leaf) for path, leaf in leaves if eqx.is_array_like(leaf)}


def _check_fit(content: _Content, wanted: dict[str, str]) -> None:
    stored = {
        entry["path"]: _in_words(entry["dtype"], entry["shape"], entry["key"]) for entry in content.header["leaves"]
    }
    missing, extra = sorted(set(wanted) - set(stored)), sorted(set(stored) - set(wanted))
    if missing or extra:
        raise CheckpointError(
            f"`{content.path}` does not fit. Not in the file: {missing[:5] or 'nothing'}; only in the file: "
            f"{extra[:5] or 'nothing'}. Load it into the structure that was saved."
        )
    for name, kind in wanted.items():
        if stored[name] != kind:
            raise CheckpointError(
                f"`{content.path}` does not fit: `{name}` is {stored[name]} in the file, but {kind} was wanted."
            )


def _fill(content: _Content, like: T) -> T:
    """Put the arrays of a file where they belong, once it is known that they fit."""
    stored, offset = {}, 0
    for entry in content.header["leaves"]:
        dtype = jnp.dtype(entry["dtype"])
        size = int(np.prod(entry["shape"], dtype=np.int64)) * dtype.itemsize
        array = np.frombuffer(content.payload[offset : offset + size], dtype).reshape(entry["shape"])
        if dtype.kind == "b" and np.any(array.view(np.uint8) > 1):
            raise CheckpointError(f"`{content.path}` is damaged: `{entry['path']}` holds booleans that are none.")
        stored[entry["path"]] = (array, entry["key"])
        offset += size

    def fit(path: Any, leaf: Any) -> Any:
        if not eqx.is_array_like(leaf):
            return leaf
        array, key = stored[jtu.keystr(path)]
        if key is not None:
            return jr.wrap_key_data(jnp.array(array), impl=key)
        if isinstance(leaf, jax.Array):
            return jnp.array(array)
        return array.copy() if isinstance(leaf, np.ndarray) else type(leaf)(array.item())

    return jtu.tree_map_with_path(fit, like)


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed random keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def kind_of(leaf: Any) -> str:
    """What must agree between a leaf and what is stored for it, in words."""
    return _kind(leaf, str(jr.key_impl(leaf)) if is_key(leaf) else None)


def _kind(leaf: Any, key: str | None) -> str:
    array = jr.key_data(leaf) if is_key(leaf) else leaf if eqx.is_array(leaf) else np.asarray(leaf)
    return _in_words(array.dtype.name, list(array.shape), key)


def _in_words(dtype: str, shape: list[int], key: str | None) -> str:
    kind = f"{dtype}{shape}"
    return kind if key is None else f"a random key ({key}) of data {kind}"


def _read(path: str | os.PathLike[str]) -> _Content:
    data = memoryview(read_bytes(path))
    if data[: len(_MAGIC)] != _MAGIC:
        raise CheckpointError(f"`{path}` is not a metaopt checkpoint: it does not begin with {_MAGIC.decode()!r}.")
    start = len(_MAGIC) + hashlib.sha256().digest_size
    digest, body = data[len(_MAGIC) : start], data[start:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(
            f"`{path}` is truncated or damaged: its checksum does not match. Use an earlier checkpoint."
        )
    end = 8 + int.from_bytes(body[:8], "little")
    try:
        if end > len(body):
            raise HeaderError("is longer than the file")
        header = parse_header(body[8:end], len(body) - end)
    except HeaderError as error:
        raise CheckpointError(f"`{path}` is damaged: its header {error}. Use an earlier checkpoint.") from error
    return _Content(os.fspath(path), header, body[end:])
