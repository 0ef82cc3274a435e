"""Every relative link and every anchor in the documents of the repository leads to something."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")])
# Pages that speak about files of the repository by their path.
DEVELOPMENT = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "extending.md", *(ROOT / "docs" / "development").glob("*.md")]

_FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2`*[ \t]*$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(`+)(?:(?!\1).)+?\1", re.DOTALL)
_LINK = re.compile(r"\]\(<?([^()\s<>]*(?:\([^()\s]*\))?[^()\s<>]*)>?(?:\s+[\"'][^\"']*[\"'])?\)")
_TARGET = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=[\"']([^\"']+)[\"']")
_NAMED = re.compile(r"<[a-z]+\b[^>]*?\b(?:id|name)=[\"']([^\"']+)[\"']|\{[^}\n]*#([\w.-]+)[^}\n]*\}")
_HEADING = re.compile(r"^#{1,6} +(.*?)(?: +#+)?(?: *\{[^}\n]*\})? *$", re.MULTILINE)
_NAME = re.compile(r"`(metaopt(?:\.\w+)+)`")
_PATH = re.compile(r"`((?:metaopt|backends|tests|docs|typings|\.github|\.ci)/[\w./-]*)`")


def links(text: str) -> Iterator[str]:
    """Where the links of a page lead, those inside of code left out."""
    plain = _CODE.sub("", _FENCE.sub("", text))
    for match in (*_LINK.finditer(plain), *_TARGET.finditer(plain)):
        if not re.match(r"[a-z][a-z+.-]*:|//", match[1]):
            yield match[1]


def anchors(text: str) -> set[str]:
    """What a link into a page can name: its headings as both GitHub and the site write them, and given names."""
    plain = _FENCE.sub("", text)
    found = {name for match in _NAMED.finditer(plain) for name in match.groups() if name}
    for match in _HEADING.finditer(plain):
        heading = re.sub(r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", match[1]).replace("`", "")
        there = re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        ascii_only = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
        here = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())
        for anchor in {there, here}:
            count = 1
            while anchor in found:
                anchor, count = f"{re.sub(r'[-_][0-9]+$', '', anchor)}_{count}", count + 1
            found.add(anchor)
    return found


def broken(page: Path) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        if not target.exists():
            yield link
        # The site makes anchors of the reference of its own, and looks at them when it is built.
        elif anchor and target.suffix == ".md" and not anchor.startswith("metaopt"):
            if anchor not in anchors(target.read_text(encoding="utf-8")):
                yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken(page)) == []


@pytest.mark.parametrize("page", DEVELOPMENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paths_in_code_exist(page: Path) -> None:
    named = _PATH.findall(page.read_text(encoding="utf-8"))
    # The name of a file to be written is no path: such examples stand in blocks.
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", DEVELOPMENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_in_code_exist(page: Path) -> None:
    names = set(_NAME.findall(page.read_text(encoding="utf-8")))
    assert [name for name in names if not _is_public(name)] == []


def _is_public(name: str) -> bool:
    """Whether a file, or what a package exports by its `__init__.py`, has this dotted name."""
    *parents, last = name.split(".")
    folder = ROOT.joinpath(*parents)
    exports = folder / "__init__.py"
    exported = exports.exists() and re.search(rf"\bas {last}\b", exports.read_text(encoding="utf-8"))
    return bool(exported) or (folder / last).is_dir() or (folder / f"{last}.py").is_file()


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One & *two*\n\n## `code`, again\n\n<a id='given'></a>\n\n# code again\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#one-two) [c](#here) [d](other.md#given) ![e](other.md 'title')\n"
        "[f](https://somewhere.else) `[g](nowhere.md)` [h](other.md#code-again)\n"
        "```\n[i](nowhere.md)\n```\n"
        "[j](nowhere.md) [k](other.md#three) [l](#there) <img src='nowhere.png'>\n"
    )
    assert list(broken(page)) == ["nowhere.md", "other.md#three", "#there", "nowhere.png"]


def test_names_that_do_not_exist_are_found() -> None:
    assert _is_public("metaopt.l2o.MLP") and _is_public("metaopt.registry") and _is_public("metaopt.scf")
    assert not _is_public("metaopt.l2o.Nothing") and not _is_public("metaopt.nothing.MLP")
