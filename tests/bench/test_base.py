import ast
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from metaopt import bench
from metaopt.bench import BENCHMARKS, Benchmark, Budget, Claim, Report, Rival
from metaopt.bench.base import _commit, release


OURS, THEIRS = Budget(gradients=70_800, constraints=0.5), Budget(values=25_000)
TERMS: dict[str, Any] = {
    "budget": OURS,
    "rival": Rival("NSGA-II", THEIRS, "0.6"),
    "unequal": "ours has gradients",
    "compile_seconds": 3.25,
    "left_out": "SMS-EMOA",
}
REPORT = Report(
    [0, 1],
    [{"library": "ours", "inner steps/s": 12345.678}, {"library": "theirs", "compile s": 2}],
    [Claim("ratio", 2.34567, "median of 5", **TERMS), Claim("bias", 0.0)],
    ["Two notes.", "The second."],
)


def test_a_report_as_text():
    text = REPORT.table()
    rows, claims, *notes = text.split("\n\n")
    assert rows.splitlines()[0].split() == ["library", "inner", "steps/s", "compile", "s"]
    assert "12346" in rows and len(rows.splitlines()) == 4
    assert claims.splitlines() == [
        "ratio  2.346  median of 5",
        "    budget: 70,800 gradients, 0.5 constraint evaluations",
        "    rival: NSGA-II (0.6)",
        "    its budget: 25,000 values",
        "    unequal: ours has gradients",
        "    compile s: 3.25 (not in the figure)",
        "    left out: SMS-EMOA",
        "bias   0",
        "    rival: none",
    ]
    assert notes == ["Two notes.", "The second."]


def test_rows_of_other_columns_are_another_table():
    rows = [{"a": 1, "b": 2}, {"a": 3}, {"c": 4}]
    first, second, _ = Report([0], rows, [Claim("x", 1.0)]).table().split("\n\n")
    assert first.split()[:2] == ["a", "b"] and second.splitlines()[0].strip() == "c"


def test_a_report_without_rows():
    assert Report([], [], [Claim("ratio", 1.5)]).table() == "ratio  1.5\n    rival: none"
    assert Report([], [], []).table() == ""


def test_a_report_as_data():
    data = json.loads(json.dumps(REPORT.to_json("name", {"cpu": "some"})))
    assert data["bench"] == "name" and data["machine"] == {"cpu": "some"} and data["seeds"] == [0, 1]
    ratio, bias = data["claims"]
    assert {name: ratio[name] for name in ("id", "value", "note")} == {
        "id": "ratio",
        "value": 2.34567,
        "note": "median of 5",
    }
    assert ratio["budget"]["gradients"] == 70_800 and ratio["budget"]["values"] is None
    assert ratio["rival"]["name"] == "NSGA-II" and ratio["rival"]["budget"]["values"] == 25_000
    assert ratio["unequal"] == "ours has gradients" and ratio["left_out"] == "SMS-EMOA"
    assert ratio["compile_seconds"] == 3.25 and not ratio["compile_counted"]
    assert bias["rival"] is None and bias["budget"] is None
    assert data["notes"] == ["Two notes.", "The second."]


def test_a_rival_with_another_budget_is_refused_unless_the_claim_says_why():
    with pytest.raises(ValueError, match=r"`ratio`.*NSGA-II \(0.6\).*70,800 gradients.*apart: values, grad.*unequal"):
        Claim("ratio", 2.0, budget=OURS, rival=TERMS["rival"])
    with pytest.raises(ValueError, match="does not say what our side may spend; give `budget`"):
        Claim("ratio", 2.0, rival=Rival("Adam", THEIRS), unequal="it is")
    with pytest.raises(ValueError, match="unequal, but has no `rival`"):
        Claim("bias", 2.0, unequal="it is")
    assert Claim("ratio", 2.0, budget=OURS, rival=Rival("same", Budget(gradients=70_800, constraints=0.5))).value == 2.0
    # What is not counted on one side alone is no equal budget.
    with pytest.raises(ValueError, match="apart: before"):
        Claim("ratio", 2.0, budget=Budget(gradients=9, before=100), rival=Rival("Adam", Budget(gradients=9)))


def test_a_budget_says_something():
    with pytest.raises(ValueError, match="empty `Budget` was given; say at least one of values, gradients"):
        Budget()
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="`fock_builds` of a `Budget` must be a number of at least 0"):
            Budget(fock_builds=wrong)
    assert str(Budget(work="an update", cpu_seconds=8.25)) == "an update, 8.25 CPU-s"


def test_compile_time_says_whether_it_is_counted():
    terms = Claim("seconds", 7.0, compile_seconds=5.0, compile_counted=True).terms()
    assert terms["compile s"] == "5 (in the figure)" and terms["rival"] == "none"


def test_every_benchmark_says_of_each_claim_what_it_is_held_against():
    """Each `Claim(...)` names its `rival`, which may be `None`, or takes it with the rest from a mapping."""
    silent = []
    for file in sorted(Path(bench.__file__).parent.glob("_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Claim":
                names = {keyword.arg for keyword in node.keywords}
                silent += [] if names & {"rival", None} else [f"{file.name}:{node.lineno}"]
    assert silent == []


def test_the_version_of_a_package():
    assert release("pytest") == f"pytest {pytest.__version__}" and release("no-such-package") is None


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
