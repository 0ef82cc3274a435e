import json
import shutil
import subprocess

import pytest

from metaopt.bench import BENCHMARKS, Benchmark, Claim, Report
from metaopt.bench.base import _commit


REPORT = Report(
    [0, 1],
    [{"library": "ours", "inner steps/s": 12345.678}, {"library": "theirs", "compile s": 2}],
    [Claim("ratio", 2.34567, "median of 5"), Claim("bias", 0.0)],
    ["Two notes.", "The second."],
)


def test_a_report_as_text():
    text = REPORT.table()
    rows, claims, *notes = text.split("\n\n")
    assert rows.splitlines()[0].split() == ["library", "inner", "steps/s", "compile", "s"]
    assert "12346" in rows and len(rows.splitlines()) == 4
    assert claims.splitlines() == ["ratio  2.346  median of 5", "bias   0"]
    assert notes == ["Two notes.", "The second."]


def test_a_report_without_rows():
    assert Report([], [], [Claim("ratio", 1.5)]).table() == "ratio  1.5"


def test_a_report_as_data():
    data = json.loads(json.dumps(REPORT.to_json("name", {"cpu": "some"})))
    assert data["bench"] == "name" and data["machine"] == {"cpu": "some"} and data["seeds"] == [0, 1]
    assert data["claims"][0] == {"id": "ratio", "value": 2.34567, "note": "median of 5"}
    assert data["notes"] == ["Two notes.", "The second."]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_loaded(name):
    bench = BENCHMARKS[name]
    assert callable(bench.load())
    assert bench.summary and 0 < bench.minutes <= 15


def test_loading_imports_late():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        Benchmark("summary", "no_such_module:run", 1).load()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with the package in it, to which `_commit` is made to belong."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")

    def git(*arguments):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def package(place):
        file = tmp_path / place / "base.py"
        file.parent.mkdir(parents=True)
        file.write_text("")
        monkeypatch.setattr("metaopt.bench.base.__file__", str(file))
        return file

    git("init")
    return git, package


def test_the_commit_of_a_source_tree(repository):
    git, package = repository
    file = package("metaopt/bench")
    git("add", ".")
    git("commit", "-m", "first")
    commit = _commit()
    assert commit is not None and int(commit, 16) >= 0
    file.write_text("changed")
    assert _commit() == f"{commit}-dirty"


def test_the_commit_of_a_repository_that_is_not_ours_is_not_reported(repository):
    git, package = repository
    package(".venv/site-packages/metaopt/bench")
    git("add", ".")
    git("commit", "-m", "an environment in somebody's repository")
    assert _commit() is None


def test_without_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr("metaopt.bench.base.__file__", str(tmp_path / "metaopt" / "bench" / "base.py"))
    assert _commit() is None
