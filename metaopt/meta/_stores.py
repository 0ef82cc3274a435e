"""Where a driver keeps its checkpoints: in a file, or in a folder that many processes write together."""

import os
import pathlib
from typing import Any, TypeVar

import jax

from .._core import load, read_header, save
from ..sharding import CheckpointFolder
from ..sharding._checkpoints import OpenFolder


T = TypeVar("T")


class File:
    """One file for the latest checkpoint, with the methods of an open checkpoint folder."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def save(self, step: int, tree: Any, metadata: dict[str, Any]) -> None:
        del step
        save(self.path, tree, metadata=metadata)

    def load(self, like: T) -> tuple[T, dict[str, Any]] | None:
        if not self.path.exists():
            return None
        return load(self.path, like), read_header(self.path)["metadata"]

    def wait(self) -> None:
        pass

    def close(self) -> None:
        pass


class Nowhere:
    """What stands for a file where nothing is saved."""

    def save(self, step: int, tree: Any, metadata: dict[str, Any]) -> None:
        pass

    def load(self, like: T) -> tuple[T, dict[str, Any]] | None:
        pass

    def wait(self) -> None:
        pass

    def close(self) -> None:
        pass


def open_store(place: str | os.PathLike[str] | CheckpointFolder | None) -> File | Nowhere | OpenFolder:
    """Get ready to save and load checkpoints.

    **Raises:**

    - `ValueError`: for a file that many processes would write.
    """
    if place is None:
        return Nowhere()
    if isinstance(place, CheckpointFolder):
        return OpenFolder(place)
    if jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes cannot write one file, `{os.fspath(place)}`. Give `checkpoint` a "
            "`metaopt.sharding.CheckpointFolder`."
        )
    return File(pathlib.Path(place))
