"""Development tasks: `nox -s NAME` does on a laptop what continuous integration does."""

import os
from pathlib import Path

import nox


nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

# Compiled programs survive in the user's cache folder, so that a second run is fast. The tests do so by themselves.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metaopt" / "xla"
COMPILED = {"JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(CACHE)}


@nox.session
def tests(session: nox.Session) -> None:
    """Run the fast tests; arguments after `--` go to pytest."""
    session.install("-e", ".[dev,all]")
    session.run("pytest", "-n", "2", "-m", "not slow and not bench", *session.posargs)


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
def demo(session: nox.Session) -> None:
    """Meta-train a small learned optimizer on handwritten digits and compare it with tuned ones."""
    session.install("-e", ".[all]")
    session.run("python", "-m", "metaopt", "run", "quickstart", *session.posargs, env=COMPILED)
