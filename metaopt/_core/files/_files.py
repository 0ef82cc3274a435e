"""Files that are read whole, and written at once or not at all."""

import contextlib
import errno
import os
import pathlib
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from ._printable import printable


try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

# There is no room, or the disk fails.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class CheckpointError(ValueError):
    """Raised when a checkpoint file is missing, damaged, or does not fit what it is loaded into."""

    def __str__(self) -> str:
        return printable(ValueError.__str__(self), lines=True)


def read_bytes(path: str | os.PathLike[str], size: int = -1) -> bytes:
    """The content of a file, or the first bytes of it.

    **Raises:**

    - `CheckpointError`: if it cannot be read.
    """
    try:
        mode = os.stat(path).st_mode
        # A pipe can be read only once, and a device may never end.
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise CheckpointError(f"`{path}` cannot be read: it is a device or a pipe, but a file was wanted.")
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as error:
        raise CheckpointError(f"`{path}` cannot be read: {error.strerror or error}.") from error
    except MemoryError as error:
        raise CheckpointError(f"`{path}` cannot be read: it is larger than the memory that there is.") from error
    except CheckpointError:
        raise
    except ValueError as error:  # a name that no file can have
        raise CheckpointError(f"`{path}` cannot be read: {error}.") from error


def write_at_once(path: str | os.PathLike[str], content: bytes | Iterable[Any]) -> None:
    """Write a file beside its destination and move it there, so that a crash leaves the old file or the new one.

    What is written beside it is called `NAME.<12 hexadecimal digits>.tmp`. A process that is killed leaves it there;
    the next one that writes to the same destination removes it, unless who writes it is still alive. The file gets the
    mode that the umask says, also where there was one before. Links are followed.

    **Arguments:**

    - `path`: where to. Missing folders are made.
    - `content`: the bytes, or pieces of them.

    **Raises:**

    - `OSError`: if the file cannot be written; whatever was there before is untouched.
    """
    place = pathlib.Path(os.path.realpath(path) if os.path.islink(path) else path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(place)
        with _scratch(place) as (file, scratch):
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows moves no file that is open
            os.replace(scratch, place)
    except OSError as error:
        raise _explained(error, path) from error
    sync_folder(place.parent)


@contextlib.contextmanager
def _scratch(place: pathlib.Path) -> Iterator[tuple[BinaryIO, pathlib.Path]]:
    """A new file beside a destination, which is locked while it is written, and gone after an error."""
    handle, scratch = _locked_scratch(place)
    try:
        try:
            file = os.fdopen(handle, "wb")
        except BaseException:
            os.close(handle)
            raise
        with file:
            yield file, scratch
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise


def _locked_scratch(place: pathlib.Path) -> tuple[int, pathlib.Path]:
    while True:
        scratch = place.with_name(f"{place.name}.{secrets.token_hex(6)}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        handle = os.open(scratch, flags, 0o666)
        # Before it was locked, another writer may have taken it for something that was left behind.
        if _lock(handle) is not False and _is_there(handle, scratch):
            return handle, scratch
        os.close(handle)


def _is_there(handle: int, scratch: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(scratch))
    except FileNotFoundError:
        return False


def _lock(handle: int) -> bool | None:
    """Lock a file, until it is closed or its process ends. `None` if files cannot be locked here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_leftovers(place: pathlib.Path) -> None:
    """Remove what killed processes have left of a file: what is called so, and is locked by nobody."""
    left = re.compile(rf"{re.escape(place.name)}\.[0-9a-f]{{12}}\.tmp")
    try:
        names = os.listdir(place.parent)
    except OSError:  # a folder that may be written, but not read
        return
    for name in filter(left.fullmatch, names):
        with contextlib.suppress(OSError):  # of somebody else, or no longer there
            handle = os.open(place.parent / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _lock(handle):
                    os.unlink(place.parent / name)
            finally:
                os.close(handle)


def _explained(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """An error that names the destination and says what is left; of the same kind, as its number decides that."""
    if error.errno is None or (error.errno not in _FULL and not str(error.filename).endswith(".tmp")):
        return error
    text = error.strerror or os.strerror(error.errno)
    if error.errno in _FULL:
        kept = "what was saved there before is whole" if os.path.exists(path) else "nothing was saved there before"
        text += f"; {kept}. Make room, and save again; a run goes on from its last checkpoint with `--resume`"
        text += ", or `resume=True`"
    return OSError(error.errno, text, os.fspath(path))


def sync_folder(folder: pathlib.Path) -> None:
    """Have the move survive a loss of power. Where folders cannot be synced, it is still the old file or the new."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
