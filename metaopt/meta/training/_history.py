"""The curves of meta-training."""

import os
from typing import Any

import equinox as eqx

from ..._core import CheckpointError, read_header
from ..._core.files._checkpoint_file import curves_beside
from ..._core.files._curves import Curves


KIND = "meta-training"


class History(eqx.Module):
    """What happened: the mean inner value at each meta-step, and each validation as `(meta-step, loss)`."""

    values: list[float]
    validations: list[tuple[int, float]]


def read_history(checkpoint: str | os.PathLike[str]) -> History:
    """Read the curves of a run of meta-training that goes on, or that was interrupted.

    **Arguments:**

    - `checkpoint`: the file that [`metaopt.meta_train`][] saves to. Its curves are in the file with the ending
        `.curves` beside it.

    **Returns:**

    The [`metaopt.meta.History`][] up to that checkpoint.

    **Raises:**

    - [`metaopt.CheckpointError`][]: if one of the files is missing or damaged, or `checkpoint` is another kind of file.
    """
    metadata = read_header(checkpoint)["metadata"]
    if metadata.get("kind") != KIND:
        raise CheckpointError(f"`{os.fspath(checkpoint)}` is not a checkpoint of meta-training, and has no curves.")
    curves = curves_beside(checkpoint).read(metadata["curves"]) if "curves" in metadata else None
    return to_history(metadata, curves)


def to_history(metadata: dict[str, Any], curves: Curves | None) -> History:
    """The curves of a checkpoint, which it has in its metadata if it is an old one."""
    if curves is not None:
        return History(curves.each, curves.some)
    try:
        validations = [(int(step), float(loss)) for step, loss in metadata["validations"]]
        return History([float(value) for value in metadata["values"]], validations)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            "The checkpoint has no curves of meta-training: it is damaged, or of another kind."
        ) from error
