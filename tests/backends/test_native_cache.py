"""The cache of native kernels: whatever became of it, what is loaded is what was compiled."""

import contextlib
import ctypes
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metaopt_backends.native import _compile
from metaopt_backends.native._compile import Built, CompileError, build, record, verdict


NOBODY = 65534
as_root = pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can give files away")
SYMBOLS = ["metaopt_three"]
SOURCE = 'extern "C" int metaopt_three() { return 3; }'


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Libraries that a compiler has made once: one, and one that a stranger has planted, without our symbols."""
    if _compile.compiler() is None:
        pytest.skip("there is no C++ compiler")
    folder, made = tmp_path_factory.mktemp("libraries"), {}
    for name, source in {"ours": SOURCE, "other": 'extern "C" int other() { return 4; }'}.items():
        made[name] = _compile._compile(_compile.compiler()[0], source, {folder: -1})  # type: ignore[index]
    return made


class Fake:
    """A compiler that copies a library, and counts how often."""

    def __init__(self, folder: Path, library: bytes):
        self.path, self.log, self.library = folder / "c++", folder / "log", folder / "made.so"
        self.library.write_bytes(library)
        self.write(f"cp {self.library} kernel.so")

    def write(self, command: str) -> None:
        answer = f'#!/bin/sh\nif [ "$1" = --version ]; then echo fake 1.0; exit 0; fi\necho >> {self.log}\n{command}\n'
        self.path.write_text(answer)
        self.path.chmod(0o755)

    @property
    def runs(self) -> int:
        return self.log.read_text().count("\n") if self.log.exists() else 0


@pytest.fixture
def fake(tmp_path: Path, libraries: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """A quick compiler, an empty cache, and temporary files of our own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("METAOPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_compile, "_said", set())
    fake = Fake(tmp_path, libraries["ours"])
    monkeypatch.setenv("CXX", str(fake.path))
    _compile.compiler.cache_clear()
    yield fake
    _compile.compiler.cache_clear()


@pytest.fixture
def native(fake: Fake, tmp_path: Path) -> Path:
    return tmp_path / "cache" / "native"


def three() -> Built:
    built = build(SOURCE, SYMBOLS)
    assert built.library.metaopt_three() == 3
    return built


def only(pattern: str, folder: Path) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_what_was_compiled_is_loaded_again(fake: Fake, native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = three()
    assert {path.name for path in native.iterdir()} == {f"{first.key}.so", f"{first.key}.sha256"}
    assert only("*.sha256", native).read_text().splitlines()[::2] == [first.digest, "fake 1.0"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (native, *native.iterdir())} == {0o700, 0o600}
    assert three()[:2] == first[:2] and fake.runs == 1
    # Another compiler, or a processor that can do less, finds nothing.
    monkeypatch.setattr(_compile, "instruction_set", lambda: "another")
    assert three().key != first.key and fake.runs == 2


def test_two_kernels_are_two_libraries(fake: Fake, libraries: dict[str, bytes]) -> None:
    first = three()
    fake.library.write_bytes(libraries["other"])
    second = build("another source", ["other"])
    assert second.library.other() == 4 and first.library.metaopt_three() == 3


def test_a_library_that_is_damaged_later_does_no_harm(native: Path) -> None:
    loaded = three().library
    os.truncate(only("*.so", native), 100)
    assert loaded.metaopt_three() == 3


def _rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda file: file.write_bytes(change(file.read_bytes()))


def _become(change: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def spoil(file: Path) -> None:
        file.unlink()
        change(file)

    return spoil


def _in_folder(file: Path) -> None:
    file.mkdir()
    (file / "something").touch()


SPOILT: dict[str, Callable[[Path], Any]] = {
    "truncated": _rewrite(lambda x: x[: len(x) // 2]),
    "a few bytes": _rewrite(lambda x: x[:10]),
    "empty": _rewrite(lambda _: b""),
    "a bit flipped": _rewrite(lambda x: x[:9] + bytes([x[9] ^ 1]) + x[10:]),
    "zeros": _rewrite(lambda x: bytes(len(x))),
    "text": _rewrite(lambda _: b"#!/bin/sh\n"),
    "longer": _rewrite(lambda x: x + b"\0"),
    "missing": Path.unlink,
    "a folder": _become(_in_folder),
    "a pipe": _become(os.mkfifo),
    "a link": _become(lambda file: file.symlink_to("/bin/sh")),
    "a link to nothing": _become(lambda file: file.symlink_to("/no/such/file")),
    "a link to itself": _become(lambda file: file.symlink_to(file)),
    "writable by the group": lambda file: file.chmod(0o660),
    "writable by all": lambda file: file.chmod(0o666),
    "unreadable": lambda file: file.chmod(0),
}
FOREIGN = [
    pytest.param(lambda file: os.chown(file, NOBODY, -1), id="another owner", marks=as_root),
    pytest.param(lambda file: os.chown(file, NOBODY, NOBODY), id="another owner and group", marks=as_root),
]


@pytest.mark.parametrize("ending", ["so", "sha256"])
@pytest.mark.parametrize("spoil", [*(pytest.param(v, id=k) for k, v in SPOILT.items()), *FOREIGN])
def test_what_is_not_as_it_was_stored_is_compiled_again(
    ending: str, spoil: Callable[[Path], Any], fake: Fake, native: Path, request: pytest.FixtureRequest
) -> None:
    first = three()
    file = native / f"{first.key}.{ending}"
    before = file.read_bytes()
    spoil(file)
    readable = os.access(file, os.R_OK)
    again = three()
    # What follows the first line of the digest is for people, and root can read everything.
    kept = ("unreadable" in request.node.name and readable) or (ending == "sha256" and "longer" in request.node.name)
    assert again[:2] == first[:2] and fake.runs == (1 if kept else 2)
    three()
    assert fake.runs == (1 if kept else 2) and (kept or file.read_bytes() == before)


def test_two_digests_that_were_swapped(fake: Fake, native: Path) -> None:
    three()
    build("another source", SYMBOLS)
    one, two = native.glob("*.sha256")
    fake.library.write_bytes(fake.library.read_bytes() + b"\0")
    one.write_text(f"{'0' * 64}\n")
    two.write_text("")
    three()
    build("another source", SYMBOLS)
    assert fake.runs == 4


def test_a_library_without_our_functions(
    fake: Fake, native: Path, libraries: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    key = three().key
    (native / f"{key}.so").write_bytes(libraries["other"])
    (native / f"{key}.sha256").write_text(_compile.digest_of(libraries["other"]))
    three()
    assert fake.runs == 2 and "it has no function `metaopt_three`" in caplog.text
    # Nor does the compiler make them.
    shutil.rmtree(native)
    fake.library.write_bytes(libraries["other"])
    with pytest.raises(CompileError, match="cannot be loaded: it has no function `metaopt_three`"):
        build(SOURCE, SYMBOLS)


@pytest.mark.parametrize("damage", [lambda x: x.replace("ok", "OK"), lambda _: "ok", lambda _: "", lambda _: "\0" * 9])
def test_a_verdict_that_was_not_recorded_is_not_believed(native: Path, damage: Callable[[str], str]) -> None:
    built = three()
    assert verdict(built, built.key) is None
    record(built, built.key, "ok")
    assert verdict(built, built.key) == "ok"
    assert verdict(built._replace(digest="another library"), built.key) is None
    file = only("*.verdict", native)
    file.write_text(damage(file.read_text()))
    assert verdict(built, built.key) is None
    file.write_bytes(b"\xff\xfe")
    assert verdict(built, built.key) is None
    file.unlink()
    file.mkdir()
    assert verdict(built, built.key) is None
    record(built, built.key, "ok")
    assert verdict(built, built.key) == "ok"
    file.chmod(0o666)
    assert verdict(built, built.key) is None


# Folders.


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


FOLDERS = [
    pytest.param(lambda folder: folder.chmod(0o770), id="writable by the group"),
    pytest.param(lambda folder: folder.chmod(0o777), id="writable by all"),
    pytest.param(lambda folder: os.chown(folder, NOBODY, -1), id="another owner", marks=as_root),
    pytest.param(lambda folder: folder.chmod(0o000), id="not readable"),
    pytest.param(lambda folder: (folder.rename(f"{folder}2"), folder.symlink_to(f"{folder}2")), id="a link"),
    pytest.param(lambda folder: (shutil.rmtree(folder), folder.write_text("")), id="a file"),
    pytest.param(lambda folder: (shutil.rmtree(folder.parent), folder.parent.touch()), id="below a file"),
]


@pytest.mark.parametrize("spoil", FOLDERS)
def test_a_folder_of_others_is_not_loaded_from(
    spoil: Callable[[Path], Any],
    fake: Fake,
    native: Path,
    libraries: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    key = three().key
    # What a stranger has planted runs when it is loaded from where he can write.
    (native / f"{key}.so").write_bytes(libraries["other"])
    (native / f"{key}.sha256").write_text(_compile.digest_of(libraries["other"]))
    spoil(native)
    if "not readable" in request.node.name and os.access(native, os.R_OK):
        pytest.skip("this user can read everything")
    for _ in range(3):
        three()
    assert fake.runs == 2
    (line,) = warnings(caplog)
    assert f"native kernels are neither loaded from `{native}` nor kept there" in line
    kept = _compile.temporary_folder("native")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700 and (kept / f"{key}.so").exists()


def test_where_no_folder_is_ours_it_is_compiled_for_this_process(
    fake: Fake, native: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in (native, _compile.temporary_folder("native")):
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    built = three()
    record(built, built.key, "ok")
    assert verdict(built, built.key) is None
    three()
    assert fake.runs == 2 and len(warnings(caplog)) == 3
    assert "a native kernel cannot be kept, and is compiled for this process alone" in warnings(caplog)[2]


def test_a_cache_that_can_only_be_read(fake: Fake, native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access, write = os.access, _compile.write_private
    key = three().key

    def writable(path: Any, mode: int) -> bool:
        return access(path, mode) and not (mode == os.W_OK and Path(path) == native)

    def refuse(folder: int, name: str, content: bytes) -> None:
        if os.stat(folder).st_ino == native.stat().st_ino:
            raise OSError(30, "Read-only file system")
        write(folder, name, content)

    monkeypatch.setattr("os.access", writable)
    monkeypatch.setattr(_compile, "write_private", refuse)
    three()
    assert fake.runs == 1
    build("another source", SYMBOLS)
    build("another source", SYMBOLS)
    assert fake.runs == 2
    kept = _compile.temporary_folder("native")
    assert sorted(path.suffix for path in kept.iterdir()) == [".sha256", ".so"] and not (kept / f"{key}.so").exists()


def test_a_full_disk(
    fake: Fake, native: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # The compiler finds no room in the first place, and says so in English.
    fake.write(
        f'case "$PWD" in {native}/*) echo "ld: No space left on device" >&2; exit 1;; esac; cp {fake.library} kernel.so'
    )

    def full(folder: int, name: str, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_compile, "write_private", full)
    three()
    assert fake.runs == 2
    (line,) = warnings(caplog)
    assert "cannot be kept" in line and "No space left on device" in line
    assert list(native.iterdir()) == []


@pytest.mark.parametrize("home", [None, "/no/such/home", "/dev/null", ""])
def test_without_a_home(
    home: str | None, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nameless(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    def refuse(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if not path.is_relative_to(tmp_path):
            raise PermissionError(13, "Permission denied", str(path))
        made(path, mode, parents, exist_ok)

    made = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr("pwd.getpwuid", nameless)
    for name in ("METAOPT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    for _ in range(2):
        three()
    assert fake.runs == 1 and _compile.temporary_folder("native").is_relative_to(tmp_path)
    assert len(warnings(caplog)) == (0 if home is None else 1)


def test_no_temporary_folder(fake: Fake, native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", missing)
    three()
    native.chmod(0o777)
    with pytest.raises(CompileError, match="there is no place to compile in: .*No usable temporary directory"):
        monkeypatch.setattr(_compile, "temporary_folder", lambda _: Path("/dev/null/metaopt"))
        build(SOURCE, SYMBOLS)


def test_leftovers_of_a_killed_process_are_removed(native: Path) -> None:
    three()
    old, new = (native / name for name in (".scratch-old", ".key.so.1.ab"))
    old.mkdir()
    (old / "kernel.cc").touch()
    new.touch()
    (native / "mine").touch()
    os.utime(old, (1, 1))
    build("another source", SYMBOLS)
    assert not old.exists() and new.exists() and (native / "mine").exists()


# Loading.


@pytest.mark.parametrize("system", ["darwin", "linux"])
def test_loading_where_nothing_runs_from_memory(system: str, native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sys.platform", system)
    if sys.platform == "linux":
        monkeypatch.setattr("os.memfd_create", denied, raising=False)
    for _ in range(2):
        three()
    assert {path.suffix for path in native.iterdir()} == {".so", ".sha256"}


# Compilers.


def _hang(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compile, "_PATIENCE", 0.3)
    fake.write(f"sleep 60 & echo $! > {fake.path}.child; wait")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("echo >&2 no; exit 3", "failed with status 3: no"),
        ("kill -9 $$", "failed with status -9"),
        ("exit 0", "ended without an error, but has made no library"),
        ("printf garbage > kernel.so", "cannot be loaded: .*(too short|invalid ELF|not a mach-o)"),
        ("printf '\\377' >&2; exit 1", "failed with status 1"),
    ],
)
def test_a_compiler_that_fails(command: str, reason: str, fake: Fake) -> None:
    fake.write(command)
    with pytest.raises(CompileError, match=reason):
        build(SOURCE, SYMBOLS)


def test_a_compiler_that_hangs_is_ended_with_its_children(
    fake: Fake, native: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hang(fake, monkeypatch)
    begun = time.monotonic()
    with pytest.raises(CompileError, match="was stopped after 0.3 seconds"):
        build(SOURCE, SYMBOLS)
    assert time.monotonic() - begun < 20 and list(native.iterdir()) == []
    child = int(Path(f"{fake.path}.child").read_text())
    for _ in range(100):
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
                time.sleep(0.05)
                continue
        return
    pytest.fail("a child of the compiler goes on")


TWIN = """
import sys
from metaopt_backends.native._compile import build
print(build(sys.argv[1], ["metaopt_three"]).library.metaopt_three())
"""


@pytest.mark.slow
def test_two_processes_that_compile_at_once(fake: Fake, native: Path) -> None:
    fake.write(f"sleep 0.5; cp {fake.library} kernel.so; echo $$ >> kernel.so")  # no two results are the same
    paths = os.pathsep.join(path for path in sys.path if path)
    variables = os.environ | {"PYTHONPATH": paths, "TMPDIR": str(tempfile.gettempdir())}
    twins = [
        subprocess.Popen([sys.executable, "-c", TWIN, SOURCE], env=variables, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [twin.communicate(timeout=120)[0] for twin in twins] == ["3\n", "3\n"]
    three()
    assert sorted(path.suffix for path in native.iterdir()) == [".sha256", ".so"]
    assert ctypes.CDLL(str(only("*.so", native))).metaopt_three() == 3
