"""The part of the bench of faults that reads damaged files, at a small size."""

import random
from pathlib import Path

import pytest

import metaopt
from metaopt.bench.faults._fuzz import attempt, bombs_in, measure, trials


def test_what_is_measured() -> None:
    rows, claims = measure(full=False, files=15, seed=1, size=2**12)
    assert [claim.id for claim in claims] == ["fuzz_undocumented", "fuzz_peak_mib"]
    assert claims[0].value == 0 and claims[1].value < 64 and "seed 1" in claims[0].note
    assert [row["count"] for row in rows[:3]] == [15] * 3 and rows[0]["files"].endswith("seeds 1:0 to 1:14")
    refused = {row["files"]: row["refused"] for row in rows}
    assert sum(refused.values()) > 20 and refused["a whole file of arrays"] == 0


def test_the_same_seed_makes_the_same_file() -> None:
    for trial in trials().values():
        assert trial.make(random.Random("1:2")) == trial.make(random.Random("1:2"))


def test_what_is_not_documented_is_counted(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise {".toml": KeyError, ".json": RecursionError}[path.suffix](f"{path}")

    def steer(path: Path) -> str:
        return "\x1b"

    trial = trials()["specs"]
    found = attempt(trial._replace(readers=(fail, steer)), tmp_path, 3, 0)
    assert len(found.undocumented) == 6 and found.undocumented[0].startswith("0:0: ")
    assert all(text.isprintable() for text in found.undocumented)


def test_memory_is_measured(tmp_path: Path) -> None:
    (whole,) = [each for name, each in bombs_in(tmp_path, size=2**16).items() if name == "a whole file of arrays"]
    path, (reader,) = whole
    reader(path)

    def hungry(path: Path) -> None:
        bytearray(100 * 2**20)

    trial = trials()["specs"]
    assert attempt(trial._replace(readers=(hungry,)), tmp_path, 1, 0).peak > 90
    with pytest.raises(metaopt.CheckpointError):
        metaopt.load(path)
