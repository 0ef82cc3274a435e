"""The Python blocks of every page run, in order, as one program. Blocks marked `py` are shown and not run."""

import re
from pathlib import Path

import jax
import pytest


ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Pages that take long; `nox -s slow` runs them.
_SLOW = {
    *("tasks", "learned-optimizers", "scf", "continual"),
    *("physics", "multi-objective", "few-shot", "rl", "schedules", "warm-starts", "meta-training", "optax_drop_in"),
    *("evaluation", "doctor", "own-estimator", "tour", "scaling", "specs", "guarantees"),
}
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _program(text: str) -> str:
    """The blocks of a page, on the lines where they stand, so that errors point into the page."""
    lines = [""] * text.count("\n")
    for match in _BLOCK.finditer(text):
        first = text[: match.start(1)].count("\n")
        block = match[1].splitlines()
        lines[first : first + len(block)] = block
    return "\n".join(lines)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p.stem in _SLOW))
        for p in PAGES
        if _BLOCK.search(p.read_text())
    ],
)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # With the settings of a user, not those of the tests.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(_program(page.read_text(encoding="utf-8")), str(page), "exec"), {"__name__": "docs"})


def test_a_block_that_fails_is_found() -> None:
    text = "# Page\n\n```python\nx = 1\n```\n\n```py\nx = 2\n```\n\n```python\nassert x == 2\n```\n"
    with pytest.raises(AssertionError) as caught:
        exec(compile(_program(text), "page", "exec"), {})
    assert caught.traceback[-1].lineno + 1 == 12  # counted from zero
