"""Compile C++ once per machine, and keep what came out."""

import contextlib
import ctypes
import errno
import functools as ft
import hashlib
import importlib.metadata
import logging
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

from metaopt._core.files._cache import (
    cache_folder,
    private_folder,
    read_private,
    remove_private,
    temporary_folder,
    write_private,
)


LOGGER = logging.getLogger("metaopt")
_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
# Seconds after which a compiler is taken to hang; the largest kernels take some ten on a busy machine.
_PATIENCE, _VERSION_PATIENCE = 300.0, 20.0
LARGEST, LARGEST_NOTE = 2**26, 2**12
# A file of a process that was killed is removed when it is this old, in seconds.
_ABANDONED = 3600.0
# What a compiler says, in the language that it is asked to speak, where another folder may have the room.
_NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS))


class CompileError(RuntimeError):
    """Raised when a kernel cannot be compiled or loaded."""


@ft.cache
def compiler() -> tuple[str, str] | None:
    """The C++ compiler and its version, if there is one: that of `CXX`, or the first of `c++`, `g++`, `clang++`."""
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        path = shutil.which(name)
        if path is None:
            continue
        try:
            status, shown, _ = _run([path, "--version"], os.curdir, _VERSION_PATIENCE)
        except (OSError, subprocess.TimeoutExpired):  # not a program, or not one that answers
            continue
        if status == 0:
            return os.path.abspath(path), shown.partition("\n")[0]
    return None


@ft.cache
def instruction_set() -> str:
    """What distinguishes processors: code for one need not run on another."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.machine()} {flags}"


def key_of(source: str) -> str:
    """What a compiled kernel is kept under: source, compiler, instruction set and version of jaxlib."""
    parts = [source, *(compiler() or ()), *_FLAGS, instruction_set(), importlib.metadata.version("jaxlib")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


class Built(NamedTuple):
    """A loaded kernel: what it is kept under, the SHA-256 of its library, and the library."""

    key: str
    digest: str
    library: ctypes.CDLL


def build(source: str, symbols: Sequence[str] = ()) -> Built:
    """Compile and load a kernel, or load what was compiled before.

    A library is loaded from a folder only if the folder and the file belong to this user and cannot be changed by
    others, and if its SHA-256 is the one that was stored beside it. Any other is compiled anew. What is loaded is a
    copy of the bytes that were looked at, so that it does not matter what becomes of the file. Kernels are kept in the
    user's cache, or in a folder of this user among the temporary files; where neither can be had, they are compiled
    for this process alone.

    **Arguments:**

    - `source`: in C++.
    - `symbols`: functions that the library must have.

    **Raises:**

    - `CompileError`: if there is no compiler, or it fails, takes too long, or makes what cannot be loaded.
    """
    if os.name != "posix":
        raise CompileError("native kernels are for Linux and macOS")
    found = compiler()
    if found is None:
        raise CompileError("there is no C++ compiler (`c++`, `g++`, `clang++`, or the one that `CXX` names)")
    key = key_of(source)
    with contextlib.ExitStack() as stack:
        folders = _folders(stack)
        for folder in folders.values():
            content = _kept(folder, key)
            if content is not None:
                try:
                    return Built(key, digest_of(content), _load(content, symbols, folders))
                except OSError as error:
                    _discard(folder, key, str(error))
        content = _compile(found[0], source, folders)
        _keep(folders, key, content)
        try:
            return Built(key, digest_of(content), _load(content, symbols, folders))
        except OSError as error:
            raise CompileError(f"what `{found[0]}` made cannot be loaded: {why(error)}") from error


def verdict(built: Built, test: str) -> str | None:
    """What the self-test of a kernel has said: `ok`, a reason against it, or nothing that could be believed."""
    with contextlib.ExitStack() as stack:
        for folder in _folders(stack).values():
            with contextlib.suppress(OSError, UnicodeDecodeError):
                note = read_private(folder, f"{test}.verdict", LARGEST_NOTE)
                seal, _, text = (note or b"").decode().partition("\n")
                if text and seal == _seal(built, text):
                    return text
    return None


def record(built: Built, test: str, text: str) -> None:
    """Keep what the self-test of a kernel has said, for this library and no other."""
    with contextlib.ExitStack() as stack:
        for folder in _folders(stack).values():
            with contextlib.suppress(OSError):  # where nothing can be kept, it is found anew next time
                return write_private(folder, f"{test}.verdict", f"{_seal(built, text)}\n{text}".encode())


def _seal(built: Built, text: str) -> str:
    return digest_of(f"{built.digest}\0{text}".encode())


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# Where kernels are kept.


def _folders(stack: contextlib.ExitStack) -> dict[pathlib.Path, int]:
    """The folders that kernels may be loaded from, opened, in the order in which they are asked."""
    opened = {}
    for folder in (cache_folder("native"), temporary_folder("native")):
        if folder not in opened:
            try:
                opened[folder] = stack.enter_context(private_folder(folder))
            except OSError as error:
                _say_once(f"native kernels are neither loaded from `{folder}` nor kept there: {why(error)}")
        if os.access(folder, os.W_OK) and folder in opened:
            break  # the next one is for where this cannot be used
    return opened


_said: set[str] = set()


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        LOGGER.warning("metaopt: %s.", text)


def why(error: OSError) -> str:
    return (
        f"`{error.filename}`: {error.strerror}" if error.filename and error.strerror else error.strerror or str(error)
    )


def _kept(folder: int, key: str) -> bytes | None:
    """The library of this key, if it is what was stored."""
    try:
        content = read_private(folder, f"{key}.so", LARGEST)
        note = read_private(folder, f"{key}.sha256", LARGEST_NOTE)
    except OSError as error:
        return _discard(folder, key, why(error))
    if content is None:
        return None
    if note is None:  # from before there were any, or of a process that was killed between the two
        LOGGER.info("metaopt: the kernel %s has no `.sha256` and is compiled again.", key)
        return None
    if note.split(b"\n")[0] != digest_of(content).encode():
        return _discard(folder, key, "it is not what its `.sha256` says")
    return content


def _discard(folder: int, key: str, reason: str) -> None:
    LOGGER.warning("metaopt: the kernel %s is not taken from the cache, but compiled again: %s.", key, reason)
    for ending in ("so", "sha256"):
        remove_private(folder, f"{key}.{ending}")


def _keep(folders: dict[pathlib.Path, int], key: str, content: bytes) -> None:
    """Store a library and its SHA-256 in the first folder that takes them.

    Of two processes that do so at once, one may leave its library with the digest of the other: that is compiled again.
    """
    found = compiler()
    version = found[1] if found else "unknown"
    note = f"{digest_of(content)}\njaxlib {importlib.metadata.version('jaxlib')}\n{version}\n".encode()[:LARGEST_NOTE]
    reasons = []
    for path, folder in folders.items():
        try:
            write_private(folder, f"{key}.so", content)
            return write_private(folder, f"{key}.sha256", note)
        except OSError as error:
            reasons.append(f"`{path}`: {error.strerror or error}")
    _say_once(f"a native kernel cannot be kept, and is compiled for this process alone ({'; '.join(reasons)})")


@contextlib.contextmanager
def _scratch(parent: pathlib.Path | None) -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir=parent, prefix=".scratch-", ignore_cleanup_errors=True) as made:
        yield made


def _places(folders: dict[pathlib.Path, int]) -> list[pathlib.Path | None]:
    """Where scratch folders can be made: among the kernels, or among other temporary files."""
    return [*folders, None]


def _tidy(folder: pathlib.Path) -> None:
    """Remove what processes that were killed have left among the kernels."""
    left = [
        path for pattern in (".scratch-*", ".*.so.*", ".*.sha256.*", ".*.verdict.*") for path in folder.glob(pattern)
    ]
    for path in left:
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > _ABANDONED:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


# Loading.


def _load(content: bytes, symbols: Sequence[str], folders: dict[pathlib.Path, int]) -> ctypes.CDLL:
    """Load a library from its bytes.

    **Raises:**

    - `OSError`: if it is none, or a symbol is missing.
    """
    library = _load_from_memory(content) or _load_from_disk(content, folders)
    for symbol in symbols:
        try:
            getattr(library, symbol)
        except AttributeError:
            raise OSError(f"it has no function `{symbol}`") from None
    return library


def _load_from_memory(content: bytes) -> ctypes.CDLL | None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # without /proc, or where the system runs nothing from memory
            number = os.memfd_create("metaopt-kernel", os.MFD_CLOEXEC)
            try:
                with open(number, "wb", closefd=False) as file:
                    file.write(content)
                # The number stays in use: the loader would take another file of the same path for this one.
                return ctypes.CDLL(f"/proc/self/fd/{number}")
            except OSError:
                os.close(number)
                raise
    return None


def _load_from_disk(content: bytes, folders: dict[pathlib.Path, int]) -> ctypes.CDLL:
    reasons = []
    for place in _places(folders):
        try:
            with _scratch(place) as scratch:
                copy = pathlib.Path(scratch, "kernel.so")
                copy.write_bytes(content)
                return ctypes.CDLL(str(copy))
        except OSError as error:
            reasons.append(why(error))
    raise OSError("; ".join(dict.fromkeys(reasons)))


# Compiling.


def _compile(path: str, source: str, folders: dict[pathlib.Path, int]) -> bytes:
    """The library that a compiler makes, in the first place that has room for it."""
    reasons = []
    for folder in folders:
        _tidy(folder)
    for place in _places(folders):
        try:
            with _scratch(place) as scratch:
                return _compile_in(scratch, path, source)
        except OSError as error:
            reasons.append(why(error))
        except CompileError as error:
            if not any(sign in str(error) for sign in _NO_ROOM):
                raise
            reasons.append(str(error))
    raise CompileError(f"there is no place to compile in: {'; '.join(dict.fromkeys(reasons))}")


def _compile_in(scratch: str, path: str, source: str) -> bytes:
    pathlib.Path(scratch, "kernel.cc").write_text(source, encoding="utf-8")
    vectors = ["-lmvec"] if platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc" else []
    command = [path, *_FLAGS, "-march=native", f"-I{jax.ffi.include_dir()}", "kernel.cc", "-o", "kernel.so"]
    LOGGER.info("metaopt: compiling a kernel for this processor in %s", scratch)
    try:
        status, _, said = _run([*command, *vectors, "-lm"], scratch, _PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"`{path}` was stopped after {error.timeout:g} seconds") from error
    if status:
        raise CompileError(f"`{path}` failed with status {status}: {said.strip()[-800:]}")
    try:
        return pathlib.Path(scratch, "kernel.so").read_bytes()
    except FileNotFoundError as error:
        raise CompileError(f"`{path}` ended without an error, but has made no library") from error


def _run(command: list[str], folder: str, patience: float) -> tuple[int, str, str]:
    """Run a compiler, and end it with all that it has started if it takes too long; its status, and what it said.

    **Raises:**

    - `OSError`: if it does not start.
    - `subprocess.TimeoutExpired`: if it takes too long.
    """
    # It speaks English, keeps its own temporary files where its result goes, and asks for nothing.
    variables = {**os.environ, "LC_ALL": "C", **({} if folder == os.curdir else {"TMPDIR": folder})}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        umask=0o077,
    ) as process:
        try:
            said, complaint = process.communicate(timeout=patience)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, said, complaint
