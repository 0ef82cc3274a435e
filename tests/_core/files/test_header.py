"""The header of a checkpoint follows one schema; everything else is refused, and costs little."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import metaopt
from metaopt._core.files._header import HeaderError, parse_header
from metaopt.bench.faults._fuzz import attempt, parts, sealed, trials


LEAF = {"path": "['w']", "shape": [2], "dtype": "float32", "key": None}


def _text(**changes: Any) -> bytes:
    return json.dumps({"metadata": {}, "leaves": [LEAF | changes]}).encode()


def _parse(text: bytes, payload: int = 8) -> dict[str, Any]:
    return parse_header(memoryview(text), payload)


def test_a_right_header() -> None:
    assert _parse(_text()) == {"metadata": {}, "leaves": [LEAF]}
    assert _parse(_text(shape=[2**40, 0]), 0)["leaves"][0]["shape"] == [2**40, 0]
    assert _parse(_text(shape=[3, 2], dtype="uint32", key="threefry2x32"), 24)
    deep = {"metadata": {"a": json.loads("[" * 62 + "]" * 62), "text": '[[{{\\"' * 99}, "leaves": []}
    assert _parse(json.dumps(deep).encode(), 0) == deep


WRONG: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is not JSON"),
    "no JSON": (b"{'metadata': 1}", "is not JSON"),
    "half": (_text()[:-1], "is not JSON"),
    "a mark of byte order": (b"\xef\xbb\xbf" + _text(), "is not ASCII text at byte 0"),
    "no text": (b'{"metadata": "\xff"}', "is not ASCII text at byte 14"),
    "two bytes a character": (_text().decode().encode("utf-16-le"), "is not JSON"),
    "a list": (b"[]", "is not a table of `metadata` and `leaves`"),
    "a key more": (b'{"metadata": {}, "leaves": [], "more": 1}', "is not a table of"),
    "a key less": (b'{"leaves": []}', "is not a table of"),
    "metadata": (b'{"metadata": [], "leaves": []}', "has `metadata` that are no table"),
    "leaves": (b'{"metadata": {}, "leaves": {}}', "or `leaves` that are no list"),
    "a leaf": (b'{"metadata": {}, "leaves": [1]}', "describes leaf 0 by other words"),
    "a word more": (_text(more=1), "describes leaf 0 by other words"),
    "a path": (_text(path=3), "describes leaf 0 by other words"),
    "a key twice": (b'{"metadata": {"a": {"b": 1, "b": 2}}, "leaves": []}', "has a key twice in one table"),
    "a path twice": (json.dumps({"metadata": {}, "leaves": [LEAF, LEAF]}).encode(), r"has two leaves at `\['w'\]`"),
    "an unknown dtype": (_text(dtype="float33"), "of dtype 'float33', which is not known here"),
    "objects": (_text(dtype="object"), "which is not known here"),
    "times": (_text(dtype="datetime64[ns]"), "which is not known here"),
    "a dtype of fields": (_text(dtype=[["a", "<f4"]]), "which is not known here"),
    "no dtype": (_text(dtype=None), "which is not known here"),
    "a negative shape": (_text(shape=[-1]), "which is no list of whole numbers"),
    "a broken shape": (_text(shape=[2.0]), "which is no list of whole numbers"),
    "a shape of truth": (_text(shape=[True]), "which is no list of whole numbers"),
    "a shape of text": (_text(shape="2"), "which is no list of whole numbers"),
    "a large shape": (_text(shape=[2**50]), "which is too large"),
    "a shape that overflows": (_text(shape=[2**32, 2**32]), "which is too large"),
    "a shape that hides behind none": (_text(shape=[0, 2**62, 2**62]), "which is too large"),
    "many axes": (_text(shape=[1] * 33), "which is too large"),
    "a longer array": (_text(shape=[3]), "describes arrays of 12 bytes, but 8 bytes follow"),
    "a shorter array": (_text(shape=[1]), "describes arrays of 4 bytes, but 8 bytes follow"),
    "an unknown kind of key": (_text(dtype="uint32", key="fry"), "of kind 'fry', which is not known here"),
    "no kind of key": (_text(dtype="uint32", key=3), "of kind 3, which is not known here"),
    "keys of floats": (_text(key="threefry2x32"), "but they are no"),
    "keys of another size": (_text(dtype="uint32", key="rbg"), "but they are no"),
    "many digits": (b'{"metadata": {"a": ' + b"1" * 5000 + b'}, "leaves": []}', "is not JSON"),
    "deep": (b'{"metadata": {"a": ' + b"[" * 99 + b"]" * 99 + b'}, "leaves": []}', "more than 64 tables and lists"),
    "very deep": (b'{"a":' * 10**6, "more than 64 tables and lists"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str) -> None:
    text, words = WRONG[name]
    with pytest.raises(HeaderError, match=words):
        _parse(text)


@pytest.mark.parametrize("piece", [b"[],", b"{},", b'{"a":0},', b'"ab",', b"0.5,"])
def test_a_header_takes_little_memory(piece: bytes) -> None:
    text = b'{"metadata": {"a": [' + piece * (2**21 // len(piece)) + b'0]}, "leaves": []}'
    tracemalloc.start()
    try:
        _parse(text, 0)
    except HeaderError as error:
        assert "more tables, lists and numbers" in str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 * len(text) + 64 * 2**20


def test_what_could_not_be_read_again_is_not_saved(tmp_path: Path) -> None:
    for metadata in ({"a": json.loads("[" * 70 + "]" * 70)}, {"a": {1: 2, "1": 3}}):
        with pytest.raises(ValueError, match="This cannot be saved, as its header has .* It could not be read again"):
            metaopt.save(tmp_path / "tree", 1.0, metadata=metadata)
    for array in (np.asarray(["2020"], "datetime64[Y]"), np.ones(2, np.longdouble), np.ones(1, "timedelta64[s]")):
        if array.dtype.name != "float64":  # which a long one is on some machines
            with pytest.raises(TypeError, match="only numbers and random keys can be saved"):
                metaopt.save(tmp_path / "tree", array)
    assert not list(tmp_path.iterdir())


def _forged(path: Path, header: bytes, payload: bytes, **options: Any) -> Path:
    path.write_bytes(sealed(header, payload, **options))
    return path


@pytest.mark.parametrize("length", [10**6, 2**64 - 1])
def test_a_header_beyond_the_file(length: int, tmp_path: Path) -> None:
    with pytest.raises(metaopt.CheckpointError, match="is damaged: its header is longer than the file"):
        metaopt.read_header(_forged(tmp_path / "tree", _text(), bytes(8), length=length))


def test_booleans_are_such(tmp_path: Path) -> None:
    path = _forged(tmp_path / "tree", _text(dtype="bool"), b"\x00\x02")
    with pytest.raises(metaopt.CheckpointError, match="holds booleans that are none"):
        metaopt.load(path, {"w": jnp.zeros(2, bool)})


def test_a_name_steers_no_terminal(tmp_path: Path) -> None:
    path = _forged(tmp_path / "tree", _text(path="\x1b[2J\u202e"), bytes(8))
    with pytest.raises(metaopt.CheckpointError) as caught:
        metaopt.load(path, {"w": jnp.zeros(2)})
    assert "\\x1b[2J" in str(caught.value) and str(caught.value).isprintable()


def test_files_are_as_they_were(tmp_path: Path) -> None:
    metaopt.save(tmp_path / "tree", {"w": jnp.arange(3.0), "key": jr.key(1), "n": 4}, metadata={"steps": 3})
    header, payload = parts((tmp_path / "tree").read_bytes())
    assert list(header) == ["metadata", "leaves"] and [list(leaf) for leaf in header["leaves"]] == [list(LEAF)] * 3
    assert (
        payload
        == np.asarray(jr.key_data(jr.key(1))).tobytes() + np.int64(4).tobytes() + np.arange(3.0, dtype="f").tobytes()
    )


@pytest.mark.slow
def test_damaged_learners_raise_what_is_said(tmp_path: Path) -> None:
    found = attempt(trials()["learners"], tmp_path, 300, seed=0)
    assert not found.undocumented and 100 < found.refused < 280
