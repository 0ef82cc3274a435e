"""A strict type checker knows all in the first programs of the tour; the first of them is the README's."""

import importlib.util
import inspect
import json
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import metaopt


ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(?:python|py)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _examples() -> list[str]:
    """The first four programs of the tour; the second goes on where the first ends."""
    first, second, third, fourth = BLOCK.findall((ROOT / "docs" / "tour.md").read_text(encoding="utf-8"))[:4]
    return [first, first + second, third, fourth]


REVEALED = """
import optax
from metaopt.l2o import load_published, pretrained
outer = metaopt.from_optax(optax.adam, learning_rate=1e-3)
reveal_type(outer.step(outer.init(model), model, model)[1])
reveal_type(metaopt.with_horizon(outer, 3))
reveal_type(metaopt.load("file"))
reveal_type(metaopt.load("file", model))
reveal_type(load_published("file"))
reveal_type(load_published("file", "velo"))
reveal_type(pretrained().step(pretrained().init(model), model, model)[1])
reveal_type(state)
reveal_type(model)
"""
TYPES = ["MLP", "Optax", "Learner", "MLP", "Celo", "VeLO", "MLP", "CellState", "MLP"]


def _pyright(folder: Path) -> list[dict[str, Any]]:
    paths = [str(ROOT), str(ROOT / "backends")]
    settings = {"typeCheckingMode": "strict", "extraPaths": paths, "stubPath": str(ROOT / "typings")}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=600)
    if not done.stdout.startswith("{"):
        # It fetches a Node of its own at its first use.
        pytest.skip(f"pyright does not run here: {(done.stderr or done.stdout).strip()[-200:]}")
    return json.loads(done.stdout)["generalDiagnostics"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_examples_are_free_of_unknown_types(tmp_path: Path) -> None:
    examples = _examples()
    for index, example in enumerate(examples):
        (tmp_path / f"example_{index}.py").write_text(example)
    (tmp_path / "revealed.py").write_text(examples[0] + REVEALED)
    # A call whose result is unknown, to see that it would be found.
    (tmp_path / "spoiled.py").write_text("import equinox as eqx\nwanted = eqx.filter_value_and_grad(abs)(1.0)\n")
    found = _pyright(tmp_path)
    unknown = [x for x in found if x.get("rule", "").startswith("reportUnknown") and "spoiled" not in x["file"]]
    assert [(Path(x["file"]).name, x["range"]["start"]["line"] + 1, x["message"]) for x in unknown] == []
    assert any("spoiled" in x["file"] and x.get("rule", "").startswith("reportUnknown") for x in found)
    told = [x["message"] for x in found if x["severity"] == "information" and "revealed" in x["file"]]
    assert [re.search(r'is "(\w+)', text)[1] for text in told] == TYPES  # pyright: ignore[reportOptionalSubscript]


def test_the_readme_has_the_first_program_of_the_tour() -> None:
    assert BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")) == _examples()[:1]


def test_what_comes_back_is_of_the_type_that_was_given() -> None:
    # What the test above sees of the whole, without a type checker.
    signature = inspect.signature(metaopt.with_horizon)
    assert isinstance(signature.return_annotation, typing.TypeVar)
    assert signature.return_annotation is signature.parameters["algorithm"].annotation
    for rule in (metaopt.Optax, type(metaopt.build("controller", metaopt.AbstractAlgorithm))):
        signature = inspect.signature(rule.step)
        assert typing.get_args(signature.return_annotation)[1] is signature.parameters["params"].annotation
        assert isinstance(signature.parameters["params"].annotation, typing.TypeVar)
