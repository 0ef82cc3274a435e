"""Text and JSON of results, and the description of the machine."""

import json
import math
import socket
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaopt.evaluate import machine, report, to_json, write_json
from metaopt.evaluate._text import figure


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1.000"),
        (-12.3456, "-12.35"),
        (1234.5, "1234"),
        (99999.0, "99999"),
        (1e6, "1e+06"),
        (0.001234, "0.001234"),
        (0.0001234, "0.0001234"),
        (1.23456e-7, "1.235e-07"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "-"),
    ],
)
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text


def test_rows_become_an_aligned_table() -> None:
    rows = [{"name": "a", "loss": 0.5}, {"name": "longer", "loss": jnp.asarray(12.0), "ok": True}]
    assert report(rows, title="Results").splitlines() == [
        "Results",
        "",
        "name".ljust(8) + "  loss   ok",
        "------  ------  ---",
        "a       0.5000    -",
        "longer   12.00  yes",
    ]
    assert report([]) == ""


def test_a_mapping_becomes_lines() -> None:
    text = report({"cpu": "fast", "devices": {"cpu": 2}, "times": [1.0, np.float32(2.0)], "none": None})
    assert text.splitlines() == ["cpu      fast", "devices  cpu: 2", "times    1.000, 2.000", "none     -"]


def test_json_is_strict() -> None:
    data = {
        "inf": -math.inf,
        "nan": [np.nan, jnp.inf],
        "array": jnp.arange(3),
        "half": jnp.ones(2, jnp.bfloat16),
        "flag": np.bool_(True),
        "text": np.asarray("x"),
        "tuple": (1, 2.5, None, "y"),
    }
    assert json.loads(to_json(data), parse_constant=pytest.fail) == {
        "inf": "-inf",
        "nan": [None, "inf"],
        "array": [0, 1, 2],
        "half": [1.0, 1.0],
        "flag": True,
        "text": "x",
        "tuple": [1, 2.5, None, "y"],
    }


@pytest.mark.parametrize("thing", [object(), 1j, {1, 2}, jax.random.key(0)])
def test_what_json_cannot_hold_is_named(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"`\$\.a\[1\]` is a "):
        to_json({"a": [0, thing]})


def test_files_are_written_at_once_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    write_json(path, [2])
    assert json.loads(path.read_text()) == [2]
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_json(tmp_path / "taken", {"a": 1})
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


def test_the_machine_is_described_without_names() -> None:
    found = machine()
    assert found["cores"] >= 1 and found["cpu"]
    assert found["jax"] == jax.__version__
    assert found["devices"] == {jax.devices()[0].device_kind: len(jax.devices())}
    assert socket.gethostname() not in to_json(found)
