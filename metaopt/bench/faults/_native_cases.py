"""Ways to damage the cache of native kernels, and the process in which they are tried."""

import concurrent.futures
import contextlib
import dataclasses
import importlib
import json
import logging
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ...backend import XLA, Feature, Network, Pointwise, Tensor, find


_STRANGER = 54321
_SYMBOL = "metaopt_update"
_PLANTED = -1


class Place:
    """The files of one case: a cache, temporary files, and the kernel that was kept."""

    def __init__(self, root: Path, rng: random.Random):
        self.root, self.rng = root, rng
        self.cache, self.temporary = root / "cache", root / "tmp"
        self.folder = self.cache / "native"

    def kept(self, ending: str) -> Path:
        """The file of the kernel with this ending."""
        (found,) = self.folder.glob(f"*.{ending}")
        return found


@dataclasses.dataclass(frozen=True)
class Case:
    """Something that happens to a kernel that was kept.

    `chance`: it is another thing each time; `root`: only root can do it; `reference`: the reference
    may run afterwards.
    """

    spoil: Callable[[Place], Any]
    chance: bool = False
    root: bool = False
    reference: bool = False


# What becomes of a file.


def _rewrite(ending: str, change: Callable[[bytes, random.Random], bytes]) -> Callable[[Place], Any]:
    def spoil(place: Place) -> None:
        file = place.kept(ending)
        file.write_bytes(change(file.read_bytes(), place.rng))

    return spoil


def _become(ending: str, change: Callable[[Path, Place], Any]) -> Callable[[Place], Any]:
    def spoil(place: Place) -> None:
        file = place.kept(ending)
        file.unlink()
        change(file, place)

    return spoil


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 64)):
        changed[rng.randrange(min(len(changed), 64) if rng.random() < 0.3 else len(changed))] ^= rng.randint(1, 255)
    return content[::-1] if bytes(changed) == content else bytes(changed)


def _zeros(content: bytes, rng: random.Random) -> bytes:
    """What a machine leaves that lost its power: the right length, and nothing from a page on."""
    begin = rng.randrange(0, max(len(content) - 1, 1)) // 4096 * 4096
    return content[:begin] + bytes(len(content) - begin)


def _linked(file: Path, place: Place) -> None:
    planted = place.root / "planted.so"
    planted.write_bytes(_library(_PLANTED))
    file.symlink_to(planted)


def _filled(file: Path, _: Place) -> None:
    file.mkdir()
    (file / "something").touch()


def _plant(place: Place) -> None:
    """A library of a stranger, with the right digest beside it."""
    content = _library(_PLANTED)
    place.kept("so").write_bytes(content)
    place.kept("sha256").write_text(f"{_compile().digest_of(content)}\n")


def _without_function(place: Place) -> None:
    content = _compiled('extern "C" int another() { return -1; }')
    place.kept("so").write_bytes(content)
    place.kept("sha256").write_text(f"{_compile().digest_of(content)}\n")


def _swap(place: Place) -> None:
    """The digest of another kernel."""
    place.kept("sha256").write_text(f"{_compile().digest_of(_library(_PLANTED))}\n")


def _give_away(ending: str) -> Callable[[Place], Any]:
    def spoil(place: Place) -> None:
        _plant(place)
        os.chown(place.kept(ending), _STRANGER, _STRANGER)

    return spoil


def _open(ending: str, mode: int) -> Callable[[Place], Any]:
    def spoil(place: Place) -> None:
        _plant(place)
        place.kept(ending).chmod(mode)

    return spoil


# What becomes of the folder. What lies in one that is not ours alone was planted.


def _folder(change: Callable[[Path], Any]) -> Callable[[Place], Any]:
    def spoil(place: Place) -> None:
        _plant(place)
        change(place.folder)

    return spoil


def _link_folder(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def _file_instead(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


def _both_open(place: Place) -> None:
    _plant(place)
    place.folder.chmod(0o777)
    shutil.copytree(place.folder, _compile().temporary_folder("native"))
    _compile().temporary_folder("native").chmod(0o777)


# What becomes of the process.


def _home(home: str | None) -> Callable[[Place], Any]:
    def spoil(_: Place) -> None:
        for name in ("METAOPT_CACHE", "XDG_CACHE_HOME", "HOME"):
            os.environ.pop(name, None)
        if home is not None:
            os.environ["HOME"] = home

    return spoil


def _no_temporary(place: Place) -> None:
    """No folder for temporary files, and none that `TMPDIR` names."""

    def missing() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    os.environ["TMPDIR"] = str(place.root / "missing")
    mock.patch.object(tempfile, "gettempdir", missing).start()
    mock.patch.object(_compile(), "temporary_folder", lambda _: place.root / "c++" / "none").start()
    (place.root / "c++").touch()
    place.kept("so").unlink()


def _no_place(place: Place) -> None:
    _no_temporary(place)
    place.folder.chmod(0o777)


def _compiler(command: str, *, empty: bool = True) -> Callable[[Place], Any]:
    """Another compiler, which does this; the cache has nothing of it."""

    def spoil(place: Place) -> None:
        script = place.root / "c++"
        script.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo another; exit 0; fi\n{command}\n')
        script.chmod(0o755)
        os.environ["CXX"] = str(script)
        if empty:
            shutil.rmtree(place.folder)

    return spoil


def _no_compiler(place: Place) -> None:
    place.folder.chmod(0o777)
    os.environ.update(CXX="no-such-compiler", PATH="")


def _full(place: Place) -> None:
    """No byte can be written, by anyone, as on a full disk; the compiler's result goes elsewhere."""
    shutil.rmtree(place.folder)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    mock.patch.object(_compile(), "write_private", refuse).start()


def _twins(place: Place) -> None:
    """Four threads find the cache empty at once."""
    shutil.rmtree(place.folder)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(_ask, [_number(place)] * 4))
    if found != [_number(place)] * 4:
        raise ValueError(f"threads at once got {found}")


def _verdict(text: bytes) -> Callable[[Place], Any]:
    """A verdict that no self-test has given is not believed, and makes room for one that was."""

    def spoil(place: Place) -> None:
        own = _compile()
        built = own.build(_source(_number(place)), [_SYMBOL])
        own.record(built, built.key, "the self-test is not content")
        file = place.kept("verdict")
        file.write_bytes(text)
        if own.verdict(built, built.key) is not None:
            raise ValueError(f"a verdict that was planted is believed: {own.verdict(built, built.key)}")
        own.record(built, built.key, "ok")
        if own.verdict(built, built.key) != "ok":
            raise ValueError("a verdict was lost")

    return spoil


CASES: dict[str, Case] = {
    "untouched": Case(lambda place: None),
    "library cut off": Case(_rewrite("so", lambda x, rng: x[: rng.randrange(len(x))]), chance=True),
    "library cut off in its header": Case(_rewrite("so", lambda x, rng: x[: rng.randrange(64)]), chance=True),
    "bytes of the library flipped": Case(_rewrite("so", _flip), chance=True),
    "library ends in zeros": Case(_rewrite("so", _zeros), chance=True),
    "library for another processor": Case(_rewrite("so", lambda x, _: x[:18] + b"\xf3\x00" + x[20:])),
    "noise for a library": Case(_rewrite("so", lambda x, rng: rng.randbytes(len(x))), chance=True),
    "text for a library": Case(_rewrite("so", lambda *_: b"#!/bin/sh\nexit 0\n")),
    "empty library": Case(_rewrite("so", lambda *_: b"")),
    "library missing": Case(lambda place: place.kept("so").unlink()),
    "folder for a library": Case(_become("so", _filled)),
    "pipe for a library": Case(_become("so", lambda file, _: os.mkfifo(file))),
    "link for a library": Case(_become("so", _linked)),
    "link to nothing for a library": Case(_become("so", lambda file, _: file.symlink_to("/no/such/file"))),
    "library of another source": Case(_rewrite("so", lambda *_: _library(_PLANTED))),
    "library without our functions": Case(_without_function),
    "library that the group may write": Case(_open("so", 0o660)),
    "library that all may write": Case(_open("so", 0o666)),
    "library of another user": Case(_give_away("so"), root=True),
    "library that cannot be read": Case(lambda place: place.kept("so").chmod(0)),
    "digest missing": Case(lambda place: place.kept("sha256").unlink()),
    "digest flipped": Case(_rewrite("sha256", lambda x, rng: _flip(x[:64], rng) + x[64:]), chance=True),
    "digest cut off": Case(_rewrite("sha256", lambda x, rng: x[: rng.randrange(64)]), chance=True),
    "digest of another kernel": Case(_swap),
    "folder for a digest": Case(_become("sha256", _filled)),
    "digest that all may write": Case(_open("sha256", 0o666)),
    "digest of another user": Case(_give_away("sha256"), root=True),
    "planted verdict": Case(_verdict(b"ok")),
    "damaged verdict": Case(_verdict(b"\xff\x00\n\xfe")),
    "folder that the group may write": Case(_folder(lambda folder: folder.chmod(0o770))),
    "folder that all may write": Case(_folder(lambda folder: folder.chmod(0o1777))),
    "folder of another user": Case(_folder(lambda folder: os.chown(folder, _STRANGER, -1)), root=True),
    "link for a folder": Case(_folder(_link_folder)),
    "file for a folder": Case(_folder(_file_instead)),
    "folder that cannot be written": Case(lambda place: place.folder.chmod(0o500)),
    "both folders open to all": Case(_both_open),
    "no home, no name": Case(_home(None)),
    "home that is not there": Case(_home("/proc/no/such/home")),
    "home that is a file": Case(_home("/dev/null")),
    "no temporary files": Case(_no_temporary),
    "no place at all": Case(_no_place, reference=True),
    "no compiler": Case(_no_compiler, reference=True),
    "compiler that fails": Case(_compiler("echo no >&2; exit 1"), reference=True),
    "compiler that hangs": Case(_compiler("sleep 1000 & wait"), reference=True),
    "compiler that makes nothing": Case(_compiler("exit 0"), reference=True),
    "compiler that makes garbage": Case(_compiler("echo garbage > kernel.so"), reference=True),
    "full disk": Case(_full),
    "four at once": Case(_twins),
}


# The kernel of a learned rule. The first one fills a cache, of which others damage a copy.


WHOLE: dict[str, Callable[[Place], Any]] = {
    "rule: cache that is empty": lambda place: shutil.rmtree(place.cache),
    "rule: library cut off": CASES["library cut off"].spoil,
    "rule: library ends in zeros": CASES["library ends in zeros"].spoil,
    "rule: damaged verdict": _rewrite("small.verdict", _flip),
    "rule: folder that all may write": lambda place: place.folder.chmod(0o777),
    "rule: no home, no name": _home(None),
}


def _whole(spoil: Callable[[Place], Any], place: Place, filled: Path) -> str:
    """Run a rule in a process that has not met it, against the reference."""
    if filled.exists():
        shutil.copytree(filled, place.cache)
    else:
        place.cache.mkdir()
    spoil(place)
    rule = Pointwise(
        lambda param, state, grad: (None, (param, grad)),
        lambda seen: [Feature(seen[0]), Feature(seen[1])],
        lambda seen, outputs: seen[0] - 0.1 * outputs[0],
    )
    network, param, grad = Network.create([2, 4, 1], key=jr.key(0)), *jr.normal(jr.key(1), (2, 40, 50))

    def update(backend: Any) -> np.ndarray:
        def kernel(network: Network, param: Any, grad: Any) -> Any:
            return backend.network_update(rule, network, jnp.zeros(0), [Tensor(param, None, grad)])[0].param

        return np.asarray(jax.jit(kernel)(network, param, grad))

    native: Any = find("native")
    wanted, found = update(XLA()), update(native(smallest=2))
    error = float(np.max(np.abs(found - wanted)))
    if _log or not error < 1e-4:
        raise ValueError(f"an error of {error:.1e}; {_log}")
    if not filled.exists():
        shutil.copytree(place.cache, filled)
    return "native"


# The process.


_log: list[str] = []


class _Log(logging.Handler):
    """Why the reference runs, if it does."""

    def emit(self, record: logging.LogRecord) -> None:
        if "no native kernel" in record.getMessage():
            _log.append(record.getMessage())


def _compile() -> Any:
    """The part of the native backend that compiles, which is another distribution's."""
    return importlib.import_module(f"{find('native').__module__.rpartition('.')[0]}._compile")


def _source(number: int) -> str:
    return f'extern "C" int {_SYMBOL}() {{ return {number}; }}'


def _compiled(source: str) -> bytes:
    """What the compiler makes, past the cache."""
    with tempfile.TemporaryDirectory() as scratch:
        return _compile()._compile_in(scratch, _compile().compiler()[0], source)


_planted: dict[int, bytes] = {}


def _library(number: int) -> bytes:
    if number not in _planted:
        _planted[number] = _compiled(_source(number))
    return _planted[number]


def _number(place: Place) -> int:
    return int(place.root.name.removeprefix("case"))


def _ask(number: int) -> int:
    return getattr(_compile().build(_source(number), [_SYMBOL]).library, _SYMBOL)()


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Variables, folders and patches of a case end with it."""
    variables, here, temporary = dict(os.environ), os.getcwd(), tempfile.tempdir
    try:
        yield
    finally:
        mock.patch.stopall()
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(here)
        tempfile.tempdir = temporary
        _compile().compiler.cache_clear()


def _try(index: int, name: str, root: Path, filled: Path, seed: int) -> str:
    """The outcome of a case; raises if it has not survived."""
    place, own = Place(root / f"case{index}", random.Random(f"{seed} {index}")), _compile()
    place.temporary.mkdir(parents=True)
    os.environ["METAOPT_CACHE"], tempfile.tempdir = str(place.cache), str(place.temporary)

    def nameless(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    mock.patch("pwd.getpwuid", nameless).start()
    if name in WHOLE:
        return _whole(WHOLE[name], place, filled)
    mock.patch.object(own, "_PATIENCE", 0.5 if name == "compiler that hangs" else own._PATIENCE).start()
    case, number = CASES[name], index
    if _ask(number) != number:
        raise ValueError("the kernel is wrong before anything has happened")
    case.spoil(place)
    own.compiler.cache_clear()
    outcome = "native"
    for _ in range(2):
        try:
            found = _ask(number)
        except own.CompileError as error:
            if not case.reference:
                raise
            outcome = f"reference: {error}".replace(str(root), "...")[:120]
        else:
            if found != number:
                raise ValueError(f"the kernel gave {found} for {number}")
    return outcome


def main() -> None:
    """Try the cases that standard input names, one line of JSON for each."""
    task = json.load(sys.stdin)
    logger = logging.getLogger("metaopt")
    logger.addHandler(_Log())
    logger.propagate = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
        for index, name in task["cases"]:
            said: dict[str, Any] = {"case": index, "survived": True}
            with _restored():
                try:
                    said["outcome"] = _try(index, name, Path(root), Path(task["filled"]), task["seed"])
                except Exception as error:
                    said |= {"survived": False, "outcome": f"{type(error).__name__}: {error}"[:300]}
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
