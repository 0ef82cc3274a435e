"""Rows of the ledger come from reports, and are marked where they are older than the code that they measure."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from metaopt.bench import _ledger, _page
from metaopt.bench._table import BENCHMARKS
from metaopt.bench.base import Benchmark, Budget, Claim, Report, Rival


ROOT = Path(__file__).parents[2]
FILES = {
    "metaopt/__init__.py": "from .rules import Other as Other\n",
    "metaopt/bench/__init__.py": "",
    "metaopt/bench/base.py": "SHARED = 1\n",
    "metaopt/bench/_x.py": "from ..rules import Good\nfrom .base import SHARED\nfrom ._y import *\nS = 'peer.py'\n",
    "metaopt/bench/_y.py": "def helper():\n    from ..tasks._easy import task\n    return find('fast'), task\n",
    "metaopt/bench/peers/peer.py": "print(1)\n",
    "metaopt/rules/__init__.py": "from ._good import Good as Good\nfrom ._other import Other as Other\n",
    "metaopt/rules/_good.py": "from .._core import base\nclass Good:\n    def step(self): return base()\n",
    "metaopt/rules/_other.py": "class Other: pass\n",
    "metaopt/_core/__init__.py": "from ._base import base as base\n",
    "metaopt/_core/_base.py": "def base(): return 1\n",
    "metaopt/tasks/__init__.py": "",
    "metaopt/tasks/_easy.py": "task = 1\n",
    "backends/metaopt_backends/fast/kernel.cc": "int one;\n",
}


def _report(name, *commits):
    claims = [{"id": f"c{i}", "claim": "one", "date": "2026-11-26", "commit": c} for i, c in enumerate(commits)]
    return json.dumps({"bench": name, "claims": claims})


def _marks(root, name="x"):
    return [claim.get("mark", "") for claim in _page.load(root)[name]["claims"]]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository with a small package and reports that were measured at its first commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    monkeypatch.setattr(_ledger, "BENCHMARKS", {"x": Benchmark("x", "metaopt.bench._x:run", 1)})

    def git(*arguments):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")

    for path, text in FILES.items():
        write(path, text)
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "--short=7", "HEAD").stdout.strip()
    write("docs/benchmarks/x.json", _report("x", commit))
    write("docs/benchmarks/y.json", _report("y", commit))
    return tmp_path, write, commit


def test_a_bench_measures_what_it_imports_by_name(clone):
    root, *_ = clone
    assert _ledger.Sources(root).needed("metaopt/bench/_x.py") == {
        *("metaopt/bench/_x.py", "metaopt/bench/_y.py", "metaopt/bench/base.py", "metaopt/bench/peers/peer.py"),
        *("metaopt/rules/_good.py", "metaopt/_core/_base.py", "metaopt/tasks/_easy.py"),
        "backends/metaopt_backends/fast/kernel.cc",
    }


@pytest.mark.parametrize(
    ("path", "text", "mark"),
    [
        ("metaopt/rules/_other.py", "class Other: changed = True\n", ""),
        ("metaopt/bench/base.py", "SHARED = 2\n", ""),
        ("metaopt/_core/_base.py", '# A comment.\ndef base():\n    """A docstring."""\n    return 1\n', ""),
        ("metaopt/_core/_base.py", "def base(): return 2\n", " †1"),
        ("backends/metaopt_backends/fast/kernel.cc", "int two;\n", " †1"),
        ("metaopt/bench/_y.py", FILES["metaopt/bench/_y.py"] + "MORE = 1\n", " ‡"),
        ("metaopt/bench/peers/peer.py", "print(2)\n", " ‡"),
    ],
)
def test_rows_are_marked_where_code_has_changed(clone, capsys, path, text, mark):
    root, write, commit = clone
    write(path, text)
    assert _ledger.main(["--root", str(root), "--age"]) == 0
    assert commit in capsys.readouterr().out
    assert _marks(root) == [mark.strip()]
    assert _marks(root, "y") == [""]


def test_what_is_not_known_stays_as_it_is(clone, capsys):
    root, write, _ = clone
    write("docs/benchmarks/x.json", _report("x", "fedcba9", ""))
    assert _ledger.main(["--root", str(root), "--age"]) == 0
    assert _marks(root) == ["", ""]
    shutil.rmtree(root / ".git")
    assert _ledger.main(["--root", str(root), "--age"]) == 0
    assert "no history" in capsys.readouterr().err


def test_a_report_replaces_claims_of_the_same_id_and_leaves_the_others(tmp_path):
    claims = [Claim("ratio", 2.0, "over 2 seeds 1.5 to 2.5"), Claim("other", 1.0)]
    file = tmp_path / "run.json"
    measured = Report([0, 1], [], claims).to_json("x", {"cpu": "C"}) | {"commit": "abc1234"}
    file.write_text(json.dumps(measured), encoding="utf-8")
    old = [{"id": "kept", "claim": "k"}, {"id": "ratio", "claim": "in words", "figure": "1", "want": [">=", 3]}]
    _page.save(tmp_path, "x", {"bench": "x", "claims": old})
    assert _ledger.main(["--root", str(tmp_path), "--add", str(file)]) == 0
    kept, ratio, other = _page.load(tmp_path)["x"]["claims"]
    assert kept == old[0]
    assert (ratio["claim"], ratio["figure"], ratio["seeds"], ratio["machine"]) == ("in words", "**2**", "2", "C")
    assert (ratio["status"], ratio["interval"], ratio["earlier"]) == ("missed", "1.5 to 2.5", ["1"])
    assert other["claim"] == "other"


@pytest.mark.parametrize("commit", [None, "abc1234-dirty"])
def test_a_report_of_a_changed_tree_is_taken_in_only_on_demand(tmp_path, capsys, commit):
    file = tmp_path / "run.json"
    measured = Report([0], [], [Claim("ratio", 2.0)]).to_json("x", {}) | {"commit": commit}
    file.write_text(json.dumps(measured), encoding="utf-8")
    with pytest.raises(SystemExit):
        _ledger.main(["--root", str(tmp_path), "--add", str(file)])
    assert "--dirty" in capsys.readouterr().err
    assert not _page.load(tmp_path)
    assert _ledger.main(["--root", str(tmp_path), "--add", str(file), "--dirty"]) == 0
    assert _page.load(tmp_path)["x"]["claims"][0]["commit"] == (commit or "")


def test_reports_become_rows(tmp_path, capsys):
    budget = Budget(gradients=200)
    claims = [
        Claim("ratio", 2.34567, "a | b", budget=budget, rival=Rival("Adam", budget, "0.2"), left_out="Muon"),
        Claim("bias", 0.0, rival=None),
    ]
    file = tmp_path / "x.json"
    file.write_text(json.dumps(Report([0, 1], [], claims).to_json("x", {})), encoding="utf-8")
    assert _ledger.main(["--rows", str(file)]) == 0
    title = capsys.readouterr().out.splitlines()[0]
    header, _, ratio, bias = _table(file)
    assert title == "### x"
    assert header == (
        "| claim | figure | note | budget | rival | its budget | unequal | compile s | left out | seeds | commit |"
    )
    assert ratio.startswith("| ratio | **2.346** | a \\| b | 200 gradients | Adam (0.2) | the same |  |  | Muon | 2 |")
    assert bias.startswith("| bias | **0** |  |  | none |  |")
    assert _ledger.rows(Report([], [], []).to_json("x", {})) == ""


def _table(file):
    return _ledger.rows(json.loads(file.read_text(encoding="utf-8"))).splitlines()


def test_the_page_is_made_of_the_committed_reports():
    file = ROOT / _ledger.LEDGER
    if not file.is_file():
        pytest.skip("the documentation is not here")
    reports = _page.load(ROOT)
    assert set(BENCHMARKS) <= set(reports)
    assert file.read_text(encoding="utf-8") == _page.page(reports)
