"""Files are written at once or not at all, as a plain `open` would make them, and leave nothing behind."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import metaopt
from metaopt._core.files._files import read_bytes, write_at_once


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_the_mode(mask: int, mode: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = os.umask(mask)
    try:
        metaopt.save(path, 1.0)
        assert _mode(path) == mode
        path.chmod(0o640)
        metaopt.save(path, 2.0)
        assert _mode(path) == mode
    finally:
        os.umask(before)


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    write_at_once(tmp_path / "link", [b"a", b"b"])
    assert (tmp_path / "link").is_symlink() and (tmp_path / "elsewhere").read_bytes() == b"ab"


# Writes a file in pieces; says when it has begun, and never ends.
_ENDLESS = """
import sys, time
from metaopt._core.files._files import write_at_once

def pieces():
    yield b"x" * 1000
    print("begun", flush=True)
    time.sleep(600)

write_at_once(sys.argv[1], pieces())
"""


@pytest.mark.skipif(os.name == "nt", reason="needs locks that end with their process")
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    strangers = ["checkpoint.0123456789ab", "checkpoint.backup.tmp", "other.0123456789ab.tmp", "xcheckpoint.tmp"]
    for name in strangers:
        (tmp_path / name).write_bytes(b"mine")
    writers = [
        subprocess.Popen([sys.executable, "-c", _ENDLESS, path], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == "begun\n"
        left = {each.name for each in tmp_path.iterdir()} - set(strangers)
        assert len(left) == 2 and all(name.startswith("checkpoint.") and name.endswith(".tmp") for name in left)
        write_at_once(path, [b"mine"])
        assert {each.name for each in tmp_path.iterdir()} == {*strangers, *left, "checkpoint"}
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait(60)
        write_at_once(path, [b"again"])
        (living,) = {each.name for each in tmp_path.iterdir()} - {*strangers, "checkpoint"}
        assert living in left
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    write_at_once(path, [b"at last"])
    assert {each.name for each in tmp_path.iterdir()} == {*strangers, "checkpoint"}


def test_a_scratch_that_is_taken_for_a_leftover_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the making of a file and its lock, another process may come."""
    fcntl = pytest.importorskip("fcntl")
    lock, taken = fcntl.flock, []

    def flock(handle: int, how: int) -> None:
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    write_at_once(tmp_path / "file", [b"content"])
    assert taken and [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("file", b"content")]


@pytest.mark.parametrize("refusal", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_files_cannot_be_locked_nothing_is_removed(
    refusal: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", flock)
    (tmp_path / "file.0123456789ab.tmp").write_bytes(b"left")
    write_at_once(tmp_path / "file", [b"content"])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "file.0123456789ab.tmp"]


def _fail(number: int) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("before", [True, False])
def test_a_full_disk_says_what_is_left_and_how_to_go_on(
    number: int, before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.metaopt"
    if before:
        metaopt.save(path, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _fail(number))
        with pytest.raises(OSError) as caught:
            metaopt.save(path, 2.0)
    error = caught.value
    assert error.errno == number and error.filename == str(path)
    kept = "what was saved there before is whole" if before else "nothing was saved there before"
    assert str(error.strerror).startswith(f"{os.strerror(number)}; {kept}. Make room")
    assert "`--resume`" in str(error) and str(path) in str(error)
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.metaopt"] * before
    assert not before or metaopt.load(path, 0.0) == 1.0


def test_an_error_names_the_destination(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"")
    with pytest.raises(OSError) as caught:
        write_at_once(tmp_path / "folder", [b"content"])
    assert caught.value.filename == str(tmp_path / "folder") and "Make room" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(OSError) as caught:
        write_at_once(tmp_path / ("n" * 250), [b"content"])
    assert caught.value.filename == str(tmp_path / ("n" * 250))


def test_the_folder_is_synced_after_the_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, sync = [], os.fsync

    def fsync(handle: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), (tmp_path / "file").exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_at_once(tmp_path / "file", [b"content"])
    assert synced == [(False, False), (True, True)]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    for path, words in ((tmp_path / "pipe", "it is a device or a pipe"), (Path("/dev/zero"), "a device"), ("\0", "")):
        with pytest.raises(metaopt.CheckpointError, match=f"cannot be read: .*{words}"):
            read_bytes(path)
    assert time.monotonic() - began < 60
    (tmp_path / "file").write_bytes(b"content")
    assert read_bytes(tmp_path / "file", 3) == b"con"
