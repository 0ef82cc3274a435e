"""Each formula of the pages and of the docstrings can be shown."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from tests._scripts import script


ROOT = Path(__file__).parent.parent
_FENCED = re.compile(r"^ *(```|~~~).*?^ *\1", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^\s$](?:[^$]*?[^\s$\\])?)\$(?!\d)", re.DOTALL)


def _mathml() -> Any:
    pytest.importorskip("latex2mathml", reason="the extra `docs` is not installed")
    return script("mathml.py")


def _formulas(text: str) -> list[str]:
    plain = _CODE.sub("", _FENCED.sub("", text))
    return [display or inline for display, inline in _FORMULA.findall(plain)]


def _docstrings(path: Path) -> list[str]:
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)]
    return [ast.get_docstring(node) or "" for node in nodes]


def test_every_formula_is_shown() -> None:
    convert = _mathml().to_mathml
    texts = {page: [page.read_text(encoding="utf-8")] for page in (ROOT / "docs").rglob("*.md")}
    texts |= {file: _docstrings(file) for file in (ROOT / "metaopt").rglob("*.py")}
    found = {file: [formula for text in each for formula in _formulas(text)] for file, each in texts.items()}
    assert sum(map(len, found.values())) > 300
    wrong = []
    for file, formulas in found.items():
        for formula in formulas:
            try:
                convert(formula)
            except Exception as error:
                wrong.append(f"{file.relative_to(ROOT)}: {error}")
    assert wrong == []


def test_an_unknown_macro_is_an_error() -> None:
    module = _mathml()
    with pytest.raises(ValueError, match=r"cannot show: \\nothing"):
        module.to_mathml(r"x + \nothing")
    with pytest.raises(ValueError, match="cannot show"):  # one backslash at the end of a row, where two are meant
        module.to_mathml("\\begin{cases} a \\\n b \\end{cases}")
    for norm in (r"\Big\lVert x \Big\rVert", r"\big\| x \big\|"):
        assert "\\" not in module.to_mathml(norm)
    assert "<mo" in module.to_mathml(r"\arg\min_x \lVert x \rVert") and "\\" not in module.to_mathml(r"\arg\min_x")
