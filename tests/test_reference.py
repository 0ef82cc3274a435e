"""The reference has each public name once, under what its folder is for."""

import re
from pathlib import Path

import pytest

from tests._scripts import script


ROOT = Path(__file__).parent.parent


PAGES = script("api/pages.py").pages()


def test_every_package_has_a_page() -> None:
    folders = {path.parent.name for path in (ROOT / "metaopt").glob("[a-z]*/__init__.py")}
    titles = {found[1] for text in PAGES.values() if (found := re.match(r"# `metaopt\.?([\w.]*)`", text))}
    assert folders | {"", "meta.estimators"} == titles


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_that_of_today(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == PAGES[page], "Run `python docs/api/pages.py`."
    names = re.findall(r"^::: (\S+)$", PAGES[page], re.MULTILINE)
    assert len(set(names)) == len(names) > 0
    assert not re.search(r"\| *\|$", PAGES[page], re.MULTILINE), "a name has no docstring"
