import errno
import math
import os

import numpy as np
import pytest

from metaopt import CheckpointError
from metaopt._core.files._curves import Curves, CurvesFile


EACH = [0.1, float(np.float32(0.1)), -0.0, 5e-324, math.inf, 1e308]
SOME = [(0, 3.0), (2, math.inf), (4, 0.3), (6, 1 / 3)]


def first(count):
    """The curves after so many steps."""
    return Curves(EACH[:count], [(step, number) for step, number in SOME if step <= count])


@pytest.fixture
def file(tmp_path):
    return CurvesFile(tmp_path / "curves")


def test_what_is_new_is_appended_and_read_back_exactly(file):
    about, before = [], b""
    for count in (0, 2, 2, 3, 6):
        about.append(file.append(first(count)))
        now = file.path.read_bytes()
        assert now.startswith(before) and len(now) == 8 + 16 * about[-1]["records"]
        before = now
    assert [each["records"] for each in about] == [1, 4, 4, 5, 10]
    again = CurvesFile(file.path)
    for count, each in zip((0, 2, 2, 3, 6), about, strict=True):
        assert repr(again.read(each)) == repr(first(count))
    whole = CurvesFile(file.path.with_name("whole"))
    assert whole.append(first(6)) == about[-1] and whole.path.read_bytes() == before


@pytest.mark.parametrize("tail", [b"", b"torn", bytes(16), bytes(40)])
def test_what_comes_after_the_checkpoint_is_cut_off(file, tail):
    about = file.append(first(3))
    exact = file.path.read_bytes()
    file.path.write_bytes(exact + tail)
    CurvesFile(file.path).read(about)
    assert file.path.read_bytes() == exact + tail
    again = CurvesFile(file.path)
    assert again.read(about, cut=True) == first(3)
    assert file.path.read_bytes() == exact
    file.path.write_bytes(exact + tail)
    assert again.append(first(6)) == file.append(first(6))
    assert CurvesFile(file.path).read(again.append(first(6))) == first(6)


def test_what_is_missing_damaged_or_foreign_is_said(file):
    about, path = file.append(first(3)), file.path
    exact = path.read_bytes()
    for content in (b"", exact[:-1], exact[:-16], bytes(8) + exact[8:], exact[:-1] + b"\x01"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="the curves of this run, is truncated, damaged"):
            CurvesFile(path).read(about, cut=True)
        assert path.read_bytes() == content
    with pytest.raises(CheckpointError, match="is truncated, damaged"):
        CurvesFile(path).read(about | {"records": 10**30})
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read: No such file .*keep both in one folder"):
        CurvesFile(path).read(about)
    for wrong in (None, [], {}, {"records": -1, "sha256": ""}, {"records": True, "sha256": ""}, {"records": 1}):
        with pytest.raises(CheckpointError, match="does not say which curves are its own"):
            CurvesFile(path).read(wrong)


def test_a_file_of_another_kind_is_left_alone(file):
    file.path.write_text("my own curves")
    with pytest.raises(FileExistsError, match="could not be written: there is a file that does not hold curves"):
        file.append(first(2))
    assert file.path.read_text() == "my own curves"
    file.path.write_bytes(b"METAC")  # what a crash may leave
    assert CurvesFile(file.path).read(file.append(first(2))) == first(2)


@pytest.mark.parametrize("left", [None, 0, 30])
def test_what_was_lost_while_it_was_written_is_written_anew(file, left):
    file.append(first(3))
    if left is None:
        file.path.unlink()
    else:
        os.truncate(file.path, left)
    about = file.append(first(6))
    assert CurvesFile(file.path).read(about) == first(6)


def test_a_full_disk_is_one_error_and_can_be_gone_on_from(file, monkeypatch):
    about = file.append(first(2))
    exact = file.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(OSError, match="curves`.* could not be written: No space left .*resume") as caught:
            file.append(first(4))
        assert caught.value.errno == errno.ENOSPC
    assert file.path.read_bytes().startswith(exact)
    assert CurvesFile(file.path).read(about, cut=True) == first(2)
    assert CurvesFile(file.path).read(file.append(first(6))) == first(6)


def test_a_process_that_does_not_write_says_the_same(file):
    other = CurvesFile(file.path.with_name("nowhere"))
    for count in (0, 3, 6):
        assert other.append(first(count), write=False) == file.append(first(count))
    assert not other.path.exists()
