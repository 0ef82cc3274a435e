"""Say in words what a file holds that a run has left."""

import math
import os
from typing import Any

from .._core import read_header
from ..spec import dumps


def describe(path: str | os.PathLike[str]) -> str:
    """Describe a saved learner, a checkpoint of meta-training, or any other file written by [`metaopt.save`][].

    **Arguments:**

    - `path`: the file.

    **Returns:**

    Text for people: what the file says of itself, and the path, dtype and shape of each array.

    **Raises:**

    - [`metaopt.CheckpointError`][]: if the file is missing, damaged, or no checkpoint.
    """
    header = read_header(path)
    metadata = dict(header["metadata"])
    blocks = [f"{os.fspath(path)}: {metadata.pop('kind', 'arrays')}"]
    spec = metadata.pop("spec", None)
    if spec is not None:
        blocks.append(dumps(spec).rstrip())
    facts = _curves(metadata) + [f"{key}: {value}" for key, value in metadata.items()]
    leaves = {leaf["path"]: leaf for leaf in header["leaves"]}
    numbers = sum(math.prod(leaf["shape"]) for leaf in leaves.values())
    facts.append(f"{len(leaves)} arrays of {numbers} numbers in all:")
    width = max(map(len, leaves), default=0)
    rows = [f"  {name.ljust(width)}  {leaf['dtype']}{leaf['shape']}" for name, leaf in leaves.items()]
    return "\n\n".join([*blocks, "\n".join([*facts, *rows])])


def _curves(metadata: dict[str, Any]) -> list[str]:
    """The curves of meta-training in a few words; takes them out of `metadata`."""
    values, validations = metadata.pop("values", None), metadata.pop("validations", None)
    lines = []
    if values:
        lines.append(f"{len(values)} meta-steps, mean inner value {values[0]:.4g} at first, {values[-1]:.4g} at last")
    if validations:
        step, loss = min(validations, key=lambda pair: pair[1])
        lines.append(f"best validation loss {loss:.4g} at meta-step {step}")
        metadata.pop("best_step", None)
    return lines
