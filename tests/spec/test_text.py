"""Specs are read from files and written as TOML."""

import errno
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from metaopt.bench.faults._fuzz import attempt, trials
from metaopt.spec import SpecError, dumps, read
from metaopt.spec._text import _unique


def test_read_toml_and_json(tmp_path: Path) -> None:
    wanted = {"steps": 3, "learner": {"name": "ä", "rates": [0.5, 1]}}
    (tmp_path / "a.toml").write_text('steps = 3\n[learner]\nname = "ä"\nrates = [0.5, 1]\n', encoding="utf-8")
    (tmp_path / "a.json").write_text('{"steps": 3, "learner": {"name": "ä", "rates": [0.5, 1]}}', encoding="utf-8-sig")
    assert read(tmp_path / "a.toml") == wanted
    assert read(str(tmp_path / "a.json")) == wanted


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("a.toml", b"steps = 3\nlearner = = 4\n", "a.toml: Invalid value (at line 2, column 11)."),
        ("a.toml", b"a = 1\na = 2\n", "a.toml: Cannot overwrite a value (at line 2, column 6)."),
        ("a.toml", b"a = \xff", "a.toml: 'utf-8' codec can't decode byte 0xff in position 4: invalid start byte."),
        ("a.toml", b"a = " + b"[" * 100_000, "a.toml: too many tables and lists stand inside one another."),
        ("a.toml", b"a = " + b"1" * 5000, "a.toml: Exceeds the limit (4300 digits)"),
        ("a.json", b'{"a": 1\n"b": 2}', "a.json: Expecting ',' delimiter: line 2 column 1 (char 8)."),
        ("a.json", b'{"b": {"a": 1, "a": 2}}', "a.json: The key 'a' stands twice in one table."),
        ("a.json", b"[1]", "a.json: expected a table, given [1]."),
        ("a.json", b"", "a.json: Expecting value: line 1 column 1 (char 0)."),
        ("a.json", b"[" * 100_000, "a.json: too many tables and lists stand inside one another."),
        ("a.yaml", b"a: 1", "a.yaml: expected a `.toml` or `.json` file, given '.yaml'."),
        ("a", b"a = 1", "a: expected a `.toml` or `.json` file, given ''."),
    ],
)
def test_wrong_text(name: str, text: bytes, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(text)
    with pytest.raises(SpecError) as caught:
        read(name)
    assert str(caught.value).startswith(wanted)


def test_missing_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no.toml: there is no such file."):
        read(tmp_path / "no.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(SpecError, match=f"folder.toml: cannot be read: {os.strerror(errno.EISDIR)}."):
        read(tmp_path / "folder.toml")
    (tmp_path / "long.toml").symlink_to("long.toml")
    with pytest.raises(SpecError, match=f"long.toml: cannot be read: {os.strerror(errno.ELOOP)}."):
        read(tmp_path / "long.toml")


def test_dumps_is_what_one_would_write() -> None:
    spec = {
        "steps": 3,
        "learner": {"name": "chain", "stages": [{"name": "a", "inner": {"name": "b"}}, {"name": "c"}]},
        "rates": [0.5, [1e22, -2]],
        "odd key": {"": True},
        "mixed": [{"a": 1}, 2],
        "none": None,
    }
    assert (
        dumps(spec)
        == """\
steps = 3
rates = [0.5, [1e+22, -2]]
mixed = [{a = 1}, 2]
none = "none"

[learner]
name = "chain"

[[learner.stages]]
name = "a"

[learner.stages.inner]
name = "b"

[[learner.stages]]
name = "c"

["odd key"]
"" = true
"""
    )
    assert tomllib.loads(dumps(spec)) == spec | {"none": "none"}


scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.sampled_from(['"', "\\", "\x7f", "\n\r\t\0", "#", "'''", '"""', "\u2028", "😀", "none"]),
)
keys = st.text(max_size=4) | st.sampled_from(["a", "b", "a.b", "-", "1"])
tables = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@given(tables)
def test_what_is_written_can_be_read(spec: dict[str, Any]) -> None:
    assert tomllib.loads(dumps(spec)) == spec


def test_nan_is_written() -> None:
    assert dumps({"a": float("nan"), "b": float("-inf")}) == "a = nan\nb = -inf\n"
    assert dumps({}) == "\n"


def deep(depth: int) -> dict[str, Any]:
    return {"a": deep(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"a": {"b": [1, b"c"]}}, "a.b[1]: expected `number`, given b'c'."),
        ({"a": 2**63}, "a: expected `number`, given 9223372036854775808."),
        ({"a": {1: 2}}, "a: the key 1 is not a string."),
        ({"a": "\ud800"}, r"a: '\ud800' holds half a character."),
        ({"a": [{"\ud800": 1}]}, r"a[0]: '\ud800' holds half a character."),
        (deep(40), "a.a.a.a: more than 32 tables and lists stand inside one another."),
    ],
)
def test_what_cannot_be_written(spec: Any, wanted: str) -> None:
    with pytest.raises(SpecError) as caught:
        dumps(spec)
    assert str(caught.value).startswith(wanted)


def test_reading_takes_time_that_grows_with_the_length(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{" + ", ".join(f'"k{i}": {i}' for i in range(8000)) + "}")
    keys: list[str] = []

    class Text(str):
        def __eq__(self, other: object) -> bool:
            keys.append(self)
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    table = _unique([(Text(f"k{i}"), i) for i in range(2000)])
    assert len(table) == 2000 and len(keys) < 10_000
    assert len(read(tmp_path / "a.json")) == 8000
    for key in ("a." * 100_000 + "a", '"a" . ' * 100_000 + "a"):
        (tmp_path / "a.toml").write_text(f"{key} = 1")
        with pytest.raises(SpecError, match="a.toml: A key has more than 32 parts."):
            read(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("a" * 100_000 + " = '" + "a b." * 30 + "'\n[" + "a." * 30 + "a]\n")
    assert len(read(tmp_path / "a.toml")) == 2


def test_what_is_written_steers_no_terminal() -> None:
    spec = {"a": "\x1b[2J\x9b1m\u202e\U000e0001", "\x9b": {"\x1b": 1}}
    assert all(line.isprintable() for line in dumps(spec).splitlines()) and tomllib.loads(dumps(spec)) == spec


@pytest.mark.slow
def test_damaged_specs_raise_what_is_said(tmp_path: Path) -> None:
    found = attempt(trials()["specs"], tmp_path, 200, seed=0)
    assert not found.undocumented and 50 < found.refused < 190
