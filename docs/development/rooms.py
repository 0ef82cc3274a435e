"""Draw the rooms of the package and which of them import which, from the imports.

`nox -s rooms` writes `rooms.svg` beside this file, as does `PYTHONPATH=. python docs/development/rooms.py`.
"""

import textwrap
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from tests._architecture import TOP, Package, imports


ROOT = Path(__file__).parents[2]
DRAWING = Path(__file__).with_suffix(".svg")

# In pixels. Letters are those of a monospaced font, so that a text is as wide as it has letters.
_WIDTH, _MARGIN, _PADDING, _GAP, _SLOT = 960, 56, 10, 44, 12
_TITLE, _SMALL, _LINE, _LETTER = 14, 11, 15, 0.64
_WRAP = 19
# Colors that can be read on a white page and on a dark one: boxes bring their own background.
_STYLE = """
  text { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1a237e }
  .small { font-size: 11px; fill: #37474f }
  .title { font-size: 14px; font-weight: bold }
  .margin { font-size: 11px; fill: #7d8590 }
  rect { fill: #e8eaf6; stroke: #5c6bc0; stroke-width: 1.2 }
  path { fill: none; stroke: #7d8590; stroke-width: 1.4 }
  marker path { fill: #7d8590; stroke: none }
"""
_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0.5 L8 4 L0 7.5 Z"/></marker></defs>'
)


@dataclass
class Box:
    """A room; or, without a name, the place where an arrow passes a layer."""

    name: str
    layer: int
    lines: list[str] = field(default_factory=list)
    below: list["Box"] = field(default_factory=list)
    above: list["Box"] = field(default_factory=list)
    x: float = 0.0
    top: float = 0.0

    @property
    def width(self) -> float:
        letters = max([_TITLE * len(self.name), *(_SMALL * len(line) for line in self.lines)])
        return _LETTER * letters + 2 * _PADDING if self.name else _SLOT

    @property
    def height(self) -> float:
        return 2 * _PADDING + _TITLE + _LINE * len(self.lines)

    def join(self, lower: "Box") -> None:
        self.below.append(lower)
        lower.above.append(self)


def edges(package: Package) -> set[tuple[str, str]]:
    """Which room imports which, if an import through a third room does not say it already."""
    found = {
        (package.room(module), package.room(name))
        for module in package.files
        for name in imports(package, module)
        if name.split(".")[0] == package.name
    }
    # The top may import everything; arrows from there would be many and say nothing.
    found = {(a, b) for a, b in found if a != b and package.layers[a] < TOP}
    return {(a, b) for a, b in found if not _leads(a, b, found - {(a, b)})}


def _leads(start: str, end: str, found: set[tuple[str, str]]) -> bool:
    return any(a == start and (b == end or _leads(b, end, found)) for a, b in found)


def boxes(package: Package) -> list[list[Box]]:
    """The rooms of each layer, from the bottom to the top, in an order in which few arrows cross."""
    rooms: dict[str, Box] = {}
    for module in package.files:
        room = package.room(module)
        rooms.setdefault(room, Box(room or package.name, package.layers[room]))
    for name, room in rooms.items():
        folder = package.root / name
        if name and folder.is_dir():
            inside = sorted(path.parent.name for path in folder.glob("*/__init__.py"))
            room.lines = textwrap.wrap(", ".join(inside), _WRAP) if inside else []
    layers: list[list[Box]] = [[] for _ in range(TOP + 1)]
    for room in rooms.values():
        layers[room.layer].append(room)
    for upper, lower in sorted(edges(package)):
        last = rooms[upper]
        for layer in range(last.layer - 1, rooms[lower].layer, -1):
            layers[layer].append(passed := Box("", layer))
            last.join(passed)
            last = passed
        last.join(rooms[lower])
    _untangle(layers)
    return layers


def _untangle(layers: list[list[Box]]) -> None:
    """Sort each layer by the mean place of the neighbors, above and below in turns."""
    for sweep in range(8):
        _place(layers)
        for row in layers if sweep % 2 else reversed(layers):
            row.sort(key=lambda box: _mean([other.x for other in _neighbors(box, sweep)], box.x))
            _spread(row)


def _neighbors(box: Box, sweep: int) -> list[Box]:
    return box.below + box.above if sweep > 3 else box.below if sweep % 2 else box.above


def _mean(numbers: list[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _place(layers: list[list[Box]]) -> None:
    """Say where each box begins, the highest layer at the top of the page."""
    top = _PADDING
    for row in reversed(layers):
        _spread(row)
        for box in row:
            box.top = top
        top += max((box.height for box in row), default=0) + _GAP


def _spread(row: list[Box]) -> None:
    """Share the width of the page between the boxes of a layer; `x` is the middle of a box."""
    free = (_WIDTH - _MARGIN - sum(box.width for box in row)) / (len(row) + 1)
    left = _MARGIN + free
    for box in row:
        box.x = left + box.width / 2
        left += box.width + free


def draw(package: Package) -> str:
    """The drawing, as SVG."""
    layers = boxes(package)
    _place(layers)
    height = max(box.top + box.height for box in layers[0]) + _PADDING
    parts = [_arrows(row) + _rooms(row) for row in layers]
    label = f"The rooms of {package.name} in layers. Arrows show imports, which point downwards."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img">',
            f"<title>{label}</title>",
            f"<style>{_STYLE}</style>",
            _ARROW,
            *(line for part in parts for line in part),
            "</svg>\n",
        ]
    )


def _arrows(row: list[Box]) -> list[str]:
    tallest = max((box.height for box in row), default=0)
    found = []
    for box in row:
        bottom = box.top + box.height
        if not box.name:
            # Where an arrow passes a layer, it runs straight down.
            found.append(f'<path d="M{box.x:.1f} {box.top:.1f} V{box.top + tallest:.1f}"/>')
            bottom = box.top + tallest
        for lower in sorted(box.below, key=lambda other: other.x):
            middle = (box.top + tallest + lower.top) / 2
            head = ' marker-end="url(#arrow)"' if lower.name else ""
            start, end = f"M{box.x:.1f} {bottom:.1f}", f"{lower.x:.1f} {lower.top:.1f}"
            found.append(
                f'<path d="{start} V{box.top + tallest:.1f} C{box.x:.1f} {middle:.1f} '
                f'{lower.x:.1f} {middle:.1f} {end}"{head}/>'
            )
    return found


def _rooms(row: list[Box]) -> list[str]:
    layer, top = row[0].layer, row[0].top
    found = [f'<text class="margin" x="0" y="{top + _PADDING + _TITLE:.1f}">layer {layer}</text>']
    for box in row:
        if box.name:
            left = box.x - box.width / 2
            found.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="4"/>'
            )
            texts = [("title", box.name, top + _PADDING + _TITLE - 2)]
            texts += [("small", line, texts[0][2] + _LINE * count) for count, line in enumerate(box.lines, 1)]
            found += [
                f'<text class="{kind}" x="{left + _PADDING:.1f}" y="{y:.1f}">{escape(text)}</text>'
                for kind, text, y in texts
            ]
    return found


if __name__ == "__main__":
    DRAWING.write_text(draw(Package("metaopt", ROOT / "metaopt")), encoding="utf-8")
    print(DRAWING.relative_to(ROOT))
