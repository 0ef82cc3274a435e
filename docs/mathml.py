"""Turn the formulas of a page into MathML when the site is built: readers need no script and no network."""

import html
import re
from typing import Any

import latex2mathml.converter


_FORMULA = re.compile(r'<(div|span) class="arithmatex">(?:\\\[|\\\()(.*?)(?:\\\]|\\\))</\1>', re.DOTALL)


# What the converter does not know, in words that it knows.
_SPELLED = {r"\arg": r"\operatorname{arg}", r"\lVert": r"\|", r"\rVert": r"\|", r"\lvert": "|", r"\rvert": "|"}
_MACRO = re.compile(r"\\(?:[a-zA-Z]+|.)", re.DOTALL)
# The converter leaves a macro behind `\Big` as it is; there the bar is a character.
_SIZED_NORM = re.compile(r"(\\[bB]igg?[lmr]?)\s*\\(?:\||[lr]?Vert\b)")


def to_mathml(formula: str, display: str = "inline") -> str:
    """A formula as MathML.

    **Raises:**

    - `ValueError`: for a macro that the converter does not know; it would stand on the page as it is.
    """
    known = _SIZED_NORM.sub("\\1\N{DOUBLE VERTICAL LINE}", formula.strip())
    known = _MACRO.sub(lambda macro: _SPELLED.get(macro[0], macro[0]), known)
    converted = latex2mathml.converter.convert(known, display=display).replace(r"\_", "_")
    left = sorted(set(_MACRO.findall(converted)))
    if left or "<merror" in converted:
        raise ValueError(f"The formula {formula!r} has what `docs/mathml.py` cannot show: {', '.join(left)}. Spell it.")
    return converted


def _convert(match: re.Match[str]) -> str:
    return to_mathml(html.unescape(match[2]), "block" if match[1] == "div" else "inline")


def on_page_content(content: str, **_: Any) -> str:
    return _FORMULA.sub(_convert, content)
