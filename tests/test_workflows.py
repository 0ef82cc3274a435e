"""What continuous integration and the documents ask nox for exists, and forms can be read."""

import ast
import re
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md"), *WORKFLOWS]
_SESSIONS = re.compile(r"\bnox -s ((?:[a-z_]+ ?)+|\$\{\{ matrix\.session \}\})")


def _defined() -> set[str]:
    """The sessions of the noxfile."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any("nox.session" in ast.unparse(d) for d in node.decorator_list)
    }


def _asked(text: str) -> set[str]:
    """The sessions that commands in a text name."""
    found = {name for match in _SESSIONS.finditer(text) for name in match[1].split() if name.isidentifier()}
    if "matrix.session" in text:
        found |= set(re.findall(r"session: ([a-z_]+)", text))
        for names in re.findall(r"session: \[(.*?)\]", text):
            found |= set(names.split(", "))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_sessions_exist(page: Path) -> None:
    assert _asked(page.read_text(encoding="utf-8")) <= _defined()


def test_a_session_that_does_not_exist_is_found() -> None:
    assert _asked("Run `nox -s lint types`, or `nox -s slow`.") == {"lint", "types", "slow"}
    text = "matrix:\n  session: [lint, nothing]\n  - { python: 3, session: lowest }\nrun: nox -s ${{ matrix.session }}"
    assert _asked(text) == {"lint", "nothing", "lowest"}


def test_workflows_run_what_a_contributor_can_run() -> None:
    if not WORKFLOWS:
        pytest.skip("a source distribution has no workflows")
    asked = set[str]().union(*(_asked(path.read_text(encoding="utf-8")) for path in WORKFLOWS))
    assert {"lint", "types", "tests", "newest", "lowest", "docs", "slow", "fuzz", "plugins"} <= asked


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_command_of_a_workflow_is_a_session(path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
        commands = [step["run"] for step in job["steps"] if "run" in step]
        assert commands[0] == "pip install nox"
        assert all(command.startswith("nox -s ") for command in commands[1:])


def test_fuzzing_looks_at_every_claim_of_its_bench() -> None:
    claims = set[str]()
    for path in (ROOT / "metaopt" / "bench" / "faults").glob("*.py"):
        claims |= set(re.findall(r"\bClaim\(\s*\"(\w+)\"", path.read_text(encoding="utf-8")))
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    (table,) = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "HARMLESS"]
    assert isinstance(table, ast.Dict)
    assert {key.value for key in table.keys if isinstance(key, ast.Constant)} == claims != set()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_forms_can_be_read(path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        return
    assert form["name"] and form["description"]
    identifiers = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(set(identifiers)) == len(identifiers)
    assert all(part["attributes"]["label"] for part in form["body"] if part["type"] != "markdown")


def test_bug_reports_bring_what_the_doctor_says() -> None:
    form = ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml"
    if not form.exists():
        pytest.skip("a source distribution has no forms")
    assert "python -m metaopt doctor" in form.read_text(encoding="utf-8")


def test_the_citation_can_be_read() -> None:
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == "Apache-2.0" and citation["authors"] and citation["message"]
