import errno
import os
import re
import signal
import subprocess
import sys
import warnings
from typing import Any

import pytest

import metaopt._core.files._lock as module
from metaopt._core.files._lock import Lock, locked_folder


def lock(file):
    return Lock(file, f"The folder `{file.parent}`", "Choose another.")


def test_a_second_one_is_refused_and_told_who_holds_it(tmp_path):
    file = tmp_path / "new" / ".lock"
    held = lock(file)
    holder = rf"process {os.getpid()} on \S+"
    with pytest.raises(BlockingIOError, match=rf"^The folder `.*new` is in use by {holder}\. Choose another\.$"):
        lock(file)
    held.release()
    held.release()
    assert not file.exists()
    lock(file).release()


def test_it_ends_with_the_process_that_holds_it(tmp_path):
    file = tmp_path / ".lock"
    program = (
        "import fcntl, os, sys, time\n"
        f"handle = os.open({str(file)!r}, os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(handle, fcntl.LOCK_EX)\n"
        "os.write(handle, b'\\x1b[31m')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read(1)\n"
        "os.pwrite(handle, b'process 1 on a-b.c', 0)\n"
        "print('said', flush=True)\n"
        "time.sleep(60)"
    )
    pipes: dict[str, Any] = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-S", "-c", program], **pipes) as child:
        assert child.stdout is not None and child.stdin is not None and child.stdout.readline() == b"held\n"
        # What is in the file is only shown if it is what this library writes.
        with pytest.raises(BlockingIOError, match="is in use by another process"):
            lock(file)
        child.stdin.write(b"x")
        child.stdin.flush()
        assert child.stdout.readline() == b"said\n"
        with pytest.raises(BlockingIOError, match=r"is in use by process 1 on a-b\.c\."):
            lock(file)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert file.exists()
    held = lock(file)
    assert re.fullmatch(rf"process {os.getpid()} on \S+\n", file.read_text())
    held.release()
    assert not file.exists()


def test_a_file_that_was_removed_meanwhile_is_not_locked(tmp_path, monkeypatch):
    """Who lets go removes the file, which another may have opened before, and a third makes anew."""
    file, flock, times = tmp_path / ".lock", module.fcntl.flock, []

    def slow(handle, how):
        if not times:
            file.unlink()
        times.append(handle)
        flock(handle, how)

    monkeypatch.setattr(module.fcntl, "flock", slow)
    held = lock(file)
    assert len(times) == 2 and file.exists() and not held.lost()
    file.unlink()
    assert held.lost()
    held.take()
    assert file.exists() and not held.lost()
    file.unlink()
    other = lock(file)
    assert held.lost() and not other.lost()
    with pytest.raises(BlockingIOError):
        held.take()
    held.release()
    assert file.exists()


def test_a_file_of_another_kind_is_left_alone(tmp_path):
    file = tmp_path / "poetry.lock"
    file.write_text("mine")
    for _ in range(2):
        with pytest.raises(FileExistsError, match="poetry.lock` is no lock of metaopt, but stands where"):
            lock(file)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("missing", ["module", "file system"])
def test_without_locks_a_warning_says_so(tmp_path, monkeypatch, missing):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(*((module, "fcntl", None) if missing == "module" else (module.fcntl, "flock", flock)))
    with pytest.warns(UserWarning, match=r"`.*` cannot be locked: .*no (`flock`|locks).* see to it that none does"):
        held = lock(tmp_path / ".lock")
    assert not held.lost() and not (tmp_path / ".lock").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held.take()
    held.release()


def test_a_folder(tmp_path):
    with locked_folder(None, "") as nothing:
        assert nothing is None
    with pytest.raises(ZeroDivisionError), locked_folder(tmp_path / "x", "Wait."):
        with pytest.raises(BlockingIOError, match="Wait."), locked_folder(tmp_path / "x", "Wait."):
            pass
        raise ZeroDivisionError
    assert list((tmp_path / "x").iterdir()) == []
