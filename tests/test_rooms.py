"""The drawing of the rooms is what its script makes of the imports."""

from pathlib import Path

from tests._architecture import Package
from tests._scripts import script


ROOT = Path(__file__).parent.parent
METAOPT = Package("metaopt", ROOT / "metaopt")


rooms = script("development/rooms.py")


def test_the_drawing_is_that_of_today() -> None:
    message = "the imports have changed: draw them again with `nox -s rooms`"
    assert rooms.DRAWING.read_text(encoding="utf-8") == rooms.draw(METAOPT), message


def test_every_room_is_drawn_once() -> None:
    names = [box.name for row in rooms.boxes(METAOPT) for box in row if box.name]
    assert sorted(names) == sorted({METAOPT.room(module) or "metaopt" for module in METAOPT.files})


def test_an_arrow_that_others_imply_is_left_out(tmp_path: Path) -> None:
    for name, text in {
        "__init__": "",
        "_core/__init__": "",
        "tasks/__init__": "from .. import _core",
        "meta/__init__": "from .. import _core, tasks",
    }.items():
        path = tmp_path / "planted" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    package = Package("planted", tmp_path / "planted")
    assert rooms.edges(package) == {("tasks", "_core"), ("meta", "tasks")}
