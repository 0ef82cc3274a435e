"""Files and folders that one process at a time writes to."""

import contextlib
import errno
import os
import pathlib
import re
import socket
import time
import warnings
from collections.abc import Iterator
from typing import Any


try:
    import fcntl as _fcntl
except ImportError:  # on Windows
    _fcntl = None
fcntl: Any = _fcntl

_HOLDER = re.compile(r"process \d+ on [\w.:-]+")
# What file systems say that have no locks.
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class Lock:
    """An exclusive lock, which ends with the process, however that ends.

    It is `flock` on a small file that says who holds it. The file is removed when the lock is let go; one that a killed
    process has left is not in the way. Where there are no locks (Windows, some network file systems), a warning says
    so, and nothing is locked.

    **Arguments:**

    - `file`: the file to lock. Missing folders are made.
    - `what`: what it stands for, such as "The folder `x`", for the error.
    - `remedy`: what to do if another process holds it, for the error.

    **Raises:**

    - `BlockingIOError`: if another process holds it.
    - `FileExistsError`: if the file is there and is something else, which is left alone.
    """

    def __init__(self, file: pathlib.Path, what: str, remedy: str):
        self.file, self.what, self.remedy = file, what, remedy
        self.handle: int | None = None
        self.possible = True
        self.take()

    def take(self) -> None:
        """Take the lock, also anew after its file was removed."""
        self.release()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if fcntl is None:
            return self._go_without("this system has no `flock`")
        while self.handle is None:
            handle = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Who held it before may have removed the file after it was opened here.
                if _is(handle, self.file):
                    if _read(handle) and not _HOLDER.fullmatch(_read(handle)):
                        raise FileExistsError(f"`{self.file}` is no lock of metaopt, but stands where one was wanted.")
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                    self.handle = handle
            except BlockingIOError as error:
                raise BlockingIOError(f"{self.what} is in use by {_holder(handle)}. {self.remedy}") from error
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self.file.unlink(missing_ok=True)
                return self._go_without(f"its file system has no locks ({error.strerror})")
            finally:
                if self.handle is None:
                    os.close(handle)

    def _go_without(self, why: str) -> None:
        if self.possible:
            self.possible = False
            warnings.warn(
                f"{self.what} cannot be locked: {why}. Nothing will say so if a second process writes to it, too; see "
                "to it that none does.",
                stacklevel=2,
            )

    def lost(self) -> bool:
        """Whether the file that was locked has been removed or replaced."""
        return self.handle is not None and not _is(self.handle, self.file)

    def is_ours(self) -> bool:
        """Whether nobody else may write: the lock is held, or there are no locks here."""
        return not self.possible or (self.handle is not None and not self.lost())

    def release(self) -> None:
        """Let go, and remove the file. Does nothing where nothing is held."""
        handle, self.handle = self.handle, None
        if handle is not None:
            if _is(handle, self.file):
                self.file.unlink(missing_ok=True)
            os.close(handle)


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike[str] | None, remedy: str) -> Iterator[Lock | None]:
    """Hold the lock of a folder; of none, where none is given.

    **Raises:**

    - `BlockingIOError`: if another process holds it.
    """
    if folder is None:
        yield None
        return
    lock = Lock(pathlib.Path(folder) / ".lock", f"The folder `{os.fspath(folder)}`", remedy)
    try:
        yield lock
    finally:
        lock.release()


def _is(handle: int, file: pathlib.Path) -> bool:
    """Whether a path leads to an open file."""
    try:
        found = file.stat()
    except OSError:
        return False
    own = os.fstat(handle)
    return (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)


def _holder(handle: int) -> str:
    # Who has just taken it needs a moment to say so.
    time.sleep(0.05)
    text = _read(handle)
    return text if _HOLDER.fullmatch(text) else "another process"


def _read(handle: int) -> str:
    return os.pread(handle, 300, 0).decode(errors="replace").strip()
