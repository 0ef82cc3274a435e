"""Say in words what a file holds that a run has left."""

import math
import os
from typing import Any

from .._core import CheckpointError, read_header
from .._core.files._printable import printable
from ..l2o.published._published import is_packed, read_published
from ..meta.training._history import KIND, read_history
from ..spec import dumps


# Of a column. A file could hold one long name and many short ones.
_WIDEST = 100


def describe(path: str | os.PathLike[str]) -> str:
    """Describe a saved learner, a checkpoint of meta-training, any other file written by [`metaopt.save`][], or
    published weights of a learned optimizer.

    **Arguments:**

    - `path`: the file.

    **Returns:**

    Text for people: what the file says of itself, and the path, dtype and shape of each array. All that a terminal
    would not print as it is, is escaped.

    **Raises:**

    - [`metaopt.CheckpointError`][]: if the file is missing, damaged, or no checkpoint.
    - [`metaopt.spec.SpecError`][]: if the file is whole, but its spec is none.
    """
    if is_packed(path):
        return _describe_published(path)
    header = read_header(path)
    metadata = dict(header["metadata"])
    curves = _curves(path, metadata)
    blocks = [printable(f"{os.fspath(path)}: {metadata.pop('kind', 'arrays')}")]
    if isinstance(metadata.get("spec"), dict):
        blocks.append(dumps(metadata.pop("spec")).rstrip())
    facts = curves + [printable(f"{key}: {value}") for key, value in metadata.items()]
    leaves = {leaf["path"]: (leaf["dtype"], leaf["shape"]) for leaf in header["leaves"]}
    return "\n\n".join([*blocks, "\n".join([*facts, *_arrays(leaves)])])


def _arrays(leaves: dict[str, tuple[str, list[int]]]) -> list[str]:
    """How many arrays there are, and the dtype and shape of each."""
    numbers = sum(math.prod(shape) for _, shape in leaves.values())
    names = [printable(name) for name in leaves]
    width = min(max(map(len, names), default=0), _WIDEST)
    rows = [
        f"  {name.ljust(width)}  {dtype}{shape}" for name, (dtype, shape) in zip(names, leaves.values(), strict=True)
    ]
    return [f"{len(leaves)} arrays of {numbers} numbers in all:", *rows]


def _describe_published(path: str | os.PathLike[str]) -> str:
    kind, arrays = read_published(path)
    leaves = {name: (array.dtype.name, list(array.shape)) for name, array in arrays.items()}
    title = f"{printable(os.fspath(path))}: published weights of `{kind}`"
    return "\n\n".join(
        [title, "\n".join([f"to be read by metaopt.l2o.load_published(path, {kind!r})", *_arrays(leaves)])]
    )


def _curves(path: str | os.PathLike[str], metadata: dict[str, Any]) -> list[str]:
    """The curves of meta-training in a few words; takes them out of `metadata`. What is no curve stays there."""
    if metadata.get("kind") == KIND and "curves" in metadata:
        del metadata["curves"]
        try:
            history = read_history(path)
        except CheckpointError as error:
            return [printable(str(error))]
        metadata |= {"values": history.values, "validations": [list(pair) for pair in history.validations]}
        metadata.pop("meta_steps", None)
    values, validations = metadata.get("values"), metadata.get("validations")
    lines = []
    if isinstance(values, list) and all(map(_is_number, values)):
        metadata.pop("values")
        if values:
            ends = f"mean inner value {values[0]:.4g} at first, {values[-1]:.4g} at last"
            lines.append(f"{len(values)} meta-steps, {ends}")
    if isinstance(validations, list) and all(map(_is_measurement, validations)):
        metadata.pop("validations")
        if validations:
            step, loss = min(validations, key=lambda pair: pair[1])
            lines.append(f"best validation loss {loss:.4g} at meta-step {step}")
            metadata.pop("best_step", None)
    return lines


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _is_measurement(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair))
