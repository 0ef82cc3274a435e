"""Damaged files: what reads them raises what it says, and takes little memory."""

import contextlib
import copy
import functools as ft
import hashlib
import json
import math
import os
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import metaopt
from metaopt.l2o import Celo2, CeloAdam, load_published
from metaopt.l2o.published._msgpack import pack, unpack
from metaopt.l2o.published._published import read_published, save_published
from metaopt.meta import AbstractEstimator
from metaopt.registry import DEFAULT
from metaopt.runs import Run, describe, find, names
from metaopt.spec import SpecError, dumps, normalize, override, read

from ..base import Claim
from ._damage import damaged, damaged_bytes


_MIB = 2**20
# What is written without being a value of Python: texts of JSON, among them some that are none.
_PIECES = [
    *[
        b"[" * 70,
        b"[" * 100_000,
        b'{"a":' * 100,
        b"]" * 9,
        b"1" * 5000,
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"\xff",
        b"\xef\xbb\xbf",
    ],
    *[
        b'"\\ud800"',
        b'"\\u001b[2J"',
        b"\0",
        b'"',
        b"\\",
        b"\\u",
        b",",
        b":",
        b"{}",
        b"[]",
        b"//",
        b"'",
        b"0x1",
        b"01",
        b"1_0",
    ],
]
_TOML_PIECES = [
    *[
        b"=",
        b"[[a]]\n",
        b"[a.b.c]\n",
        b'"""',
        b"'''",
        b"1979-05-27T07:32:00Z",
        b"07:32:00",
        b"0o17",
        b"inf",
        b"nan",
        b"#",
    ],
    *[b"a = {b = 1}\n", b"a.b = 1\n", b"a." * 500, b"\n", b"\r", b"\t", b"= [" * 3, b"\x1b", b"\xc2\x9b", b"[" * 3000],
]


Readers = tuple[Callable[[Path], Any], ...]


class Trial(NamedTuple):
    """A kind of file: makes the name and the content of a damaged one of random numbers, and all that reads one."""

    make: Callable[[random.Random], tuple[str, bytes]]
    readers: Readers


class Outcome(NamedTuple):
    """What became of the files of a kind: how many the first reader refused, what was raised beside documented errors,
    the largest growth of memory beyond four times the file, in MiB, and the longest time, in seconds."""

    refused: int
    undocumented: list[str]
    peak: float
    slowest: float


def measure(
    *, full: bool, files: int = 20_000, seed: int = 0, size: int = 8 * _MIB
) -> tuple[list[dict[str, Any]], list[Claim]]:
    """Read damaged files of three kinds, and some that are made to take memory or time.

    **Arguments:**

    - `full`: five times as many.
    - `files`: how many of each kind.
    - `seed`: file `i` of a kind is made of `seed` and `i`.
    - `size`: how many bytes the largest have, about.
    """
    files = 5 * files if full else files
    rows, worst, undocumented = [], -math.inf, 0
    with _folder() as folder:
        for kind, trial in trials().items():
            found = attempt(trial, folder, files, seed)
            rows.append(_row(f"{kind}, seeds {seed}:0 to {seed}:{files - 1}", files, found))
            worst, undocumented = max(worst, found.peak), undocumented + len(found.undocumented)
        bombs = bombs_in(folder, size=size)
        for name, (path, readers) in bombs.items():
            found = _read_all([(name, path)], readers)
            rows.append(_row(name, 1, found))
            worst, undocumented = max(worst, found.peak), undocumented + len(found.undocumented)
    note = f"of {3 * files + len(bombs)} files, seed {seed}"
    return rows, [
        Claim("fuzz_undocumented", undocumented, f"errors other than documented ones, {note}"),
        Claim(
            "fuzz_peak_mib", worst, f"largest growth of memory beyond four times the file, {note}; target at most 64"
        ),
    ]


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder in memory, if there are such here: disks take longer than what is measured."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def _row(name: str, files: int, found: Outcome) -> dict[str, Any]:
    return {
        "files": name,
        "count": files,
        "refused": found.refused,
        "undocumented": len(found.undocumented),
        "MiB beyond 4x": round(found.peak, 1),
        "slowest s": round(found.slowest, 2),
        "first": found.undocumented[0] if found.undocumented else "",
    }


def trials() -> dict[str, Trial]:
    """The kinds of files, by name."""
    return {
        "learners": Trial(_damaged_learner, _LEARNER),
        "published weights": Trial(_damaged_weights, _WEIGHTS),
        "specs": Trial(_damaged_spec, _SPEC_TEXT),
    }


def attempt(trial: Trial, folder: Path, files: int, seed: int) -> Outcome:
    """Make damaged files, and read each of them."""

    def made() -> Iterator[tuple[str, Path]]:
        for index in range(files):
            name, content = trial.make(random.Random(f"{seed}:{index}"))
            path = folder / name
            path.write_bytes(content)
            yield f"{seed}:{index}", path
            path.unlink()

    return _read_all(made(), trial.readers)


def _read_all(files: Iterable[tuple[str, Path]], readers: Readers) -> Outcome:
    refused, undocumented, peak, slowest = 0, [], -math.inf, 0.0
    for name, path in files:
        before = _start_of_peak()
        for reader in readers:
            begun = time.perf_counter()
            try:
                found = reader(path)
                if isinstance(found, str) and not _is_printable(found):
                    undocumented.append(f"{name}: steers the terminal: {found!a}")
            except (metaopt.CheckpointError, SpecError) as error:
                refused += reader is readers[0]
                if not _is_printable(str(error)):
                    undocumented.append(f"{name}: steers the terminal: {str(error)!a}")
            except Exception as error:
                undocumented.append(f"{name}: {type(error).__name__}: {str(error)[:200]!a}")
            slowest = max(slowest, time.perf_counter() - begun)
        peak = max(peak, (_peak() - before - 4 * path.stat().st_size) / _MIB)
    return Outcome(refused, undocumented, peak, slowest)


def _is_printable(text: str) -> bool:
    return text.replace("\n", "").isprintable()


def _start_of_peak() -> int:
    """Have the kernel forget the largest size that this process had; returns its present one, in bytes."""
    with contextlib.suppress(OSError):  # elsewhere the largest of all stands for that of each
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    return _peak()


def _peak() -> int:
    with contextlib.suppress(OSError):
        return _status("VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(name: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


# Learners

_SPEC = {"algorithm": {"name": "learnable_sgd", "rate": 0.1}}


def sealed(header: bytes, payload: bytes, *, length: int | None = None) -> bytes:
    """A checkpoint with a right checksum, whatever stands in it."""
    size = len(header) if length is None else length
    body = size.to_bytes(8, "little") + header + payload
    return b"METAOPT1" + hashlib.sha256(body).digest() + body


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the arrays of a whole checkpoint."""
    end = 48 + int.from_bytes(content[40:48], "little")
    return json.loads(content[48:end]), content[end:]


@ft.cache
def _tree() -> dict[str, Any]:
    return {
        **{"weights": jnp.ones((2, 3)), "half": jnp.ones(3, jnp.bfloat16), "flags": jnp.asarray([True, False])},
        **{"key": jr.key(1), "empty": jnp.zeros((0, 2)), "number": 0.5, "count": 3},
    }


@ft.cache
def _learners() -> list[tuple[dict[str, Any], bytes]]:
    curves = {"values": [1.0, 0.5], "validations": [[0, 1.0], [2, 0.5]], "best_step": 2, "kind": "learner"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "base")
        metaopt.save(path, metaopt.build(_SPEC, metaopt.Learner), spec=_SPEC, metadata=curves)
        learner = parts(path.read_bytes())
        metaopt.save(path, _tree(), metadata=curves)
        return [learner, parts(path.read_bytes())]


def _damaged_learner(draw: random.Random) -> tuple[str, bytes]:
    header, payload = copy.deepcopy(draw.choice(_learners()))
    length = None
    if draw.random() < 0.25:
        # The header is right, so that it is the spec and the rest of what is said that is read.
        header["metadata"] = damaged(header["metadata"], draw)
        return "file.metaopt", sealed(json.dumps(header).encode(), payload)
    if draw.random() < 0.7:
        header = damaged(header, draw)
    if draw.random() < 0.2 and isinstance(header, dict) and isinstance(header.get("leaves"), list):
        _repeat_or_reorder(header["leaves"], draw)
    text = json.dumps(header).encode()
    if draw.random() < 0.4:
        text = damaged_bytes(text, draw, _PIECES)
    if draw.random() < 0.15:
        payload = damaged_bytes(payload, draw, [b"\0" * 4, b"\xff"])
    if draw.random() < 0.1:
        length = draw.choice([0, 1, len(text) - 1, len(text) + 1, len(text) + len(payload), 2**32, 2**63, 2**64 - 1])
    return "file.metaopt", sealed(text, payload, length=length)


def _repeat_or_reorder(items: list[Any], draw: random.Random) -> None:
    if items:
        items.insert(draw.randrange(len(items) + 1), copy.deepcopy(draw.choice(items)))
    if draw.random() < 0.5:
        items.remove(draw.choice(items)) if items else None
        draw.shuffle(items)


_LEARNER: Readers = (metaopt.read_header, lambda path: metaopt.load(path, _tree()), metaopt.load, describe)


# Published weights


@ft.cache
def _packed() -> list[bytes]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for rule in (CeloAdam(scheduler_size=1), Celo2(hidden_size=1)):
            save_published(Path(folder, "base"), rule)
            found.append(Path(folder, "base").read_bytes())
    return found


def _damaged_weights(draw: random.Random) -> tuple[str, bytes]:
    content = draw.choice(_packed())
    if draw.random() < 0.5:
        content = _pack(damaged(unpack(content), draw))
    return "file.state", damaged_bytes(content, draw, _MSGPACK_PIECES) if draw.random() < 0.8 else content


_MSGPACK_PIECES = [
    *[
        b"\x80",
        b"\x90",
        b"\xc0",
        b"\xc1",
        b"\x91" * 40,
        b"\xde\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
    ],
    *[
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xd4\x01\x00",
        b"\xcb" + b"\xff" * 8,
    ],
    *[b"\xd9\x03\xff\xff\xff", b"\xa3abc", b"\xc7\x05\x03", b"\x81\xb9__msgpack_chunked_array__\xc3"],
]


def _pack(tree: Any) -> bytes:
    """As flax would write it, for trees of anything."""
    if isinstance(tree, dict):
        items = [_pack(str(key)) + _pack(value) for key, value in tree.items()]
        return b"\xdf" + struct.pack(">I", len(items)) + b"".join(items)
    if isinstance(tree, list | tuple):
        return b"\xdd" + struct.pack(">I", len(tree)) + b"".join(map(_pack, tree))
    if isinstance(tree, str):
        text = tree.encode(errors="surrogatepass")
        return b"\xdb" + struct.pack(">I", len(text)) + text
    if tree is None or isinstance(tree, bool):
        return {None: b"\xc0", True: b"\xc3", False: b"\xc2"}[tree]
    if isinstance(tree, int):
        return b"\xd3" + struct.pack(">q", max(-(2**63), min(tree, 2**63 - 1)))
    if isinstance(tree, float):
        return b"\xcb" + struct.pack(">d", tree)
    return pack(np.asarray(tree))


def _into_a_rule(path: Path) -> None:
    """One file of sixteen that can be read at all: compiling takes its time."""
    kind, _ = read_published(path)
    if path.stat().st_size % 16 == 0:
        load_published(path, kind)


_WEIGHTS: Readers = (read_published, describe, _into_a_rule)


# Specs

_KINDS = {"learner": metaopt.Learner, "outer": metaopt.AbstractAlgorithm, "estimator": AbstractEstimator, "run": Run}


@ft.cache
def _runs() -> list[dict[str, Any]]:
    return [read(find(name)) for name in names()]


def _damaged_spec(draw: random.Random) -> tuple[str, bytes]:
    run = draw.choice(_runs())
    # Whole runs are long.
    kind = "run" if draw.random() < 0.05 else draw.choice(["learner", "outer", "estimator"])
    spec = copy.deepcopy(run if kind == "run" else run[kind])
    spec = {"name": spec} if isinstance(spec, str) else spec
    ending = draw.choice([".toml", ".json"])
    if draw.random() < 0.7:
        spec = damaged(spec, draw)
    text, pieces = json.dumps(spec).encode(), _PIECES
    if ending == ".toml" and isinstance(spec, dict):
        pieces = _TOML_PIECES + _PIECES
        with contextlib.suppress(SpecError):  # what TOML cannot hold stays JSON, which is no TOML
            text = dumps(spec).encode()
    return kind + ending, damaged_bytes(text, draw, pieces) if draw.random() < 0.5 else text


def _in_full(path: Path) -> str:
    return dumps(normalize(read(path), _KINDS[path.stem], registry=DEFAULT))


def _changed(path: Path) -> str:
    spec = override(read(path), ["steps=3", 'algorithm.name="\x1b[2J"'])
    return dumps(normalize(spec, _KINDS[path.stem], registry=DEFAULT))


def _made(path: Path) -> None:
    if path.stem == "outer":  # learners are made of the specs in their files
        metaopt.build(read(path), metaopt.AbstractAlgorithm)


_SPEC_TEXT: Readers = (_in_full, _changed, _made)


# Files that ask for much


def bombs_in(folder: Path, *, size: int) -> dict[str, tuple[Path, Readers]]:
    """Files that take much memory or time if they are believed, and a whole one that is large."""
    made: dict[str, tuple[Path, Readers]] = {}

    def add(name: str, content: bytes, readers: Readers = _LEARNER) -> None:
        path = folder / f"bomb{len(made)}"
        path.write_bytes(content)
        made[name] = path, readers

    def spec(**options: Any) -> bytes:
        return json.dumps({"metadata": {"spec": {"algorithm": options}}, "leaves": []}).encode()

    def metadata(text: bytes) -> bytes:
        return b'{"metadata": {"a": ' + text + b'}, "leaves": []}'

    add("a spec of a large network", sealed(spec(name="adafac_mlp", hidden_size=30_000), b""))
    add("a spec of many layers", sealed(spec(name="mlp", hidden_layers=20_000), b""))
    add("a spec of endless layers", sealed(spec(name="mlp", hidden_layers=2**62), b""))
    for name, piece in {"lists": b"[],", "tables": b"{},", "numbers": b"1,", "brackets": b"[", "text": b'"a",'}.items():
        add(f"a header of {name}", sealed(metadata(b"[" + piece * (size // len(piece)) + b"0]"), b""))
    add("a header of one text", sealed(metadata(b'"' + b"\\u00e4" * (size // 6) + b'"'), b""))
    add("a header of quotes", sealed(metadata(b'"' + b'\\"' * (size // 2)), b""))
    for name, piece in {"tables": b"\x80", "numbers": b"\x01"}.items():
        add(f"weights of many {name}", b"\x81\xa1a\xdd\x7f\xff\xff\xff" + piece * size, _WEIGHTS)
    nested = b"\x01" * size
    for _ in range(30):
        nested = b"\xc9" + struct.pack(">I", len(nested)) + b"\x01" + nested
    add("weights inside one another", b"\x81\xa1a" + nested, _WEIGHTS)
    large = folder / "large"
    metaopt.save(large, np.ones(2 * size, np.float32))
    made["a whole file of arrays"] = large, (_load_array,)
    return made


def _load_array(path: Path) -> None:
    (entry,) = metaopt.read_header(path)["leaves"]
    metaopt.load(path, np.broadcast_to(np.float32(0), entry["shape"]))
