"""Where a number was measured."""

import os
import pathlib
import platform
import subprocess
from importlib import metadata
from typing import Any

import jax


def machine() -> dict[str, Any]:
    """Describe the machine and the software that numbers were made with.

    **Returns:**

    JSON data: `cpu`, `cores` (that this process may use), `system`, `python`, the versions of `metaopt`, `jax`,
    `jaxlib`, `equinox` and `optax`, and the `devices` that jax sees by kind. No names of hosts or users.
    """
    devices: dict[str, int] = {}
    for device in jax.devices():
        devices[device.device_kind] = devices.get(device.device_kind, 0) + 1
    packages = {name: _version(name) for name in ("metaopt", "jax", "jaxlib", "equinox", "optax")}
    return {
        "cpu": processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **packages,
        "backend": jax.default_backend(),
        "devices": devices,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def cores() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def processor() -> str:
    """What the processor calls itself."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return platform.processor() or platform.machine()
