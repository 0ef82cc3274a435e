"""Development tasks: `nox -s NAME` does on a laptop what continuous integration does."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import nox


nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

# Compiled programs survive in the user's cache folder, so that a second run is fast. The tests do so by themselves.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metaopt" / "xla"
COMPILED = {"JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(CACHE)}

# What `bench faults` finds where nothing is broken, by the claims of its report.
HARMLESS = {
    "recovered_share": lambda share: share == 1,
    "fuzz_undocumented": lambda count: count == 0,
    "fuzz_peak_mib": lambda mebibytes: mebibytes <= 64,
    "kills_identical_share": lambda share: share == 1,
    "leftover_files": lambda count: count == 0,
    "native_cache_survived_share": lambda share: share == 1,
}

FAST = ("pytest", "-n", "2", "-m", "not slow and not bench")


def newest_python() -> str | None:
    """The newest Python that metaopt supports and that runs here: on `PATH`, or kept by pyenv."""
    kept = sorted(Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions").glob("3.*/bin/python"))
    for version in ("3.13", "3.12"):
        paths = [shutil.which(f"python{version}"), *[str(path) for path in kept if path.parts[-3].startswith(version)]]
        for path in filter(None, paths):
            # pyenv has a program of this name even for a version that it does not run.
            if subprocess.run([path, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
                return path
    return None


@nox.session
def tests(session: nox.Session) -> None:
    """Run the fast tests; arguments after `--` go to pytest."""
    session.install("-e", ".[dev,all]")
    session.run(*FAST, *session.posargs)


@nox.session(python=newest_python() or False)
def newest(session: nox.Session) -> None:
    """Run the fast tests with the newest Python found here, and with what pip finds newest for it."""
    if session.python is False:
        session.skip("neither Python 3.13 nor Python 3.12 runs here")
    session.install("--upgrade", "--upgrade-strategy", "eager", "-e", ".[dev,all]")
    session.run(*FAST, *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the fast tests with the lowest version of each dependency that `pyproject.toml` allows."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    bounds = [
        *project["dependencies"],
        *[bound for extra in ("data", "quantum", "physics", "plots", "checkpoint", "dev") for bound in extras[extra]],
    ]
    constraints = Path(session.create_tmp(), "lowest.txt")
    constraints.write_text("\n".join(re.sub(r"(\[.*\])?>=", "==", bound) for bound in bounds))
    session.install("--constraint", str(constraints.resolve()), "-e", ".[dev,all]")
    session.run(*FAST, *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests marked `slow`."""
    session.install("-e", ".[dev,all]")
    session.run("pytest", "-n", "2", "-m", "slow", *session.posargs)


@nox.session
def plugins(session: nox.Session) -> None:
    """Install metaopt and a backend of another distribution, and check that this one is found and used."""
    check = Path("tests", "third_party", "check.py").resolve()
    session.install(".", "./tests/third_party")
    session.chdir(session.create_tmp())
    session.run("python", "-P", str(check), env={"PYTHONPATH": None})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    session.install("-e", ".[dev,docs,all]")
    session.run("pyright", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; every warning is an error."""
    session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Run benchmarks: `nox -s bench -- NAME --json FILE`. Nothing compiled is reused, since compiling is timed too."""
    session.install("-e", ".[bench,all]")
    session.run("python", "-m", "metaopt", "bench", *(session.posargs or ["--list"]))


@nox.session
def fuzz(session: nox.Session) -> None:
    """Do to algorithms, files, runs and caches what can go wrong, and fail if anything is not survived."""
    session.install("-e", ".[bench,all]")
    found = Path("bench-results", "faults.json")
    found.parent.mkdir(exist_ok=True)
    session.run("python", "-m", "metaopt", "bench", "faults", "--json", str(found), *session.posargs)
    values = {claim["id"]: claim["value"] for claim in json.loads(found.read_text())["claims"]}
    broken = [name for name, value in values.items() if not HARMLESS[name](value)]
    if broken:
        session.error(f"{', '.join(broken)}: see {found}")


@nox.session
def rooms(session: nox.Session) -> None:
    """Draw the rooms of the package from its imports."""
    session.run("python", str(Path("docs", "development", "rooms.py")), env={"PYTHONPATH": "."})


@nox.session
def demo(session: nox.Session) -> None:
    """Meta-train a small learned optimizer on handwritten digits and compare it with tuned ones."""
    session.install("-e", ".[all]")
    session.run("python", "-m", "metaopt", "run", "quickstart", *session.posargs, env=COMPILED)


@nox.session
def gallery(session: nox.Session) -> None:
    """Make the figures of the gallery again, or some: `nox -s gallery -- front_two`."""
    session.install("-e", ".[all,docs]")
    names = session.posargs or sorted(path.stem for path in Path("docs", "gallery").glob("[a-z]*.py"))
    for name in names:
        session.run("python", f"docs/gallery/{name}.py", env=COMPILED)
