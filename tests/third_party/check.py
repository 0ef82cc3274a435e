"""Checks of a backend that another distribution offers, where it is installed: run by `nox -s plugins`."""

import importlib
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

import metaopt
from metaopt.backend import AbstractBackend, automatic, find, installed, unusable
from metaopt.spec import SpecError


def it_is_installed_and_not_a_checkout() -> None:
    assert Path(sys.prefix) in Path(metaopt.__file__ or "").parents
    assert Path(sys.prefix) in Path(sys.modules[find("native").__module__].__file__ or "").parents


def it_is_discovered() -> None:
    assert installed()["sample"] == "sample_backend:Sample"
    assert find("sample").__name__ == "Sample" and unusable("sample") is None


def it_can_be_named_and_is_used() -> None:
    calls = importlib.import_module("sample_backend").CALLS
    params = {"w": jnp.ones((3, 4)), "b": jnp.zeros(4)}
    results = {}
    for rule, kernel in (("adafac_mlp", "network_update"), ("lstm", "elementwise_update")):
        for backend in ("sample", "xla"):
            spec = {"algorithm": {"name": rule, "backend": backend}}
            algorithm = metaopt.build(spec, metaopt.Learner).algorithm
            calls.clear()
            step = eqx.filter_jit(lambda a, state: a.step(state, params, params))
            results[backend] = step(algorithm, algorithm.init(params))[1]
            assert calls == ([kernel] if backend == "sample" else [])
        assert eqx.tree_equal(results["sample"], results["xla"])


def it_is_never_chosen() -> None:
    assert jax.default_backend() != "cpu" or type(automatic()).__name__ in ("Native", "XLA")


def a_broken_one_breaks_nothing() -> None:
    assert "broken" in installed() and "ModuleNotFoundError" in (unusable("broken") or "")
    try:
        metaopt.build("broken", AbstractBackend)
    except SpecError as error:
        assert "`broken` cannot be imported. ModuleNotFoundError" in str(error)
    else:
        raise AssertionError("it was built")


def the_command_line_lists_all() -> None:
    command = [sys.executable, "-P", "-m", "metaopt", "list", "backends"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = {line.split()[0]: line for line in done.stdout.splitlines()[1:] if line}
    assert set(lines) == {"xla", *installed()} and done.stderr == ""
    assert lines["sample"].split(maxsplit=1)[1] == "Let XLA do the work, and note what was asked for. [usable]"
    assert "cannot be imported. ModuleNotFoundError" in lines["broken"]
    assert sum("used here if none is named" in line for line in lines.values()) == 1


CHECKS = [
    it_is_installed_and_not_a_checkout,
    it_is_discovered,
    it_can_be_named_and_is_used,
    it_is_never_chosen,
    a_broken_one_breaks_nothing,
    the_command_line_lists_all,
]

if __name__ == "__main__":
    for check in CHECKS:
        check()
        print(f"{check.__name__.replace('_', ' ')}: ok")
