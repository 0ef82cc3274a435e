"""Curves of a long run, in a file of their own that grows with them."""

import errno
import hashlib
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from ._files import CheckpointError, sync_folder


_MAGIC = b"METACRV1"
# In `curve`, 0 is what was seen in each step and 1 what was measured now and then.
_RECORD = np.dtype([("curve", "<u4"), ("step", "<u4"), ("number", "<f8")])


class Curves(NamedTuple):
    """What a run has seen: a number for each step, and others now and then, with the step of each."""

    each: list[float]
    some: list[tuple[int, float]]


class CurvesFile:
    """A file of curves beside checkpoints, which refer to its first so many records.

    What is new is appended, and is on the disk before a checkpoint refers to it. A crash in between leaves records that
    no checkpoint knows; they are cut off when the run goes on. Numbers are kept exactly, as binary64.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.forget()

    def forget(self) -> None:
        """Begin anew: nothing is known to be in the file."""
        self.each = self.some = self.records = 0
        self.hash = hashlib.sha256()

    def append(self, curves: Curves, *, write: bool = True) -> dict[str, Any]:
        """Make the file hold these curves, which begin with those that it holds.

        **Arguments:**

        - `curves`: all of them.
        - `write`: whether this process is the one that writes.

        **Returns:**

        What a checkpoint has to say of them: how many `records` they are, and the `sha256` of these.

        **Raises:**

        - `OSError`: if the file cannot be written. What checkpoints refer to is untouched.
        """
        if write and self.records and not self._holds_all():
            self.forget()
        new = _records(curves, self.each, self.some)
        if write:
            try:
                self._write(new.tobytes())
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"`{self.path}`, the curves of this run, could not be written: {error.strerror}. If there is a "
                    "checkpoint beside it, that is whole: see to it that there is room, and resume from there.",
                ) from error
        self.hash.update(new.tobytes())
        self.each, self.some, self.records = len(curves.each), len(curves.some), self.records + len(new)
        return {"records": self.records, "sha256": self.hash.hexdigest()}

    def read(self, about: Any, *, cut: bool = False) -> Curves:
        """Read what a checkpoint refers to.

        **Arguments:**

        - `about`: what the checkpoint says of it.
        - `cut`: whether to cut off what comes after.

        **Raises:**

        - `CheckpointError`: if the file is missing, too short, or not the one that the checkpoint refers to.
        """
        count, digest = _checked(self.path, about)
        size = len(_MAGIC) + count * _RECORD.itemsize
        try:
            with self.path.open("rb") as file:
                there = os.fstat(file.fileno()).st_size
                # The checkpoint may say any number.
                data = file.read(min(size, there))
        except OSError as error:
            raise CheckpointError(
                f"`{self.path}`, the curves of this run, cannot be read: {error.strerror}. They belong to the "
                "checkpoint: keep both in one folder, and put the file back there."
            ) from error
        body = data[len(_MAGIC) :]
        if not data.startswith(_MAGIC) or len(data) < size or hashlib.sha256(body).hexdigest() != digest:
            raise CheckpointError(
                f"`{self.path}`, the curves of this run, is truncated, damaged, or of another run: its first {count} "
                "records are not those that the checkpoint refers to. Put back the file that was saved with it, or an "
                "earlier copy of both."
            )
        if cut and there > size:
            os.truncate(self.path, size)
        found = np.frombuffer(body, _RECORD)
        each, some = found[found["curve"] == 0], found[found["curve"] == 1]
        self.hash = hashlib.sha256(body)
        self.each, self.some, self.records = len(each), len(some), count
        return Curves(each["number"].tolist(), list(zip(some["step"].tolist(), some["number"].tolist(), strict=True)))

    def _holds_all(self) -> bool:
        try:
            return self.path.stat().st_size >= len(_MAGIC) + self.records * _RECORD.itemsize
        except OSError:
            return False

    def _write(self, new: bytes) -> None:
        start = len(_MAGIC) + self.records * _RECORD.itemsize
        fresh = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            if not _MAGIC.startswith(file.read(len(_MAGIC))):
                raise FileExistsError(errno.EEXIST, "there is a file that does not hold curves, which is left alone")
            file.seek(0)
            if not self.records:
                file.write(_MAGIC)
            file.seek(start)
            file.write(new)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            sync_folder(self.path.parent)


def _records(curves: Curves, each: int, some: int) -> np.ndarray:
    """Those after so many of each kind, in the order of steps."""
    steps = [*range(each + 1, len(curves.each) + 1), *(step for step, _ in curves.some[some:])]
    kinds = [0] * (len(curves.each) - each) + [1] * (len(curves.some) - some)
    records = np.empty(len(steps), _RECORD)
    records["curve"], records["step"] = kinds, steps
    records["number"] = [*curves.each[each:], *(number for _, number in curves.some[some:])]
    return records[np.lexsort((records["curve"], records["step"]))]


def _checked(path: pathlib.Path, about: Any) -> tuple[int, str]:
    count, digest = (about.get("records"), about.get("sha256")) if isinstance(about, dict) else (None, None)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0 or not isinstance(digest, str):
        raise CheckpointError(f"The checkpoint beside `{path}` does not say which curves are its own: it is damaged.")
    return count, digest
