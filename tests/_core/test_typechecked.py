"""The switch with which users check the shapes of their own code."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import metaopt


ROOT = Path(__file__).parents[2]
SAMPLE = """
    import equinox as eqx
    import jax.numpy as jnp
    from jaxtyping import Array, Float
    import metaopt


    class Fit(metaopt.AbstractLossTask):
        points: Float[Array, "n d"]

        def init(self, *, key):
            return jnp.zeros(2)

        def loss(self, params: Float[Array, " d"], *, key) -> Float[Array, ""]:
            return jnp.sum((self.points - params[None, :]) ** 2)

        def measure(self, params, *, key):
            return self.loss(params, key=key)


    def solve(points):
        import optax
        sgd = metaopt.from_optax(optax.sgd, learning_rate=0.1)
        return metaopt.minimize(Fit(points), sgd, steps=3).params


    def mean(x: Float[Array, "n d"]) -> Float[Array, " d"]:
        return x.mean(axis=1)
"""
# A wrong shape in a field, in a result, and a right one.
USES = {
    "field": "sample_module.solve(jnp.ones((5, 1, 2)))",
    "result": "sample_module.mean(jnp.ones((3, 2)))",
    "good": "sample_module.solve(jnp.ones((5, 2)))",
}


def _run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    (folder / "sample_module.py").write_text(textwrap.dedent(SAMPLE))
    path = os.pathsep.join(map(str, (folder, ROOT)))
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _try_all(load: str) -> str:
    """A program that tries every use and prints the names of those that fail a check."""
    lines = ["import jax.numpy as jnp, metaopt", load]
    for name, use in USES.items():
        lines += ["try:", f"    {use}", "except TypeError as error:", "    assert 'Type-check' in str(error), error"]
        lines += [f"    print({name!r})"]
    return "\n".join(lines)


@pytest.mark.slow
def test_without_the_switch_wrong_shapes_pass_silently(tmp_path: Path) -> None:
    done = _run(tmp_path, _try_all("import sample_module"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == []


def test_with_the_switch_wrong_shapes_are_errors(tmp_path: Path) -> None:
    done = _run(tmp_path, _try_all("with metaopt.typechecked('sample_module'): import sample_module"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["field", "result"]


@pytest.mark.slow
def test_the_switch_is_off_again_afterwards(tmp_path: Path) -> None:
    done = _run(tmp_path, _try_all("with metaopt.typechecked('sample_module'): pass\nimport sample_module"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == []


def test_a_module_must_be_named() -> None:
    with pytest.raises(ValueError, match="name of at least one module"):
        metaopt.typechecked()
