"""What there is to say of an installation, part by part. Each may fail without the others."""

import importlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from .._core.files._cache import cache_folder, temporary_folder
from ..backend import automatic, find
from ..backend._discovery import usability
from ..evaluate._machine import cores, processor
from ._text import variable


_WATCHED = ("METAOPT_", "JAX_", "XLA_", "CUDA_", "NVIDIA_", "TPU_", "OMP_")
_ALSO = ("CXX", "HOME", "XDG_CACHE_HOME", "TMPDIR", "PYTHONPATH", "LD_PRELOAD", "LD_LIBRARY_PATH")
_INSTRUCTIONS = ("avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")
_NOT_FOR_USERS = ("all", "dev", "docs")
_BRINGS = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*(?:>=\s*([0-9][0-9A-Za-z.]*))?")


def versions() -> dict[str, str]:
    """Of Python, of metaopt and of all that it needs."""
    found = {"python": f"{platform.python_version()} ({platform.python_implementation()})"}
    found["metaopt"] = _version("metaopt", "")
    found["jaxlib"] = _version("jaxlib", "")
    for package, wanted in _needed(None):
        found[package] = _version(package, wanted)
    return found


def machine() -> dict[str, object]:
    """The system and its processor."""
    flags = _flags()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if os.name == "posix" else float("nan")
    return {
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver()) or 'no glibc'}",
        "processor": f"{processor()} ({platform.machine()})",
        "instructions": " ".join(name for name in _INSTRUCTIONS if name in flags) or "not known",
        "cores": f"{cores()} for this process, of {os.cpu_count()}",
        "memory": f"{memory:.0f} GiB",
    }


def devices() -> dict[str, object]:
    """What jax computes on, and how."""
    kinds: dict[str, int] = {}
    for device in jax.devices():
        kinds[device.device_kind] = kinds.get(device.device_kind, 0) + 1
    config: Any = jax.config
    return {
        "platform": jax.default_backend(),
        "devices": ", ".join(f"{count} x {kind}" for kind, count in kinds.items()),
        "processes": jax.process_count(),
        "double precision": "on" if config.jax_enable_x64 else "off (the default; where it is needed, it is asked for)",
        "products of matrices": config.jax_default_matmul_precision or "the default of the platform",
        "compiled programs": config.jax_compilation_cache_dir or "not kept",
    }


def backends() -> dict[str, str]:
    """Which kernels can be used, and why others cannot."""
    return {**usability(), "taken if none is named": str(automatic())}


def extras() -> dict[str, str]:
    """Which optional parts are installed, and how to get the others."""
    found = {}
    for extra in metadata.metadata("metaopt").get_all("Provides-Extra") or []:
        if extra in _NOT_FOR_USERS:
            continue
        needed = [(package, wanted) for package, wanted in _needed(extra) if package != "metaopt"]
        said = {package: _version(package, wanted) for package, wanted in needed}
        missing = [package for package, version in said.items() if version.startswith("NOT")]
        hint = f'; pip install "metaopt[{extra}]"' if missing else ""
        if said:
            found[extra] = ", ".join(f"{package} {version}" for package, version in said.items()) + hint
    return found


def caches() -> dict[str, object]:
    """The folders in which kernels, and what benchmarks have made, are kept."""
    native = importlib.import_module(f"{find('native').__module__.rpartition('.')[0]}._survey")
    own, other = cache_folder("native"), temporary_folder("native")
    found: dict[str, object] = {"native": f"{own}: {native.survey(own)}"}
    if other != own and os.path.lexists(other):
        found["native, without the first"] = f"{other}: {native.survey(other)}"
    for name in ("peers", "l2o-sparse"):
        folder = cache_folder(name)
        found[name] = f"{folder}: {len(os.listdir(folder)) if folder.is_dir() else 'no'} entries"
    temporary = tempfile.gettempdir()
    found["temporary files"] = f"{temporary}, {shutil.disk_usage(temporary).free / 2**30:.1f} GiB free"
    return found


def compiler() -> dict[str, object]:
    """What native kernels are compiled with."""
    native = importlib.import_module(f"{find('native').__module__.rpartition('.')[0]}._compile")
    found, named = native.compiler(), os.environ.get("CXX")
    said: dict[str, object] = {"compiler": f"{found[0]}: {found[1]}" if found else "none (`c++`, `g++`, `clang++`)"}
    if named and not (found and Path(found[0]).name == Path(named).name):
        said["CXX"] = f"`{named}` is passed over, it is no program that answers `--version`"
    return said


def variables() -> dict[str, str]:
    """Environment variables that change what metaopt and jax do."""
    names = sorted(name for name in os.environ if name.startswith(_WATCHED) or name in _ALSO)
    found = {name: variable(name, os.environ[name]) for name in names}
    if "HOME" not in found:
        found["HOME"] = "not set"
    return found


PARTS: dict[str, Callable[[], Mapping[str, object]]] = {
    "versions": versions,
    "machine": machine,
    "devices": devices,
    "backends": backends,
    "compiler": compiler,
    "extras": extras,
    "cache": caches,
    "variables": variables,
}


def _needed(extra: str | None) -> list[tuple[str, str]]:
    """The packages that metaopt asks for, with their lower bounds: always, or for an extra."""
    found = []
    for line in metadata.requires("metaopt") or []:
        what, _, condition = line.partition(";")
        named = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", condition)
        match = _BRINGS.match(what.strip())
        if match and (named.group(1) if named else None) == extra:
            found.append((match[1], match[2] or ""))
    return found


def _version(package: str, wanted: str) -> str:
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        return "NOT INSTALLED"
    return f"{found} TOO OLD, wanted is {wanted}" if _numbers(found) < _numbers(wanted) else found


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.split("+")[0])]


def _flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return set(line[1].split()) if line else set()
