"""Compile C++ once per machine, and keep what came out."""

import contextlib
import ctypes
import functools as ft
import hashlib
import importlib.metadata
import logging
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile

import jax

from metaopt._core._cache import cache_folder


LOGGER = logging.getLogger("metaopt")
_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")


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
            shown = subprocess.run([path, "--version"], capture_output=True, text=True)
        except OSError:  # not a program
            continue
        if shown.returncode == 0:
            return os.path.abspath(path), shown.stdout.partition("\n")[0]
    return None


@ft.cache
def instruction_set() -> str:
    """What distinguishes processors: code for one need not run on another."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.machine()} {flags}"


def key_of(source: str) -> str:
    """What a compiled kernel is kept under: source, compiler, instruction set and version of jaxlib."""
    parts = [source, *(compiler() or ()), *_FLAGS, instruction_set(), importlib.metadata.version("jaxlib")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def build(source: str) -> tuple[str, ctypes.CDLL]:
    """Compile and load a kernel, or load what was compiled before.

    **Returns:**

    The key of the kernel, and the library.

    **Raises:**

    - `CompileError`: if there is no compiler, it fails, or the result cannot be stored or loaded.
    """
    found = compiler()
    if found is None:
        raise CompileError("there is no C++ compiler (`c++`, `g++`, `clang++`, or the one that `CXX` names)")
    key, folder = key_of(source), cache_folder("native")
    library = folder / f"{key}.so"
    try:
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _compile(found[0], source, library)
        return key, ctypes.CDLL(str(library))
    except OSError as error:
        raise CompileError(f"{error.filename or library}: {error.strerror or error}") from error


def _compile(path: str, source: str, library: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        pathlib.Path(scratch, "kernel.cc").write_text(source)
        vectors = ["-lmvec"] if platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc" else []
        command = [path, *_FLAGS, "-march=native", f"-I{jax.ffi.include_dir()}", "kernel.cc", "-o", "kernel.so"]
        LOGGER.info("metaopt: compiling a kernel for this processor into %s", library)
        done = subprocess.run([*command, *vectors, "-lm"], capture_output=True, text=True, cwd=scratch)
        if done.returncode:
            raise CompileError(f"`{path}` failed: {done.stderr.strip()[-800:]}")
        # Complete or not there, also for other processes that compile the same.
        os.replace(pathlib.Path(scratch, "kernel.so"), library)


def verdict(key: str) -> str | None:
    """What the self-test of a kernel has said: `ok`, a reason against it, or nothing yet."""
    file = cache_folder("native") / f"{key}.verdict"
    return file.read_text() if file.exists() else None


def record(key: str, text: str) -> None:
    """Keep what the self-test of a kernel has said."""
    folder = cache_folder("native")
    with contextlib.suppress(OSError):  # where nothing can be kept, it is found anew next time
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(text)
        os.replace(file.name, folder / f"{key}.verdict")
