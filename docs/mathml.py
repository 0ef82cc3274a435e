"""Turn the formulas of a page into MathML when the site is built: readers need no script and no network."""

import html
import re
from typing import Any

import latex2mathml.converter


_FORMULA = re.compile(r'<(div|span) class="arithmatex">(?:\\\[|\\\()(.*?)(?:\\\]|\\\))</\1>', re.DOTALL)


def _convert(match: re.Match[str]) -> str:
    display = "block" if match[1] == "div" else "inline"
    formula = latex2mathml.converter.convert(html.unescape(match[2]).strip(), display=display)
    return formula.replace(r"\_", "_")


def on_page_content(content: str, **_: Any) -> str:
    return _FORMULA.sub(_convert, content)
