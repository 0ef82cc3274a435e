"""The checkpoint of a driver: one file that is replaced as a whole, beside its curves, which grow."""

import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from ._curves import Curves, CurvesFile
from ._lock import Lock
from ._save import load, read_header, save


T = TypeVar("T")


class Watched(os.PathLike[str]):
    """A path with something to be done before each time that something is saved there."""

    def __init__(self, path: str | os.PathLike[str], before: Callable[[], None]):
        self.path, self.before = os.fspath(path), before

    def __fspath__(self) -> str:
        return self.path


def before_saving(path: str | os.PathLike[str]) -> Callable[[], None]:
    """What is to be done before something is saved at a path."""
    return path.before if isinstance(path, Watched) else _nothing


def _nothing() -> None:
    pass


def curves_beside(path: str | os.PathLike[str]) -> CurvesFile:
    """The curves that belong to a checkpoint file."""
    file = pathlib.Path(path)
    return CurvesFile(file.with_name(f"{file.name}.curves"))


class CheckpointFile:
    """The file of the latest checkpoint, which this process alone writes.

    **Raises:**

    - `BlockingIOError`: if another process writes it now.
    - `OSError`: if its folder cannot be written to.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path, self.before = pathlib.Path(path), before_saving(path)
        self.curves = curves_beside(path)
        lock = self.path.with_name(f"{self.path.name}.lock")
        self.lock = Lock(
            lock,
            f"The checkpoint `{self.path}`",
            "Two runs would overwrite each other's: give this one another `checkpoint`, or wait until the other has "
            "ended; the lock ends with it.",
        )
        self._is_ours = False

    def refuse_another(self) -> None:
        """Refuse to write over what another run has saved.

        **Raises:**

        - `FileExistsError`: if there is a checkpoint that neither was loaded nor comes from here.
        """
        if not self._is_ours and self.path.exists():
            self.release()
            raise FileExistsError(
                f"`{self.path}` is the checkpoint of another run. Go on with `resume=True`, delete it, or take another "
                "`checkpoint`."
            )

    def save(self, step: int, tree: Any, metadata: dict[str, Any], curves: Curves) -> None:
        """Save everything: first what is new in the curves, then the file that refers to them."""
        del step
        self.refuse_another()
        if self.lock.lost():
            warnings.warn(
                f"`{self.path.parent}` was emptied, removed or moved while a run saved its checkpoints there. What is "
                "needed to go on is written to that place anew.",
                stacklevel=2,
            )
            self.lock.take()
        self.before()
        about = self.curves.append(curves)
        save(self.path, tree, metadata={**metadata, "curves": about})
        self._is_ours = True

    def load(self, like: Callable[[dict[str, Any]], T]) -> tuple[T, dict[str, Any], Curves | None] | None:
        """What was saved, if there is something: arrays in a pytree like the one that the metadata ask for, metadata,
        and curves. Old files have curves in the metadata."""
        if not self.path.exists():
            return None
        metadata = read_header(self.path)["metadata"]
        tree = load(self.path, like(metadata))
        curves = self.curves.read(metadata["curves"], cut=True) if "curves" in metadata else None
        self._is_ours = True
        return tree, metadata, curves

    def wait(self) -> None:
        """Wait until all is written, which it is."""

    def close(self) -> None:
        """Wait, and let go."""
        self.release()

    def release(self) -> None:
        """Let others write the file."""
        self.lock.release()
