"""What `show` says of files that others have made."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

import metaopt
from metaopt.bench.faults._fuzz import sealed
from metaopt.runs import describe
from metaopt.spec import SpecError


def _described(path: Path, metadata: dict[str, Any], *names: str) -> list[str]:
    leaves = [{"path": name, "shape": [], "dtype": "bool", "key": None} for name in names]
    path.write_bytes(sealed(json.dumps({"metadata": metadata, "leaves": leaves}).encode(), bytes(len(names))))
    return describe(path).splitlines()


def test_nothing_steers_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07\x9b31m\u202e\r"
    metadata = {"kind": evil, evil: evil, "list": [evil], "spec": {"name": evil, evil: {evil: [evil]}}}
    lines = _described(tmp_path / f"file{evil[:2]}", metadata, evil, evil + "a\nb")
    assert all(line.isprintable() for line in lines) and any(r"\x1b]0;title\x07\x9b31m" in line for line in lines)
    assert 'name = "\\u001b]0;title\\u0007\\u009b31m\\u202e\\r"' in lines


@pytest.mark.parametrize(
    "metadata",
    [
        {"values": "text"},
        {"values": ["text", 1.0]},
        {"values": [None]},
        {"validations": [1.0]},
        {"validations": [[1, "a"]]},
        {"validations": {"a": 1}, "best_step": 3},
        {"values": [10**400]},
    ],
)
def test_what_is_no_curve_is_shown_as_it_is(metadata: dict[str, Any], tmp_path: Path) -> None:
    lines = _described(tmp_path / "file", metadata)
    assert lines[2:] == [*[f"{key}: {value}" for key, value in metadata.items()], "0 arrays of 0 numbers in all:"]


def test_curves_are_told_in_a_few_words(tmp_path: Path) -> None:
    metadata = {"values": [2.0, 1, 0.5], "validations": [[0, 2.0], [3, 1.5]], "best_step": 3}
    wanted = [
        "3 meta-steps, mean inner value 2 at first, 0.5 at last",
        "best validation loss 1.5 at meta-step 3",
        "0 arrays of 0 numbers in all:",
    ]
    assert _described(tmp_path / "file", metadata)[2:] == wanted
    assert _described(tmp_path / "file", {"values": [], "validations": []})[2:] == wanted[-1:]


def test_one_long_name_does_not_make_all_long(tmp_path: Path) -> None:
    lines = _described(tmp_path / "file", {}, "a" * 10_000, "b")
    assert len(lines[-1]) < 200 and len(lines[-2]) > 10_000


def test_a_spec_that_is_none(tmp_path: Path) -> None:
    assert "spec: 3" in _described(tmp_path / "file", {"spec": 3})
    with pytest.raises(SpecError, match="a: expected `number`, given"):
        _described(tmp_path / "file", {"spec": {"a": 2**70}})


def test_a_whole_file(tmp_path: Path) -> None:
    metaopt.save(tmp_path / "file", {"w": jnp.zeros((2, 3))}, metadata={"note": "Grüße"})
    assert describe(tmp_path / "file").splitlines()[2:] == [
        "note: Grüße",
        "1 arrays of 6 numbers in all:",
        "  ['w']  float32[2, 3]",
    ]
