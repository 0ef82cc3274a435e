"""What kills, full disks and twins do to runs: nothing that a resumed run does not make good."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import multiprocessing
import os
import pathlib
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..._core import CheckpointError, read_header
from ...spec import dumps
from ..base import Claim


SEED = 20261130
_LONGEST = 180.0
_TRIES = 6
# A run saves so often.
_TENTHS = 10
_WORDS = {
    "kill": "SIGKILL at any time",
    "save": "SIGKILL inside of a save",
    "term": "SIGTERM",
    "full": "full disk",
    "twin": "twin start",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A run that something was done to, and that was resumed."""

    kind: str
    seed: str
    fault: str
    reason: str
    leftover: tuple[str, ...]


def measure(
    *, full: bool = False, kills: int = 20, terms: int = 5, disks: int = 5, twins: int = 5, steps: int = 20_000
) -> tuple[list[dict[str, Any]], list[Claim]]:
    """Disturb runs at seeded random moments, resume them, and compare all files with those of a run left alone.

    A half of the kills come by the clock; the other half inside of what saves, just before or after a file is on the
    disk or has taken its place, where chance alone would seldom fall.

    **Arguments:**

    - `full`: nothing changes.
    - `kills`, `terms`, `disks`, `twins`: how many of each.
    - `steps`: how many meta-steps a run has.

    **Returns:**

    Rows for people, and the claims `kills_identical_share` and `leftover_files`.

    **Raises:**

    - `RuntimeError`: if this system has no `fork`, or a run that is left alone fails.
    """
    del full
    if "forkserver" not in multiprocessing.get_all_start_methods():
        raise RuntimeError("This bench kills processes as POSIX systems do; run it on Linux or macOS.")
    plan = ["kill"] * (kills - kills // 2) + ["save"] * (kills // 2)
    plan += ["term"] * terms + ["full"] * disks + ["twin"] * twins
    with tempfile.TemporaryDirectory(prefix="metaopt-faults-") as scratch:
        bench = _Bench(pathlib.Path(scratch), steps)
        with _small_disks(bench.root, disks) as small, concurrent.futures.ThreadPoolExecutor(2) as workers:
            bench.disks = small
            numbers = {kind: iter(range(plan.count(kind))) for kind in set(plan)}
            cases = list(workers.map(lambda kind: bench.case(kind, next(numbers[kind])), plan))
        how = "a small tmpfs that was filled" if small else "an `os.fsync` that raises ENOSPC"
    good = sum(not case.reason for case in cases)
    left = sum(len(case.leftover) for case in cases)
    rows = [_row(kind, [case for case in cases if case.kind == kind]) for kind in _WORDS if kind in plan]
    for case in cases:
        if case.reason or case.leftover:
            what = case.reason or "identical"
            rows.append({"case": case.seed, "fault": case.fault, "not identical because": what, "left": case.leftover})
    note = f"{len(cases)} cases, seed {SEED}; full disks are {how}; runs of {steps} meta-steps"
    return rows, [
        Claim("kills_identical_share", good / len(cases), note),
        Claim("leftover_files", left, "in the folders of all cases, after they were resumed"),
    ]


def _row(kind: str, cases: list[Case]) -> dict[str, Any]:
    identical = f"{sum(not case.reason for case in cases)} of {len(cases)}"
    faults = ", ".join(case.fault.split(" (")[0] for case in cases)
    left = sum(len(case.leftover) for case in cases)
    return {"case": _WORDS[kind], "identical": identical, "left over": left, "seed": SEED, "last saved step": faults}


class _Bench:
    """Runs of one spec, each in a process of its own, which start quickly: they are forked after all imports."""

    def __init__(self, root: pathlib.Path, steps: int):
        self.root, self.steps = root, steps
        self.disks: list[pathlib.Path] = []
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__, "metaopt.runs", "metaopt.registry"])
        self.spec = root / "run.toml"
        self.spec.write_text(dumps(_spec(steps)))
        # The first one fills the cache of compiled programs.
        for name in ("first", "whole"):
            process = self.start(root / name, fault=("count", 0, 0))
            self.wait(root / name, process, 1)
            begun = time.monotonic()
            process.join(_LONGEST)
            if process.exitcode != 0:
                raise RuntimeError(f"A run that was left alone failed: {self.said(root / name)}")
            self.seconds = (time.monotonic() - begun) / (_TENTHS - 1)
        self.whole = _content(root / "whole")
        self.calls = int((root / "whole.count").read_text())
        different = _difference(_content(root / "first"), self.whole)
        if different:
            raise RuntimeError(f"Two runs that were left alone differ: {different}")

    def start(self, out: pathlib.Path, *, resume: bool = False, fault: tuple[str, int, int] | None = None) -> Any:
        words = ["run", str(self.spec), "--out", str(out), "--quiet", *(["--resume"] if resume else [])]
        arguments = (words, str(self.log(out)), str(self.root / "cache"), fault)
        process = self.context.Process(target=_child, args=arguments, daemon=True)
        process.start()
        return process

    def log(self, out: pathlib.Path) -> pathlib.Path:
        return self.root / f"{'-'.join(out.relative_to(self.root).parts)}.log"

    def said(self, out: pathlib.Path) -> str:
        """The last line that a run has printed."""
        lines = self.log(out).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing was printed"

    def case(self, kind: str, number: int) -> Case:
        """Disturb a run, go on, compare. What came too late, when the run was over, is done again a little earlier."""
        seed = f"{SEED}-{kind}-{number}"
        draw, fault, reason, out = random.Random(seed), "", "", self.root
        for attempt in range(_TRIES):
            home = self.disks[number] if kind == "full" and self.disks else self.root
            out = home / f"{kind}-{number}-{attempt}"
            fault, reason, struck = getattr(self, f"_{kind}")(out, draw, 0.8**attempt)
            if struck:
                break
            shutil.rmtree(out, ignore_errors=True)
        else:
            return Case(kind, seed, fault, f"the run was over before the fault, {_TRIES} times", ())
        if not reason and kind != "twin":
            process = self.start(out, resume=True)
            process.join(_LONGEST)
            reason = f"resuming ended with {process.exitcode}: {self.said(out)}" if process.exitcode != 0 else ""
        found = _content(out)
        reason = reason or _difference(found, self.whole)
        return Case(kind, seed, fault, reason, tuple(sorted(set(found) - set(self.whole))))

    def wait(self, out: pathlib.Path, process: Any, tenths: float) -> bool:
        """Wait until so many tenths of the meta-steps are done; returns whether the run still goes on."""
        end = time.monotonic() + _LONGEST
        while process.is_alive() and time.monotonic() < end:
            if (_steps(out) or 0) >= int(tenths) * (self.steps // _TENTHS) and (out / "checkpoint.metaopt").exists():
                process.join(tenths % 1 * getattr(self, "seconds", 0.0))
                break
            time.sleep(0.005)
        return process.is_alive()

    def _signal(self, out: pathlib.Path, tenths: float, number: int, status: int) -> tuple[str, str, bool]:
        process = self.start(out)
        alive = self.wait(out, process, tenths)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        process.join(_LONGEST)
        struck = alive and process.exitcode != 0
        reason = "" if process.exitcode == status else f"ended with {process.exitcode}, not {status}: {self.said(out)}"
        return _reached(out), reason if struck else "", struck

    def _kill(self, out: pathlib.Path, draw: random.Random, scale: float) -> tuple[str, str, bool]:
        return self._signal(out, scale * draw.uniform(0.0, _TENTHS), signal.SIGKILL, -signal.SIGKILL)

    def _term(self, out: pathlib.Path, draw: random.Random, scale: float) -> tuple[str, str, bool]:
        return self._signal(out, scale * draw.uniform(0.0, _TENTHS - 1), signal.SIGTERM, 143)

    def _save(self, out: pathlib.Path, draw: random.Random, scale: float) -> tuple[str, str, bool]:
        call, after = draw.randrange(self.calls), draw.randrange(2)
        process = self.start(out, fault=("kill", call, after))
        process.join(_LONGEST)
        when = f"{_reached(out)} ({'after' if after else 'before'} call {call})"
        return when, "" if process.exitcode == -signal.SIGKILL else f"ended with {process.exitcode}", True

    def _full(self, out: pathlib.Path, draw: random.Random, scale: float) -> tuple[str, str, bool]:
        if not self.disks:
            process = self.start(out, fault=("full", draw.randrange(self.calls), 0))
            process.join(_LONGEST)
        else:
            process = self.start(out)
            self.wait(out, process, scale * draw.uniform(0.0, _TENTHS - 2))
            ballast = out.parent / "ballast"
            _fill(ballast)
            process.join(_LONGEST)
            ballast.unlink()
        said = self.said(out)
        told = process.exitcode == 2 and "No space left on device" in said
        return _reached(out), "" if told else f"ended with {process.exitcode}: {said}", process.exitcode != 0

    def _twin(self, out: pathlib.Path, draw: random.Random, scale: float) -> tuple[str, str, bool]:
        pair = [self.start(out)]
        time.sleep(draw.uniform(0.0, 0.3))
        pair.append(self.start(out))
        for process in pair:
            process.join(_LONGEST)
        codes = sorted(process.exitcode for process in pair)
        text = self.log(out).read_text(errors="replace")
        told = "is in use by process" in text or "is not empty" in text
        reason = "" if codes == [0, 2] and told else f"the two ended with {codes}: {self.said(out)}"
        return "locked out" if "is in use by process" in text else "came too late", reason, True


def _child(arguments: list[str], log: str, cache: str, fault: tuple[str, int, int] | None) -> None:
    """What a forked process does: the command line, with what it prints in a file."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for standard in (1, 2):
        os.dup2(handle, standard)
    import jax
    from tqdm import tqdm

    # Its own lock would be counted among what a process that is killed leaves behind in the system.
    tqdm.set_lock(threading.RLock())
    # Nothing was computed yet in the process that was forked.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if fault is not None:
        _install(*fault, pathlib.Path(arguments[arguments.index("--out") + 1]))
    sys.argv = ["metaopt", *arguments]
    runpy.run_module("metaopt", run_name="__main__", alter_sys=True)


def _install(kind: str, at: int, after: int, out: pathlib.Path) -> None:
    """Let something happen at one of the calls that put what is saved on the disk."""
    done = [0]

    def fault(original: Callable[..., Any], may_fail: bool) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            number = done[0]
            done[0] += 1
            if kind == "count":
                out.with_name(f"{out.name}.count").write_text(str(done[0]))
            if kind == "full" and number >= at and may_fail:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if kind == "kill" and number == at and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = original(*args, **options)
            if kind == "kill" and number == at and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return call

    os.fsync, os.replace = fault(os.fsync, True), fault(os.replace, False)


@contextlib.contextmanager
def _small_disks(root: pathlib.Path, count: int) -> Iterator[list[pathlib.Path]]:
    """File systems of a megabyte, where this user may mount some; otherwise none."""
    disks = []
    try:
        if sys.platform == "linux" and os.geteuid() == 0:
            for index in range(count):
                disk = root / f"disk-{index}"
                disk.mkdir()
                command = ["mount", "-t", "tmpfs", "-o", "size=1m", "metaopt-faults", str(disk)]
                if subprocess.run(command, capture_output=True).returncode:
                    break
                disks.append(disk)
        yield disks if len(disks) == count else []
    finally:
        for disk in disks:
            subprocess.run(["umount", str(disk)], capture_output=True)


def _fill(ballast: pathlib.Path) -> None:
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def _content(out: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()} if out.is_dir() else {}


def _difference(found: dict[str, bytes], whole: dict[str, bytes]) -> str:
    return ", ".join(
        f"`{name}` {'differs' if name in found else 'is missing'}"
        for name, content in sorted(whole.items())
        if found.get(name) != content
    )


def _steps(out: pathlib.Path) -> int | None:
    """How far the last checkpoint is, if there is one."""
    try:
        return read_header(out / "checkpoint.metaopt")["metadata"]["meta_steps"]
    except CheckpointError:
        return None


def _reached(out: pathlib.Path) -> str:
    steps = _steps(out)
    return "the start" if steps is None else str(steps)


def _spec(steps: int) -> dict[str, Any]:
    bowls = {"name": "quadratics", "dimension": 2, "condition": 4.0}
    horizon = {"name": "constant", "longest": 10}
    return {
        "steps": steps,
        "learner": {"algorithm": {"name": "sgd", "learning_rate": 0.01}},
        "problem": {"tasks": 2, "family": bowls, "objective": "mean_loss", "horizon": horizon},
        "estimator": {"name": "pes", "std": 0.001, "truncation": 5},
        "outer": {"name": "clip_by_global_norm", "inner": {"name": "adam", "learning_rate": 0.001}},
        "validation": bowls,
        "validation_tasks": 2,
    }
