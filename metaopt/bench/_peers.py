"""Environments of their own for the libraries that benchmarks compare with.

A peer often wants other versions of our dependencies, or does not install cleanly at
all. So it never enters the user's environment: it gets a virtual environment in the
user's cache folder, built on first use and kept, and runs there as a subprocess.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._core.files._cache import cache_folder, check_private


SCRIPTS = Path(__file__).parent / "peers"

_MARKER = "complete.json"
_BUILD_TIMEOUT = 1800.0
_SHOWN_LINES = 5


class PeerUnavailable(RuntimeError):
    """The environment of a peer could not be built; the message says why."""


class PeerFailed(RuntimeError):
    """A peer script crashed, ran out of time or printed no result."""


def environment(name: str, requirements: Sequence[str], *, no_deps: Sequence[str] = ()) -> Path:
    r"""The Python interpreter of a peer's virtual environment, built if need be.

    The environment lies in `peers/` in `METAOPT_CACHE`, or else in `metaopt/` in the
    user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`), under a name that holds a
    digest of the requirements and of the Python version: a changed list makes a new environment. A
    marker file is written last, so an interrupted build is started again, and a lock
    makes a second process wait for the first. Nothing is printed but one line on
    standard error when a build starts, for it may take minutes.

    **Arguments:**

    - `name`: a short name, used for the folder and in messages.
    - `requirements`: what `pip` installs together with its dependencies.
    - `no_deps`: what `pip` then installs as it is, without dependencies.

    **Returns:**

    The path of the interpreter.

    **Raises:**

    `PeerUnavailable` if the environment cannot be built, with the reason that `pip` or
    the system gave, and if `peers/` belongs to another user or can be changed by others.
    Nothing half-built is left behind.
    """
    recipe = {
        "requirements": list(requirements),
        "no_deps": list(no_deps),
        "python": platform.python_version(),
        "machine": f"{sys.platform}-{platform.machine()}",
    }
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
    folder = cache_folder("peers") / f"{name}-{digest}"
    python = _python(folder)
    try:
        # What lies there is run.
        check_private(folder.parent)
        if (folder / _MARKER).exists() and python.exists():
            return python
        with _locked(folder.with_name(folder.name + ".lock")):
            if not ((folder / _MARKER).exists() and python.exists()):
                _build(name, folder, requirements, no_deps)
                (folder / _MARKER).write_text(json.dumps(recipe, indent=1))
    except OSError as error:
        raise PeerUnavailable(
            f"the environment of `{name}` could not be built in `{folder}`: {error}. "
            "Set `METAOPT_CACHE` to a folder of yours that can be written, but not by others."
        ) from error
    return python


def run(
    python: Path,
    script: str | Path,
    *args: object,
    timeout: float | int,
    variables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    r"""Run a peer script and return the JSON object on its last line of output.

    The interpreter runs isolated (`-I`): neither `PYTHONPATH` nor the script's own
    folder can lead it to our modules, and so a script is self-contained.

    **Arguments:**

    - `python`: the interpreter, as returned by `environment`.
    - `script`: the script's path; a relative one is looked up in `metaopt/bench/peers`.
    - `args`: command-line arguments, turned into strings.
    - `timeout`: the seconds after which the script is killed.
    - `variables`: environment variables to set on top of the present ones.

    **Returns:**

    What the script printed.

    **Raises:**

    `PeerFailed` if it does not start, exits with an error, exceeds its time, or its
    last line is no JSON object.
    """
    path = SCRIPTS / script
    command = [str(python), "-I", str(path), *map(str, args)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            env=_variables() | dict(variables or {}),
        )
    except subprocess.TimeoutExpired as error:
        raise PeerFailed(f"`{path.name}` took more than {timeout:g} seconds") from error
    except OSError as error:
        raise PeerFailed(f"`{path.name}` could not be started: {error}") from error
    if done.returncode != 0:
        raise PeerFailed(f"`{path.name}` ended with status {done.returncode}: {_tail(done.stderr)}")
    last = _tail(done.stdout, 1)
    try:
        result = json.loads(last)
    except ValueError:
        result = None
    if not isinstance(result, dict):
        raise PeerFailed(f"the last line of `{path.name}` should be a JSON object, got {last!r}")
    return result


# What each peer is installed with, in the version that it was measured in, and what of that without its own
# dependencies: those of opifex cannot be installed together with a current JAX, and DACBench asks for far more than its
# environments import. `jax` is our own version.
_PEERS: dict[str, tuple[list[str], list[str]]] = {
    "opifex": (
        ["jax", "flax>=0.12", "optax>=0.2.6", "optimistix", "orbax-checkpoint", "psutil"],
        ["opifex==0.2.0", "calibrax==0.1.1"],
    ),
    "torchopt": (["torch==2.13.0", "torchopt==0.7.3", "numpy"], []),
    "torchjd": (["torch==2.13.0", "torchjd[full]==0.18.0", "numpy"], []),
    "pymoo": (["pymoo==0.6.1.6"], []),
    "deepxde": (["torch==2.13.0", "deepxde==1.15.0", "numpy", "scipy"], []),
    "jinns": (["jax", "jinns==1.10.2", "scipy"], []),
    "dacbench": (
        [
            *("gymnasium", "numpy", "pandas", "scipy", "scikit-learn", "matplotlib", "seaborn", "configspace", "ioh"),
            *("imageio", "Pyro4", "pyarrow"),
        ],
        ["dacbench==0.5.6"],
    ),
    "gymnax": (["jax", "gymnax==1.0.1"], []),
    "evosax": (["jax", "optax", "evosax==0.3.2"], []),
}


def interpreter(name: str) -> Path:
    r"""The interpreter of a peer, whose environment is built if it is not there.

    **Arguments:**

    - `name`: `"opifex"`, `"torchopt"`, `"torchjd"`, `"pymoo"`, `"deepxde"`, `"jinns"`, `"dacbench"`, `"gymnax"`
        or `"evosax"`.

    **Returns:**

    The path of the interpreter.

    **Raises:**

    `PeerUnavailable` as `environment` does.
    """
    requirements, no_deps = _PEERS[name]
    own = f"jax=={importlib.metadata.version('jax')}"
    return environment(name, [own if each == "jax" else each for each in requirements], no_deps=no_deps)


def _python(folder: Path) -> Path:
    if os.name == "nt":
        return folder / "Scripts" / "python.exe"
    return folder / "bin" / "python"


def _variables() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    # A user's `pip` may be set to install elsewhere; into the environment it must be.
    for redirection in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"):
        kept.pop(redirection, None)
    return kept | {
        "PIP_USER": "0",
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # Peers are compared on the CPU, and no accelerator support is installed for them.
        "JAX_PLATFORMS": "cpu",
    }


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; the system frees it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        with contextlib.suppress(ImportError):  # `fcntl` exists on POSIX only.
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(name: str, folder: Path, requirements: Sequence[str], no_deps: Sequence[str]) -> None:
    print(
        f"Building the environment of `{name}` (once, this may take minutes) ...",
        file=sys.stderr,
        flush=True,
    )
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(_python(folder)), "-m", "pip", "install", "--quiet"]
    commands = [[sys.executable, "-m", "venv", str(folder)]]
    if requirements:
        commands.append([*pip, *requirements])
    if no_deps:
        commands.append([*pip, "--no-deps", *no_deps])
    try:
        for command in commands:
            _install(name, command)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _install(name: str, command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_BUILD_TIMEOUT,
            env=_variables(),
        )
    except subprocess.TimeoutExpired as error:
        raise PeerUnavailable(f"the environment of `{name}` was not built in {_BUILD_TIMEOUT:g} seconds") from error
    if done.returncode != 0:
        errors = [x for x in done.stdout.splitlines() if x.startswith("ERROR:")]
        reason = "\n".join(errors) or _tail(done.stdout)
        raise PeerUnavailable(f"the environment of `{name}` could not be built: {reason}")


def _tail(text: str, lines: int = _SHOWN_LINES) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
