"""Where a driver keeps its checkpoints: in a file, or in a folder that many processes write together."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import jax

from ..._core.files._checkpoint_file import CheckpointFile, Watched, before_saving
from ..._core.files._curves import Curves
from ..._core.files._lock import Lock, locked_folder
from ...sharding import CheckpointFolder
from ...sharding._checkpoints import OpenFolder


T = TypeVar("T")
Place: TypeAlias = str | os.PathLike[str] | CheckpointFolder | None


class Nowhere:
    """What stands for a file where nothing is saved."""

    def save(self, step: int, tree: Any, metadata: dict[str, Any], curves: Curves) -> None:
        pass

    def load(self, like: Callable[[dict[str, Any]], T]) -> tuple[T, dict[str, Any], Curves | None] | None:
        pass

    def wait(self) -> None:
        pass

    def close(self) -> None:
        pass

    def release(self) -> None:
        pass


def open_store(place: Place) -> CheckpointFile | Nowhere | OpenFolder:
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


def place_inside(place: Place, name: str) -> Place:
    """Where one of several trainings in a row keeps its checkpoints: a file in a folder, or a folder in a folder."""
    if isinstance(place, CheckpointFolder):
        return dataclasses.replace(place, path=pathlib.Path(place.path, name))
    return None if place is None else Watched(pathlib.Path(place, f"{name}.metaopt"), before_saving(place))


def locked_place(place: Place) -> contextlib.AbstractContextManager[Lock | None]:
    """Hold the lock of the folder of several trainings in a row; in a run of many processes the first one does.

    **Raises:**

    - `BlockingIOError`: if another run holds it.
    """
    path = place.path if isinstance(place, CheckpointFolder) else place
    remedy = "Give this run another `checkpoint`, or wait until the other has ended."
    return locked_folder(path if jax.process_index() == 0 else None, remedy)
