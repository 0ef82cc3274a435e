"""The part of the benchmark `faults` that damages the cache of native kernels."""

import signal
import sys
from pathlib import Path

import pytest

from metaopt.backend import unusable
from metaopt.bench.faults import _native_cache


@pytest.mark.slow
def test_kernels_survive_what_is_measured() -> None:
    reason = unusable("native")
    if reason:
        pytest.skip(f"native: {reason}")
    rows, (claim,) = _native_cache.measure(full=False, cases=8, seed=3)
    assert (claim.id, claim.value) == ("native_cache_survived_share", 1.0), rows
    assert "8 of 8 cases of 8 kinds, seed 3" in claim.note
    assert [row["outcome"] for row in rows] == ["native"] * 8


def test_a_process_that_dies_fails_one_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "python"
    child.write_text('#!/bin/sh\necho \'{"case": 0, "survived": true, "outcome": "native"}\'\nkill -BUS $$\n')
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))
    found = _native_cache._in_process([0, 1, 2], ["untouched"] * 3, 0, str(tmp_path))
    assert found[0]["survived"] and not found[1]["survived"] and 2 not in found
    assert f"the process ended with status {-signal.SIGBUS:d}" in found[1]["outcome"]


def test_where_nothing_can_be_compiled_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native_cache, "unusable", lambda _: "there is no C++ compiler")
    assert _native_cache.measure(full=False) == ([{"native cache": "not measured: there is no C++ compiler"}], [])
    names = _native_cache._choose(100)
    assert len(names) == 100 and len(set(names)) > 45
