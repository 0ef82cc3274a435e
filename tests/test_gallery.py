"""Each picture of the gallery has a short script, and stands on the page with it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "gallery"
NAMES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
_LONGEST = 60


def test_there_are_pictures() -> None:
    assert len(NAMES) >= 10
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_shown_with_its_script(name: str) -> None:
    page, script = (
        (FOLDER / "index.md").read_text(encoding="utf-8"),
        (FOLDER / f"{name}.py").read_text(encoding="utf-8"),
    )
    assert script.count("\n") <= _LONGEST
    assert script.startswith('"""') and f'save(figure, "{name}")' in script
    (described,) = re.findall(rf"!\[([^\]]+)\]\({name}\.svg\)", page)
    assert len(described) > 20
    assert f'--8<-- "docs/gallery/{name}.py"' in page
    # What is drawn is gray or colored, and readable on light and on dark pages; nothing says when it was made.
    drawn = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert "<dc:date>" not in drawn and len(drawn) < 600_000


# Pages about files, texts and commands.
_WITHOUT = {"specs", "doctor", "files", "type-checking"}


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "guide").glob("*.md")), ids=lambda page: page.stem)
def test_a_guide_page_begins_with_a_picture(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    begins = re.match(r"!\[.+\]\(\.\./gallery/(\w+)\.svg\)", lines[2])
    assert (begins is None) == (page.stem in _WITHOUT)
    assert begins is None or begins[1] in NAMES


@pytest.mark.slow
def test_a_script_makes_its_picture(tmp_path: Path) -> None:
    for name in ("_style", "front_two"):
        (tmp_path / f"{name}.py").write_text((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    subprocess.run([sys.executable, "front_two.py"], cwd=tmp_path, check=True, timeout=600)
    assert (tmp_path / "front_two.svg").stat().st_size > 1000
