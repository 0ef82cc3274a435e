"""Saving and loading pytrees: one file, written at once or not at all."""

import hashlib
import json
import os
import pathlib
import tempfile
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree


T = TypeVar("T")
_MAGIC = b"METAOPT1"


class CheckpointError(ValueError):
    """Raised when a checkpoint file is missing, damaged, or does not fit what it is loaded into."""


def save(
    path: str | os.PathLike[str],
    tree: PyTree,
    *,
    spec: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Save the arrays of a pytree to one file.

    The file holds a JSON header (paths, shapes and dtypes of the leaves, your metadata) and the raw arrays, with a
    checksum. It is written beside its destination and moved there, so a crash leaves the old file or the new one.

    **Arguments:**

    - `path`: where to. Missing folders are made.
    - `tree`: any pytree; only arrays (typed random keys included) and Python numbers are stored.
    - `spec`: the spec of a learner, so that [`metaopt.load`][] can rebuild it from the file alone.
    - `metadata`: more JSON data to keep with it.

    **Raises:**

    - `OSError`: if the file cannot be written; whatever was there before is untouched.
    """
    path = pathlib.Path(path)
    metadata = {**(metadata or {}), **({} if spec is None else {"spec": spec})}
    leaves, blobs = [], []
    for key_path, leaf in jtu.tree_flatten_with_path(tree)[0]:
        if not eqx.is_array_like(leaf):
            continue
        is_key = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jr.key_data(leaf) if is_key else leaf)
        kind = str(jr.key_impl(leaf)) if is_key else None
        leaves.append(
            {"path": jtu.keystr(key_path), "shape": list(array.shape), "dtype": array.dtype.name, "key": kind}
        )
        blobs.append(np.ascontiguousarray(array).tobytes())
    payload = b"".join(blobs)
    digest = hashlib.sha256(payload).hexdigest()
    header = json.dumps({"metadata": metadata, "leaves": leaves, "sha256": digest}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + len(header).to_bytes(8, "little") + header + payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        pathlib.Path(scratch).unlink(missing_ok=True)
        raise


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a checkpoint says of itself: `metadata`, and the `path`, `shape` and `dtype` of each leaf.

    **Raises:**

    - `CheckpointError`: if the file is missing, is no checkpoint, or is damaged.
    """
    return _read(path)[0]


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
    header, payload = _read(path)
    with_paths, structure = jtu.tree_flatten_with_path(like)
    wanted = {jtu.keystr(p): leaf for p, leaf in with_paths if eqx.is_array_like(leaf)}
    stored, offset = {}, 0
    for entry in header["leaves"]:
        dtype = jnp.dtype(entry["dtype"])
        size = int(np.prod(entry["shape"], dtype=np.int64)) * dtype.itemsize
        array = np.frombuffer(payload[offset : offset + size], dtype).reshape(entry["shape"])
        stored[entry["path"]] = (array, entry["key"])
        offset += size
    missing, extra = sorted(set(wanted) - set(stored)), sorted(set(stored) - set(wanted))
    if missing or extra:
        raise CheckpointError(
            f"`{path}` does not fit. Not in the file: {missing[:5] or 'nothing'}; only in the file: "
            f"{extra[:5] or 'nothing'}. Load it into the structure that was saved."
        )
    new = [
        _fit(path, jtu.keystr(p), leaf, *stored[jtu.keystr(p)]) if eqx.is_array_like(leaf) else leaf
        for p, leaf in with_paths
    ]
    return jtu.tree_unflatten(structure, new)


def _fit(path: Any, name: str, leaf: Any, array: np.ndarray, key: str | None) -> Any:
    if key is not None:
        return jr.wrap_key_data(jnp.asarray(array), impl=key)
    shape, dtype = np.shape(leaf), jnp.result_type(leaf)
    if shape != array.shape or (eqx.is_array(leaf) and dtype != array.dtype):
        raise CheckpointError(
            f"`{path}` does not fit: `{name}` is {array.dtype}{list(array.shape)} in the file, but "
            f"{dtype}{list(shape)} was wanted."
        )
    if eqx.is_array(leaf):
        return array.copy() if isinstance(leaf, np.ndarray) else jnp.asarray(array)
    return type(leaf)(array.item())


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], bytes]:
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"`{path}` cannot be read: {error.strerror or error}.") from error
    if not data.startswith(_MAGIC):
        raise CheckpointError(f"`{path}` is not a metaopt checkpoint: it does not begin with {_MAGIC.decode()!r}.")
    start = len(_MAGIC) + 8
    length = int.from_bytes(data[len(_MAGIC) : start], "little")
    try:
        header = json.loads(data[start : start + length])
        payload, digest = data[start + length :], header["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"`{path}` is truncated or damaged: its header is not readable.") from error
    if hashlib.sha256(payload).hexdigest() != digest:
        raise CheckpointError(
            f"`{path}` is truncated or damaged: its checksum does not match. Use an earlier checkpoint."
        )
    return header, payload
