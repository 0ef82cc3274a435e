"""Say in words what a file holds that a run has left."""

import math
import os
from typing import Any

from .._core import CheckpointError, read_header
from ..l2o._published import is_packed, read_published
from ..meta._history import KIND, read_history
from ..spec import dumps


def describe(path: str | os.PathLike[str]) -> str:
    """Describe a saved learner, a checkpoint of meta-training, any other file written by [`metaopt.save`][], or
    published weights of a learned optimizer.

    **Arguments:**

    - `path`: the file.

    **Returns:**

    Text for people: what the file says of itself, and the path, dtype and shape of each array.

    **Raises:**

    - [`metaopt.CheckpointError`][]: if the file is missing, damaged, or no checkpoint.
    """
    if is_packed(path):
        return _describe_published(path)
    header = read_header(path)
    metadata = dict(header["metadata"])
    curves = _curves(path, metadata)
    blocks = [f"{os.fspath(path)}: {metadata.pop('kind', 'arrays')}"]
    spec = metadata.pop("spec", None)
    if spec is not None:
        blocks.append(dumps(spec).rstrip())
    facts = curves + [f"{key}: {value}" for key, value in metadata.items()]
    leaves = {leaf["path"]: (leaf["dtype"], leaf["shape"]) for leaf in header["leaves"]}
    return "\n\n".join([*blocks, "\n".join([*facts, *_arrays(leaves)])])


def _arrays(leaves: dict[str, tuple[str, list[int]]]) -> list[str]:
    """How many arrays there are, and the dtype and shape of each."""
    numbers = sum(math.prod(shape) for _, shape in leaves.values())
    width = max(map(len, leaves), default=0)
    rows = [f"  {name.ljust(width)}  {dtype}{shape}" for name, (dtype, shape) in leaves.items()]
    return [f"{len(leaves)} arrays of {numbers} numbers in all:", *rows]


def _describe_published(path: str | os.PathLike[str]) -> str:
    kind, arrays = read_published(path)
    leaves = {name: (array.dtype.name, list(array.shape)) for name, array in arrays.items()}
    title = f"{os.fspath(path)}: published weights of `{kind}`"
    return "\n\n".join(
        [title, "\n".join([f"to be read by metaopt.l2o.load_published(path, {kind!r})", *_arrays(leaves)])]
    )


def _curves(path: str | os.PathLike[str], metadata: dict[str, Any]) -> list[str]:
    """The curves of meta-training in a few words; takes what is about them out of `metadata`."""
    if metadata.get("kind") != KIND:
        return []
    try:
        history = read_history(path)
    except CheckpointError as error:
        return [str(error)]
    finally:
        for name in ("curves", "values", "validations"):
            metadata.pop(name, None)
    metadata.pop("meta_steps", None)
    lines = []
    if history.values:
        first, last = history.values[0], history.values[-1]
        lines.append(f"{len(history.values)} meta-steps, mean inner value {first:.4g} at first, {last:.4g} at last")
    if history.validations:
        step, loss = min(history.validations, key=lambda pair: pair[1])
        lines.append(f"best validation loss {loss:.4g} at meta-step {step}")
        metadata.pop("best_step", None)
    return lines
