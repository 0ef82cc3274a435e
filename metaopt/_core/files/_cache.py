"""Where files are kept that can be made again, and how it is known that nobody else has changed them."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_folder(name: str) -> Path:
    """The folder of this name in `METAOPT_CACHE`, or else in `metaopt` in the user's cache folder.

    That is `XDG_CACHE_HOME`, or else `~/.cache`. Where it is not known whose home that is, as in a container whose user
    has no name, it is `temporary_folder`. The folder need not exist.
    """
    given, root, home = os.environ.get("METAOPT_CACHE"), os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~")
    if given:
        return Path(os.path.expanduser(given)) / name
    # The specification of XDG_CACHE_HOME asks to ignore a relative path.
    if os.path.isabs(root):
        return Path(root) / "metaopt" / name
    return Path(home) / ".cache" / "metaopt" / name if os.path.isabs(home) else temporary_folder(name)


def temporary_folder(name: str) -> Path:
    """The folder of this name and user among the temporary files of this machine. It need not exist."""
    try:
        root = tempfile.gettempdir()
    except FileNotFoundError:  # no folder can be written; who wants to write there will be told
        root = os.sep + "tmp"
    return Path(root) / f"metaopt-{_user()}-{name}"


def check_private(folder: Path) -> None:
    """Make a folder if there is none, and refuse one whose files others could change, as `private_folder` does."""
    if os.name == "posix":
        with private_folder(folder):
            pass
    else:
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def private_folder(folder: Path) -> Iterator[int]:
    """Open a folder whose files nobody but this user can change, for the functions below.

    It is made if there is none. All that is done through the number that this gives is done in the folder that was
    looked at, whatever its path leads to later on.

    **Raises:**

    - `OSError`: if it cannot be made or opened, is a symbolic link, belongs to another user, or is writable by others;
        its text says which.
    """
    with contextlib.suppress(FileExistsError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    if folder.is_symlink():
        raise PermissionError(f"`{folder}` is a symbolic link")
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        reason = _not_ours(os.fstat(number))
        if reason:
            raise PermissionError(f"`{folder}` {reason}")
        yield number
    finally:
        os.close(number)


def read_private(folder: int, name: str, most: int) -> bytes | None:
    """The bytes of a file in a private folder; nothing if there is no such file.

    **Raises:**

    - `OSError`: if it cannot be read, is no plain file, belongs to another user, is writable by others, or has more
        than `most` bytes; its text says which.
    """
    try:
        # What is no plain file is not to be waited for.
        number = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(number)
        reason = _not_ours(found) if stat.S_ISREG(found.st_mode) else "is no plain file"
        if not reason and found.st_size > most:
            reason = f"has more than {most} bytes"
        if reason:
            raise PermissionError(f"`{name}` {reason}")
        with open(number, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(number)


def write_private(folder: int, name: str, content: bytes) -> None:
    """Write a file in a private folder, at once or not at all; whatever has its name is replaced."""
    scratch = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    number = os.open(scratch, flags, 0o600, dir_fd=folder)
    try:
        with open(number, "wb") as file:
            file.write(content)
        try:
            os.replace(scratch, name, src_dir_fd=folder, dst_dir_fd=folder)
        except IsADirectoryError:
            remove_private(folder, name)
            os.replace(scratch, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch, dir_fd=folder)
        raise


def remove_private(folder: int, name: str) -> None:
    """Remove whatever has this name in a private folder, as far as that is possible."""
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def _user() -> str:
    return str(os.geteuid()) if os.name == "posix" else "user"


def _not_ours(found: os.stat_result) -> str:
    if found.st_uid != os.geteuid():
        return f"belongs to the user {found.st_uid}, and this is the user {os.geteuid()}"
    if found.st_mode & _OTHERS:
        return f"can be changed by others: its mode is {stat.S_IMODE(found.st_mode):04o}, wanted is 0700, or go-w"
    return ""
