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
    checksum over all of it. It is written beside its destination and moved there, so a crash leaves the old file or
    the new one.

    **Arguments:**

    - `path`: where to. Missing folders are made.
    - `tree`: any pytree; only arrays (typed random keys included) and Python numbers are stored.
    - `spec`: the spec of a learner, so that [`metaopt.load`][] can rebuild it from the file alone.
    - `metadata`: more JSON data to keep with it.

    **Raises:**

    - `OSError`: if the file cannot be written; whatever was there before is untouched.
    - `TypeError`: for arrays of text or objects, and for metadata that JSON cannot hold.
    """
    path = pathlib.Path(path)
    metadata = {**(metadata or {}), **({} if spec is None else {"spec": spec})}
    leaves, blobs = [], []
    for key_path, leaf in jtu.tree_flatten_with_path(tree)[0]:
        if not eqx.is_array_like(leaf):
            continue
        path_text, array = jtu.keystr(key_path), np.asarray(jr.key_data(leaf) if is_key(leaf) else leaf)
        if not (array.dtype == bool or jnp.issubdtype(array.dtype, jnp.number)):
            raise TypeError(f"`{path_text}` has dtype {array.dtype}, but only numbers and random keys can be saved.")
        kind = str(jr.key_impl(leaf)) if is_key(leaf) else None
        leaves.append({"path": path_text, "shape": list(array.shape), "dtype": array.dtype.name, "key": kind})
        blobs.append(array.astype(array.dtype.newbyteorder("=")).tobytes())
    header = json.dumps({"metadata": metadata, "leaves": leaves}).encode()
    body = b"".join([len(header).to_bytes(8, "little"), header, *blobs])
    write_at_once(path, _MAGIC + hashlib.sha256(body).digest() + body)


def write_at_once(path: pathlib.Path, content: bytes) -> None:
    """Write a file beside its destination and move it there, so that a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
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
    stored, wanted = _kind(array, key), kind_of(leaf)
    if stored != wanted:
        raise CheckpointError(f"`{path}` does not fit: `{name}` is {stored} in the file, but {wanted} was wanted.")
    if key is not None:
        return jr.wrap_key_data(jnp.asarray(array), impl=key)
    if isinstance(leaf, jax.Array):
        return jnp.asarray(array)
    return array.copy() if isinstance(leaf, np.ndarray) else type(leaf)(array.item())


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed random keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def kind_of(leaf: Any) -> str:
    """What must agree between a leaf and what is stored for it, in words."""
    return _kind(leaf, str(jr.key_impl(leaf)) if is_key(leaf) else None)


def _kind(leaf: Any, key: str | None) -> str:
    array = jr.key_data(leaf) if is_key(leaf) else leaf if eqx.is_array(leaf) else np.asarray(leaf)
    kind = f"{array.dtype.name}{list(array.shape)}"
    return kind if key is None else f"a random key ({key}) of data {kind}"


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    **Raises:**

    - `CheckpointError`: if it cannot be read.
    """
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"`{path}` cannot be read: {error.strerror or error}.") from error


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], bytes]:
    data = read_bytes(path)
    if not data.startswith(_MAGIC):
        raise CheckpointError(f"`{path}` is not a metaopt checkpoint: it does not begin with {_MAGIC.decode()!r}.")
    start = len(_MAGIC) + hashlib.sha256().digest_size
    digest, body = data[len(_MAGIC) : start], data[start:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(
            f"`{path}` is truncated or damaged: its checksum does not match. Use an earlier checkpoint."
        )
    end = 8 + int.from_bytes(body[:8], "little")
    return json.loads(body[8:end]), body[end:]
