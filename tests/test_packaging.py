"""The distribution: one version, the right contents, settings that agree with each other."""

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _installed() -> importlib.metadata.Distribution:
    """The installed distribution; a clean checkout that was never installed has none."""
    try:
        return importlib.metadata.distribution("metaopt")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("metaopt is not installed here: run `pip install -e .`")


def test_versions_agree() -> None:
    assert _installed().version == PROJECT["version"]


def test_changelog_has_an_entry_for_the_version() -> None:
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_all_holds_every_extra_that_users_need() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    names = everything.removeprefix("metaopt[").removesuffix("]").split(",")
    assert set(names) == set(extras) - {"all", "bench", "docs", "dev"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel made from it."""
    source, dist = tmp_path_factory.mktemp("source") / "metaopt", tmp_path_factory.mktemp("dist")
    skipped = shutil.ignore_patterns(".git", ".nox", ".venv", "venv", "__pycache__", "site", ".*_cache")
    shutil.copytree(ROOT, source, ignore=skipped)
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(dist), str(source)], check=True, timeout=300)
    return dist


@pytest.mark.slow
def test_wheel_holds_the_packages_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"metaopt/__init__.py", "metaopt/py.typed"} <= set(names)
    info = f"metaopt-{PROJECT['version']}.dist-info"
    assert {name.split("/")[0] for name in names} <= {"metaopt", "metaopt_backends", info}
    assert {f"{info}/licenses/LICENSE", "metaopt_backends/native/kernel.cc"} <= set(names)
    files = (path.relative_to(ROOT) for path in (ROOT / "metaopt").rglob("*") if path.is_file())
    assert {file.as_posix() for file in files if "__pycache__" not in file.parts} <= set(names)


@pytest.mark.slow
def test_source_distribution_can_be_tested(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "noxfile.py", "README.md", "tests/conftest.py", "metaopt/py.typed"} <= names
    assert {"tests/runs/specs.py", "tests/third_party/pyproject.toml"} <= names
