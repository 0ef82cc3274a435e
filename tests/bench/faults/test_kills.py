import errno
import os
import signal
import sys

import pytest

from metaopt.bench.faults import _kills
from metaopt.bench.faults._kills import Case, measure


def test_what_differs_is_named():
    whole = {"a": b"1", "b": b"2"}
    assert _kills._difference({"a": b"1", "b": b"2", "c": b""}, whole) == ""
    assert _kills._difference({"b": b"3", "c": b""}, whole) == "`a` is missing, `b` differs"


def test_faults_come_at_their_call(tmp_path, monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, lambda *_: "done")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", os.fsync)
        patch.setattr(os, "replace", os.replace)
        _kills._install("full", 2, 0, tmp_path)
        assert os.fsync(0) == os.replace("", "") == "done"
        with pytest.raises(OSError) as caught:
            os.fsync(0)
        assert caught.value.errno == errno.ENOSPC and os.replace("", "") == "done"
    for after in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", os.fsync)
            patch.setattr(os, "replace", os.replace)
            _kills._install("kill", 1, after, tmp_path)
            os.fsync(0)
            assert len(killed) == after
            os.replace("", "")
    assert killed == [(os.getpid(), signal.SIGKILL)] * 2


def test_a_row_counts_what_went_wrong():
    cases = [Case("term", "1-term-0", "40", "", ("x.abc",)), Case("term", "1-term-1", "20", "`a` differs", ())]
    row = _kills._row("term", cases)
    assert row["identical"] == "1 of 2" and row["left over"] == 1 and row["seed"] == _kills.SEED


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_runs_survive_what_is_done_to_them():
    rows, claims = measure(kills=2, terms=1, disks=1, twins=1, steps=4000)
    identical, leftover = claims
    assert identical.id == "kills_identical_share" and identical.value == 1.0, rows
    assert leftover.id == "leftover_files" and f"seed {_kills.SEED}" in identical.note
    assert [row["identical"] for row in rows[:5]] == ["1 of 1"] * 5
