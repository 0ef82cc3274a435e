"""The ledger of claims: its page from reports, and which of its rows are older than the code that they measure.

In a clone, from its root:

    python -m metaopt.bench._ledger                 # which rows are older than their code
    python -m metaopt.bench._ledger --age           # and mark them in the reports
    python -m metaopt.bench._ledger --write         # the page, from the reports
    python -m metaopt.bench._ledger --add FILE...   # take reports of `python -m metaopt bench NAME --json FILE` in
                                                    # (those of changed source trees only with --dirty)
    python -m metaopt.bench._ledger --rows FILE...  # print such reports as rows
"""

import argparse
import ast
import dataclasses
import datetime
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..evaluate import report
from ._page import escaped, load, merged, page, save
from ._table import BENCHMARKS
from .base import Budget, Claim, Rival


LEDGER = Path("docs", "benchmarks.md")
CODE, BENCH = "†", "‡"
_PACKAGE = "metaopt"
# How benches put a range over seeds into a note.
_INTERVAL = re.compile(r"\bseeds,? (-?[\d.e+-]*\d to -?[\d.e+-]*\d)")
# What belongs to all benches, and not to what one of them measures.
_SHARED = {"__init__.py", "_ledger.py", "_page.py", "_peers.py", "_table.py", "_timing.py", "base.py"}


# Rows.


def claim_of(data: Mapping[str, Any]) -> Claim:
    """A claim from its form in a report."""
    given = dict(data)
    budget, rival = given.pop("budget", None), given.pop("rival", None)
    return Claim(
        **given,
        budget=None if budget is None else Budget(**budget),
        rival=None if rival is None else Rival(**rival | {"budget": Budget(**rival["budget"])}),
    )


def rows(data: Mapping[str, Any]) -> str:
    """The claims of a report as a table of the ledger, with what belongs to each figure."""
    commit = data.get("commit") or "no commit"
    seeds = len(data["seeds"])
    lines: list[dict[str, str]] = []
    for claim in map(claim_of, data["claims"]):
        figure = {"claim": claim.id, "figure": f"**{claim.value:.4g}**", "note": claim.note}
        lines.append(figure | claim.terms() | {"seeds": str(seeds), "commit": commit})
    if not lines:
        return ""
    header = list(lines[0])
    table = [header, ["---"] * len(header), *([escaped(line[name]) for name in header] for line in lines)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in table)


def condensed(data: Mapping[str, Any], date: str) -> dict[str, Any]:
    """What the ledger keeps of a report: the claims, with all that belongs to them."""
    machine = {name: str(value) for name, value in data["machine"].items()}
    place = ", ".join(machine[name] for name in ("cpu", "system") if name in machine)
    cores = f"{machine['cores']} cores of " if "cores" in machine else ""
    kept = []
    for claim in map(claim_of, data["claims"]):
        terms = claim.terms()
        budget = terms["budget"] + (f"; the rival's: {terms['its budget']}" if terms["its budget"] else "")
        interval = _INTERVAL.search(claim.note)
        notes = [claim.note, terms["unequal"] and f"unequal: {terms['unequal']}"]
        notes.append(terms["compile s"] and f"seconds to compile: {terms['compile s']}")
        kept.append(
            {
                "id": claim.id,
                "claim": claim.id.replace("_", " "),
                "note": "; ".join(filter(None, notes)),
                "value": claim.value,
                "figure": f"**{claim.value:.4g}**",
                "interval": interval[1] if interval else "",
                "rival": terms["rival"],
                "budget": budget,
                "machine": cores + place,
                "versions": {k: v for k, v in machine.items() if k not in ("cpu", "cores", "system", "devices")},
                "date": date,
                "commit": data.get("commit") or "",
                "mark": "",
                "seeds": str(len(data["seeds"])),
                "status": "",
                "left_out": terms["left out"],
            }
        )
    return {"bench": data["bench"], "claims": kept}


# What a bench measures.


class Sources:
    """The modules of a source tree, and which of them a module needs.

    Names are followed through the folders that export them, so that `from ..scf import solve` needs the file of
    `solve` and not all of the folder.
    """

    def __init__(self, root: Path):
        self.root = root
        self._trees: dict[str, ast.Module] = {}

    def _tree(self, path: str) -> ast.Module:
        if path not in self._trees:
            self._trees[path] = ast.parse((self.root / path).read_text(encoding="utf-8"))
        return self._trees[path]

    def file(self, parts: tuple[str, ...]) -> str | None:
        """The file of a module, or of the folder that it is."""
        for path in ("/".join(parts) + ".py", "/".join((*parts, "__init__.py"))):
            if (self.root / path).is_file():
                return path
        return None

    def _exported(self, parts: tuple[str, ...], name: str) -> Iterator[str]:
        """Where a name comes from that is imported from a module or a folder."""
        path = self.file((*parts, name)) or self.file(parts)
        if path is None:
            return
        if not path.endswith("/__init__.py"):
            yield path
            return
        package = tuple(path.split("/")[:-1])
        for module, imported, known in _imports(self._tree(path), package):
            if known == name:
                yield from self._exported(module, imported)

    def _direct(self, path: str) -> Iterator[str]:
        parts = tuple(path.split("/"))
        tree = self._tree(path)
        for module, imported, _ in _imports(tree, parts[:-1]):
            if module[:1] == (_PACKAGE,):
                yield from self._exported(module, imported)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                # A script of a peer, or what a fresh interpreter imports.
                peer = f"{_PACKAGE}/bench/peers/{node.value}"
                if node.value.endswith(".py") and "\n" not in node.value and (self.root / peer).is_file():
                    yield peer
                if node.value == f"import {_PACKAGE}":
                    yield f"{_PACKAGE}/__init__.py"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "find" and node.args:
                # A backend, by its name.
                name = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
                folder = self.root / "backends" / f"{_PACKAGE}_backends"
                for found in (*folder.glob(f"{name}/**/*"), *folder.glob(f"_{name}*"), *folder.glob(f"{name}.py")):
                    if found.suffix in (".py", ".cc", ".h"):
                        yield found.relative_to(self.root).as_posix()

    def needed(self, path: str) -> set[str]:
        """All files that a module needs, itself included."""
        found, ahead = set[str](), [path]
        while ahead:
            at = ahead.pop()
            if at in found:
                continue
            found.add(at)
            if at.endswith(".py") and not at.startswith("backends/"):
                ahead += self._direct(at)
        return found


def _imports(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Module, name and the name that it is known by, of what is imported from somewhere, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                yield module, alias.name, alias.asname or alias.name


# Which rows are older.


@dataclasses.dataclass(frozen=True)
class Age:
    """What has changed since a commit at which a bench was run: files of the library, and of the bench itself."""

    bench: str
    commit: str
    code: list[str]
    own: list[str]

    @property
    def mark(self) -> str:
        """What stands behind the commit: how many files of the library changed, or that the bench itself did."""
        return f"{CODE}{len(self.code)}" if self.code else BENCH if self.own else ""


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _meaning(path: str, text: str) -> str:
    """A file without what does not change what it does: comments, layout, docstrings, and where our modules lie."""
    if not path.endswith(".py"):
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == _PACKAGE):
            node.level, node.module = 0, _PACKAGE
            node.names.sort(key=lambda alias: alias.name)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree, annotate_fields=False)


def changed(root: Path, commit: str, files: Iterable[str]) -> list[str] | None:
    """Which of these files do something else than at a commit; nothing at all if it is not known here."""
    listed = _git(root, "ls-tree", "-r", commit)
    if listed is None:
        return None
    blobs = {path: entry.split()[2] for entry, path in (line.split("\t", 1) for line in listed.splitlines())}
    moved = _moved(root, commit)
    found = []
    for path in sorted(files):
        data = (root / path).read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        source = path if path in blobs else moved.get(path)
        if source is not None and blobs[source] == blob:
            continue
        before = None if source is None else _git(root, "show", f"{commit}:{source}")
        if before is None or _meaning(path, before) != _meaning(path, data.decode()):
            found.append(path)
    return found


def _moved(root: Path, commit: str) -> dict[str, str]:
    """Where files lay at a commit that lie elsewhere now."""
    listed = _git(root, "diff", "--find-renames", "--diff-filter=R", "--name-status", commit) or ""
    return {new: old for _, old, new in (line.split("\t") for line in listed.splitlines())}


def ages(root: Path, reports: Mapping[str, Mapping[str, Any]]) -> list[Age]:
    """How old the claims of reports are, for each bench and commit that is known here."""
    sources, found = Sources(root), list[Age]()
    for bench, data in reports.items():
        if bench not in BENCHMARKS:
            continue
        module = sources.file(tuple(BENCHMARKS[bench].run.split(":")[0].split(".")))
        if module is None:
            continue
        files = sources.needed(module)
        folder = f"{_PACKAGE}/bench/"
        files = {f for f in files if not (f.startswith(folder) and f.removeprefix(folder) in _SHARED)}
        for commit in dict.fromkeys(_commit(claim) for claim in data["claims"]):
            since = changed(root, commit, files) if commit else None
            if since is not None:
                own = [path for path in since if path.startswith(folder)]
                found.append(Age(bench, commit, [path for path in since if path not in own], own))
    return found


def _commit(claim: Mapping[str, Any]) -> str:
    return claim["commit"].removeprefix("about ").removesuffix("-dirty")


def _known(data: Mapping[str, Any]) -> bool:
    """Whether a report names the commit that it was measured at, and nothing was changed since."""
    return bool(data.get("commit")) and not data["commit"].endswith("-dirty")


def marked(reports: Mapping[str, Mapping[str, Any]], found: Iterable[Age]) -> dict[str, dict[str, Any]]:
    """Reports whose claims have the marks that they should have; those of unknown commits stay as they are."""
    known = {(age.bench, age.commit): age.mark for age in found}
    return {
        bench: dict(data)
        | {"claims": [c | {"mark": known.get((bench, _commit(c)), c.get("mark", ""))} for c in data["claims"]]}
        for bench, data in reports.items()
    }


def _last(root: Path, files: list[str]) -> str:
    """The last commit that changed one of some files."""
    return (_git(root, "log", "-1", "--format=%h %as", "--", *files) or "").strip() if files else ""


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m metaopt.bench._ledger", description="Rows of the ledger of claims."
    )
    parser.add_argument("--rows", nargs="+", type=Path, metavar="FILE", help="print the claims of reports as rows")
    parser.add_argument("--add", nargs="+", type=Path, metavar="FILE", help="take reports into the committed ones")
    parser.add_argument("--dirty", action="store_true", help="take reports of changed source trees, too")
    parser.add_argument("--age", action="store_true", help="mark what is older than its code in the reports")
    parser.add_argument("--write", action="store_true", help="write the page from the committed reports")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help="the root of the clone")
    options = parser.parse_args(arguments)
    if options.rows:
        for file in options.rows:
            data = json.loads(file.read_text(encoding="utf-8"))
            print(f"### {data['bench']}\n\n{rows(data)}\n")
        return 0
    given = {file: json.loads(file.read_text(encoding="utf-8")) for file in options.add or []}
    unknown = [str(file) for file, data in given.items() if not _known(data)]
    if unknown and not options.dirty:
        parser.error(
            f"{', '.join(unknown)}: measured at no commit, or in a changed source tree. Run the benchmark again "
            "in a clean clone, or give `--dirty`."
        )
    for file, measured in given.items():
        date = datetime.date.fromtimestamp(file.stat().st_mtime).isoformat()
        data = condensed(measured, date)
        save(options.root, data["bench"], merged(load(options.root).get(data["bench"], {}), data))
    if options.age or not (options.add or options.write):
        _age(options.root, options.age)
    if options.write:
        (options.root / LEDGER).write_text(page(load(options.root)), encoding="utf-8")
    return 0


def _age(root: Path, write: bool) -> None:
    reports = load(root)
    if _git(root, "rev-parse", "HEAD") is None or not reports:
        print(f"{root} has no history or no reports: nothing is known about the age of rows.", file=sys.stderr)
        return
    found = ages(root, reports)
    table = [
        {
            "bench": age.bench,
            "measured at": age.commit,
            "mark": age.mark,
            "of the bench": len(age.own),
            "last change": _last(root, age.code or age.own),
        }
        for age in found
    ]
    print(report(table))
    if write:
        for name, data in marked(reports, found).items():
            save(root, name, data)


if __name__ == "__main__":
    sys.exit(main())
