"""Folders for files that can be made again: found without a home, and used only if nobody else can change them."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from metaopt._core.files import _cache
from metaopt._core.files._cache import cache_folder, private_folder, read_private, temporary_folder, write_private


pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and modes are those of POSIX")
NOBODY = 65534
as_root = pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("METAOPT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_the_folder_is_that_of_the_first_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert cache_folder("native") == Path("/home/ada/.cache/metaopt/native")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder("native") == Path("/home/ada/.cache/metaopt/native")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert cache_folder("native") == Path("/scratch/metaopt/native")
    monkeypatch.setenv("METAOPT_CACHE", "~/ours")
    assert cache_folder("native") == Path("/home/ada/ours/native")


def _nameless(_: int) -> None:
    raise KeyError("getpwuid(): uid not found")


def test_a_user_without_home_and_name_has_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pwd.getpwuid", _nameless)
    assert cache_folder("native") == temporary_folder("native") == tmp_path / f"metaopt-{os.geteuid()}-native"

    def missing() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", missing)
    assert cache_folder("native") == Path("/tmp", f"metaopt-{os.geteuid()}-native")


def test_a_private_folder_is_made_and_written_at_once(tmp_path: Path) -> None:
    folder, before = tmp_path / "a" / "native", os.umask(0)
    try:
        with private_folder(folder) as number:
            assert read_private(number, "x", 9) is None
            write_private(number, "x", b"first")
            write_private(number, "x", b"second")
            assert read_private(number, "x", 9) == b"second"
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "x")] == [0o700, 0o600]
    assert [path.name for path in folder.iterdir()] == ["x"]


def _link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def _replace(folder: Path) -> None:
    folder.rmdir()
    folder.write_text("no folder")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(lambda folder: folder.chmod(0o770), "its mode is 0770, wanted is 0700", id="group"),
        pytest.param(lambda folder: folder.chmod(0o1777), "can be changed by others", id="all"),
        pytest.param(
            lambda folder: os.chown(folder, NOBODY, -1), "belongs to the user 65534", id="owner", marks=as_root
        ),
        pytest.param(_link, "symbolic link", id="link"),
        pytest.param(_replace, "Not a directory", id="file"),
    ],
)
def test_a_folder_of_others_is_not_used(tmp_path: Path, spoil: Callable[[Path], None], reason: str) -> None:
    folder = tmp_path / "native"
    folder.mkdir(mode=0o700)
    spoil(folder)
    with pytest.raises(OSError, match=reason), private_folder(folder):
        pass


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(lambda file: file.chmod(0o620), "can be changed by others", id="mode"),
        pytest.param(lambda file: os.chown(file, NOBODY, -1), "belongs to the user 65534", id="owner", marks=as_root),
        pytest.param(lambda file: file.write_bytes(b"0123456789"), "more than 9 bytes", id="size"),
        pytest.param(lambda file: (file.unlink(), file.mkdir()), "no plain file", id="folder"),
        pytest.param(_pipe, "no plain file", id="pipe"),
        pytest.param(lambda file: (file.rename(f"{file}2"), file.symlink_to(f"{file}2")), "symbolic", id="link"),
    ],
)
def test_a_file_of_others_is_not_read_but_replaced(tmp_path: Path, spoil: Callable[[Path], None], reason: str) -> None:
    with private_folder(tmp_path / "native") as number:
        write_private(number, "x", b"x")
        spoil(tmp_path / "native" / "x")
        with pytest.raises(OSError, match=reason):
            read_private(number, "x", 9)
        write_private(number, "x", b"new")
        assert read_private(number, "x", 9) == b"new"


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with private_folder(tmp_path / "native") as number:
        write_private(number, "x", b"old")
        monkeypatch.setattr("os.replace", full)
        with pytest.raises(OSError, match="No space left"):
            write_private(number, "x", b"new")
        assert read_private(number, "x", 9) == b"old"
    assert [path.name for path in (tmp_path / "native").iterdir()] == ["x"]


def test_a_folder_that_is_swapped_while_it_is_open_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "native"
    with private_folder(folder) as number:
        write_private(number, "x", b"ours")
        folder.rename(tmp_path / "gone")
        folder.mkdir()
        (folder / "x").write_bytes(b"planted")
        assert read_private(number, "x", 9) == b"ours"


def test_folders_are_refused_by_peers_too(tmp_path: Path) -> None:
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers").chmod(0o777)
    with pytest.raises(PermissionError, match="wanted is 0700, or go-w"):
        _cache.check_private(tmp_path / "peers")
