"""Write the pages of the reference from the code: `python docs/api/pages.py`.

A page has a section for each folder inside a package, with a table of what is in it and then each in full. The text
above the first section is kept as it is.
"""

import ast
import functools as ft
import re
import sys
from collections.abc import Iterator
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
PAGES = Path(__file__).resolve().parent
# What the package itself exports, by purpose: its folders are no help there.
CORE = {
    "The contract": "AbstractAlgorithm AbstractPlanner AbstractLossReader with_horizon check Report CheckError",
    "Problems": "AbstractTask AbstractLossTask AbstractTaskFamily SingleTask AbstractStart Learner",
    "To optax and back": "from_optax to_optax Optax MissingHorizonWarning MissingValueWarning",
    "Loops": "minimize fixed_point Solution RESULTS unroll Trajectory inner_step Inner value_and_grad",
    "Wrappers": "ClipByGlobalNorm WeightDecay SkipNonFinite",
    "Meta-training": "meta_train",
    "Declared, saved and loaded": "build save load read_header CheckpointError",
    "Types": "typechecked",
}
_MARK = "<!-- What follows is written by docs/api/pages.py. -->"
_ENTRY = (
    "::: {name}\n    options:\n      heading_level: 3\n      show_root_heading: true\n      show_root_toc_entry: true\n"
)


@ft.cache
def parsed(file: Path) -> ast.Module:
    """A file, read once: most are asked for several names."""
    return ast.parse(file.read_text(encoding="utf-8"))


def exported(package: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The public names of a package, and the modules that they come from."""
    parts = tuple(package.split("."))
    tree = parsed(ROOT.joinpath(*parts, "__init__.py"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level + 1] if node.level else ()
            for alias in node.names:
                if not alias.name.startswith("_"):
                    yield alias.name, (*base, *(node.module or "").split("."))


def sentence(module: tuple[str, ...], name: str) -> str:
    """The first sentence of the docstring of what a module defines, or passes on."""
    path = ROOT.joinpath(*module)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = parsed(file).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            # The first of several with a docstring: overloads have none.
            if ast.get_docstring(node):
                return _first(ast.get_docstring(node) or "")
        elif (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and name in ast.unparse(node).split("=")[0].split(":")[0].split()
        ):
            if (
                isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                return _first(after.value.value)
        elif isinstance(node, ast.ImportFrom) and any(alias.asname == name for alias in node.names):
            base = module if path.is_dir() else module[:-1]
            base = base[: len(base) - node.level + 1]
            return sentence((*base, *(node.module or "").split(".")), name)
    return ""


def _first(docstring: str) -> str:
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    found = re.match(r"(.+?[.:!])(?: [A-Z`\[$]|$)", paragraph)
    return (found[1] if found else paragraph).rstrip(":").replace("|", "\\|")


def sections(package: str) -> dict[str, tuple[str, list[tuple[str, tuple[str, ...]]]]]:
    """The sections of a page: a title, what belongs there, and the names with their modules."""
    found: dict[str, tuple[str, list[tuple[str, tuple[str, ...]]]]] = {}
    names = dict(exported(package))
    if package == "metaopt":
        titles = {name: title for title, group in CORE.items() for name in group.split()}
        for title in CORE:
            found[title] = "", [(name, names[name]) for name in CORE[title].split() if name in names]
        found["Others"] = "", [(name, module) for name, module in names.items() if name not in titles]
        return {title: (about, members) for title, (about, members) in found.items() if members}
    depth = len(package.split("."))
    for name, module in names.items():
        inside = module[depth : depth + 1] if ROOT.joinpath(*module[: depth + 1]).is_dir() else ()
        if inside and module[:depth] == tuple(package.split(".")):
            tree = parsed(ROOT.joinpath(*module[: depth + 1], "__init__.py"))
            title, about = inside[0].replace("_", " ").capitalize(), ast.get_docstring(tree) or ""
        elif module[-1] == "base":
            title, about = "Contracts", "What each part promises, to be implemented by your own."
        else:
            title, about = "What there is" if package.count(".") == 1 else "Parts", ""
        found.setdefault(title, (about, []))[1].append((name, module))
    if "Contracts" in found:
        found["Contracts"] = found.pop("Contracts")
    return found


def page(package: str, head: str) -> str:
    """A page of the reference under its head."""
    text = [f"{head.rstrip()}\n\n{_MARK}\n"]
    for title, (about, members) in sections(package).items():
        rows = [f"| [`{name}`][{package}.{name}] | {sentence(module, name)} |" for name, module in members]
        text.append(f"## {title}\n" + (f"\n{about}\n" if about else ""))
        text.append("| name | what it is |\n|---|---|\n" + "\n".join(rows) + "\n")
        text += [f"::: {package}.{name}\n" for name, _ in members]
    return "\n".join(text)


def pages() -> dict[Path, str]:
    """All pages of packages, as they should be."""
    found = {}
    for file in sorted(PAGES.glob("*.md")):
        text = file.read_text(encoding="utf-8")
        package = re.match(r"# `(metaopt[\w.]*)`", text)
        if package is not None and ROOT.joinpath(*package[1].split(".")).is_dir():
            head = text.split(_MARK)[0].split("\n::: ")[0]
            found[file] = page(package[1], head)
    return found


if __name__ == "__main__":
    for file, text in pages().items():
        file.write_text(text, encoding="utf-8")
    sys.exit(0)
