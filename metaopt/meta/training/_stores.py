"""Where a driver keeps its checkpoints: in a file, or in a folder that many processes write together."""

import os
from typing import Any, TypeVar

import jax

from ..._core.files._checkpoint_file import CheckpointFile
from ..._core.files._curves import Curves
from ...sharding import CheckpointFolder
from ...sharding._checkpoints import OpenFolder


T = TypeVar("T")


class Nowhere:
    """What stands for a file where nothing is saved."""

    def save(self, step: int, tree: Any, metadata: dict[str, Any], curves: Curves) -> None:
        pass

    def load(self, like: T) -> tuple[T, dict[str, Any], Curves | None] | None:
        pass

    def wait(self) -> None:
        pass

    def close(self) -> None:
        pass

    def release(self) -> None:
        pass


def open_store(place: str | os.PathLike[str] | CheckpointFolder | None) -> CheckpointFile | Nowhere | OpenFolder:
    """Get ready to save and load checkpoints.

    **Raises:**

    - `ValueError`: for a file that many processes would write.
    - `BlockingIOError`: for a file or folder that another run writes to.
    """
    if place is None:
        return Nowhere()
    if isinstance(place, CheckpointFolder):
        return OpenFolder(place, alone=True)
    if jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes cannot write one file, `{os.fspath(place)}`. Give `checkpoint` a "
            "`metaopt.sharding.CheckpointFolder`."
        )
    return CheckpointFile(place)
