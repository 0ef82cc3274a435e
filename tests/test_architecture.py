"""The rules of the architecture hold, and each of them is able to fail."""

import itertools as it
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests._architecture import (
    MOST_FILES,
    RULES,
    Package,
    abstract_or_final,
    layers,
    no_overrides,
    one_per_file,
    reexports,
)


ROOT = Path(__file__).parent.parent
METAOPT = Package("metaopt", ROOT / "metaopt")
HEAVY = ["tensorflow_probability", "matplotlib", "sklearn", "mnist1d", "pyscf", "orbax", "optimistix"]
_numbers = it.count()

# Sets the number of devices after each import, which jax refuses once a device is in use.
IMPORT_EVERYTHING = """
import importlib, sys
import jax
for count, name in enumerate(sys.argv[1:]):
    importlib.import_module(name)
    try:
        jax.config.update("jax_num_cpu_devices", 2 + count % 2)
    except RuntimeError:
        sys.exit(f"importing `{name}` makes an array")
"""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_metaopt_keeps(rule: Callable[[Package], Iterator[str]]) -> None:
    assert list(rule(METAOPT)) == []


def test_all_modules_are_seen() -> None:
    assert "metaopt" in METAOPT.files
    assert any(cls.__name__ == "AbstractAlgorithm" for cls in METAOPT.classes)


def _python(code: str, *arguments: str, paths: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (*paths, ROOT, ROOT / "backends")))
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_no_array_is_made_at_import() -> None:
    done = _python(IMPORT_EVERYTHING, *METAOPT.files)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("line", ["X = jnp.zeros(3)", "def f(x=jnp.ones(())): return x"])
def test_an_array_at_import_is_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "planted_array.py").write_text(f"import jax.numpy as jnp\n\n\n{line}\n")
    done = _python(IMPORT_EVERYTHING, "planted_array", paths=(tmp_path,))
    assert "importing `planted_array` makes an array" in done.stderr


def test_import_is_light() -> None:
    code = "import sys, metaopt; print(*(name for name in sys.argv[1:] if name in sys.modules))"
    done = _python(code, *HEAVY)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == []


def _plant(monkeypatch: pytest.MonkeyPatch, folder: Path, files: dict[str, str]) -> Package:
    """Write a small package that keeps all rules, except for what `files` add."""
    name = f"planted_{os.getpid()}_{next(_numbers)}"
    good = {
        "__init__.py": "from ._core import AbstractAlgorithm as AbstractAlgorithm",
        "_core/__init__.py": "from ._algorithm import AbstractAlgorithm as AbstractAlgorithm",
        "_core/_algorithm.py": """
            import abc
            import equinox as eqx

            class AbstractAlgorithm(eqx.Module):
                size: eqx.AbstractVar[int]

                @abc.abstractmethod
                def step(self, x): ...

                def twice(self, x):
                    return self.step(self.step(x))
        """,
        "l2o/__init__.py": "from ._good import Good as Good",
        "l2o/_good.py": """
            from .._core._algorithm import AbstractAlgorithm

            class Good(AbstractAlgorithm):
                size: int

                def __check_init__(self):
                    if self.size < 0:
                        raise ValueError("`size` must be positive.")

                def step(self, x):
                    return x
        """,
        "tasks/__init__.py": "",
    }
    for path, text in (good | files).items():
        file = folder / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).replace("PACKAGE", name))
    monkeypatch.syspath_prepend(folder)
    return Package(name, folder / name)


def _violations(package: Package) -> list[str]:
    return [f"{rule.__name__}: {text}" for rule in RULES for text in rule(package)]


def test_a_good_package_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = _plant(monkeypatch, tmp_path, {})
    assert len(package.files) == 6
    assert _violations(package) == []


LAYERS_BROKEN = {
    "sideways": ("tasks/_t.py", "from PACKAGE.l2o import Good", "(layer 2) imports `PACKAGE.l2o` (layer 2)"),
    "upward": ("_core/_up.py", "from .. import tasks", "(layer 0) imports `PACKAGE.tasks` (layer 2)"),
    "relative": ("tasks/_t.py", "from ..l2o._good import Good", "imports `PACKAGE.l2o._good`"),
    "late": ("_core/_up.py", "def f():\n    import PACKAGE.l2o._good", "imports `PACKAGE.l2o._good`"),
    "root": ("tasks/_t.py", "from PACKAGE import AbstractAlgorithm", "imports `PACKAGE` (layer 5)"),
    "command line": ("registry.py", "import PACKAGE.__main__", "imports `PACKAGE.__main__`"),
    "backend": ("tasks/_t.py", "import PACKAGE_backends.native", "imports `PACKAGE_backends.native` by name"),
    "unknown room": ("magic/__init__.py", "", "the room `magic` has no layer"),
}


@pytest.mark.parametrize("case", LAYERS_BROKEN.values(), ids=LAYERS_BROKEN.keys())
def test_broken_layers_are_found(case: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, text, wanted = case
    package = _plant(monkeypatch, tmp_path, {path: text})
    found = list(layers(package))
    assert len(found) == 1
    assert wanted.replace("PACKAGE", package.name) in found[0]


def test_a_folder_without_init_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "from .._core import AbstractAlgorithm\n\n\nclass AbstractRate(AbstractAlgorithm): ...\n"
    package = _plant(monkeypatch, tmp_path, {"schedules/_rate.py": text})
    (found,) = _violations(package)
    assert f"AbstractRate is not re-exported by `{package.name}.schedules`" in found


def test_downward_imports_are_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {
        "registry.py": "import PACKAGE.l2o\nimport PACKAGE\nfrom .tasks import __doc__",
        "bench/peers/run.py": "raise SystemExit('runs in an environment of its own')",
    }
    assert _violations(_plant(monkeypatch, tmp_path, files)) == []


TEXT_BROKEN = {
    "private": ("tasks/_t.py", "import jax._src.core", "private_imports", "imports `jax._src.core`"),
    "internal": ("tasks/_t.py", "import equinox.internal as eqxi", "private_imports", "`equinox.internal`"),
    "super": ("tasks/_t.py", "class A:\n    def f(self): super().f()", "shortcuts", "line 2: calls `super`"),
    "hasattr": ("tasks/_t.py", "x = hasattr(1, 'real')", "shortcuts", "line 1: calls `hasattr`"),
    "code": ("tasks/__init__.py", "x = 1", "bare_inits", "line 1: `x = 1` is not a re-export"),
    "alias": ("tasks/__init__.py", "from json import loads", "bare_inits", "write `loads as loads`"),
    "silent folder": ("tasks/few/__init__.py", "", "small_folders", "say in the docstring"),
    "public file": ("tasks/things.py", "", "private_files", "name the file `_things.py`"),
}


@pytest.mark.parametrize("case", TEXT_BROKEN.values(), ids=TEXT_BROKEN.keys())
def test_broken_text_is_found(case: tuple[str, str, str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, text, rule, wanted = case
    found = _violations(_plant(monkeypatch, tmp_path, {path: text}))
    assert len(found) == 1
    assert found[0].startswith(f"{rule}: ") and wanted in found[0]


def test_folders_of_tests_are_small_too() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(each) for each in folders if len(list(each.glob("test_*.py"))) > MOST_FILES] == []


def test_a_full_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = _plant(monkeypatch, tmp_path, {f"tasks/_t{i}.py": "" for i in range(21)})
    assert _violations(package) == [
        f"small_folders: {package.name}.tasks holds 21 files; make folders inside, with at most 20 each"
    ]


CLASSES_BROKEN = {
    "fields": (
        abstract_or_final,
        """
        class AbstractThing(AbstractAlgorithm):
            rate: float
        """,
        "AbstractThing is abstract and defines `rate`",
    ),
    "constructor": (
        abstract_or_final,
        """
        class AbstractThing(AbstractAlgorithm):
            def __init__(self): ...
        """,
        "AbstractThing is abstract and defines `__init__`",
    ),
    "hidden abstract": (
        abstract_or_final,
        """
        class Thing(AbstractAlgorithm):
            def step(self, x): return x
        """,
        "Thing is abstract, but its name",
    ),
    "not abstract": (
        abstract_or_final,
        """
        class AbstractThing(eqx.Module):
            def run(self): ...
        """,
        "AbstractThing is called abstract, but nothing about it is",
    ),
    "subclass": (
        abstract_or_final,
        """
        class Better(Good): ...
        """,
        "Better is a subclass of the final class",
    ),
    "override": (
        no_overrides,
        """
        class Thing(AbstractAlgorithm):
            size: int
            def step(self, x): return x
            def twice(self, x): return x
        """,
        "Thing overrides the concrete `PACKAGE._core._algorithm.AbstractAlgorithm.twice`",
    ),
    "override far below": (
        no_overrides,
        """
        class AbstractMiddle(AbstractAlgorithm): ...
        class Thing(AbstractMiddle):
            size: int
            def step(self, x): return x
            @property
            def twice(self): return lambda x: x
        """,
        "Thing overrides the concrete `PACKAGE._core._algorithm.AbstractAlgorithm.twice`",
    ),
    "two in a file": (
        one_per_file,
        """
        class One(AbstractAlgorithm):
            size: int
            def step(self, x): return x
        class Two(AbstractAlgorithm):
            size: int
            def step(self, x): return x
        """,
        "holds 2 subclasses of `AbstractAlgorithm`: One, Two",
    ),
    "not re-exported": (
        reexports,
        """
        class AbstractMiddle(AbstractAlgorithm): ...
        """,
        "AbstractMiddle is not re-exported by `PACKAGE.l2o`",
    ),
}


@pytest.mark.parametrize("case", CLASSES_BROKEN.values(), ids=CLASSES_BROKEN.keys())
def test_broken_classes_are_found(
    case: tuple[Callable[[Package], Iterator[str]], str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rule, text, wanted = case
    head = "import equinox as eqx\nfrom .._core import AbstractAlgorithm\nfrom ._good import Good\n"
    package = _plant(monkeypatch, tmp_path, {"l2o/_thing.py": head + textwrap.dedent(text)})
    found = list(rule(package))
    assert len(found) == 1
    assert wanted.replace("PACKAGE", package.name) in found[0]
