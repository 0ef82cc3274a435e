"""A supervisor and what it starts: small commands first, then whole runs in two processes."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metaopt.__main__ import main
from metaopt.runs import supervise

from .specs import small, text


ROOT = Path(__file__).parent.parent.parent


def _python(program: str) -> list[str]:
    return [sys.executable, "-c", "import os, sys, time, signal\nindex = os.environ['METAOPT_PROCESS']\n" + program]


def test_all_processes_run_and_know_each_other(capfd: Any) -> None:
    names = ("COORDINATOR", "PROCESSES", "PROCESS", "DEVICES")
    program = f"print(*(os.environ['METAOPT_' + name] for name in {names}))"
    assert supervise(_python(program), processes=3) == 0
    out, err = capfd.readouterr()
    host, *rest = out.split()
    assert re.fullmatch(r"127\.0\.0\.1:\d+", host) and rest == ["3", "0", "0"]
    assert sorted(err.splitlines()) == [f"[1] {host} 3 1 1", f"[2] {host} 3 2 2"]


def test_when_one_dies_all_start_again(tmp_path: Path, capfd: Any) -> None:
    program = (
        f"folder = {str(tmp_path)!r}\n"
        "starts = len(os.listdir(folder))\n"
        "if index == '1':\n"
        "    open(f'{folder}/{starts}', 'w').close()\n"
        "    if starts < 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "elif starts < 2:\n"
        "    time.sleep(60)\n"
    )
    again = _python(program + "print('again', index)")
    begun = time.monotonic()
    assert supervise(_python(program), again=again, processes=2, pause=0.01) == 0
    assert time.monotonic() - begun < 20
    out, err = capfd.readouterr()
    # Process 0 may come to count after process 1, and is then through with the start before, too.
    assert set(out.splitlines()) == {"again 0"} and "[1] again 1\n" in err
    assert re.findall("^metaopt: (.*)$", err, re.MULTILINE) == [
        "process 1 was killed by signal 9; all start again in 0.01 s (retry 1 of 3).",
        "process 1 was killed by signal 9; all start again in 0.02 s (retry 2 of 3).",
    ]


def test_retries_are_bounded(capfd: Any) -> None:
    assert supervise(_python("sys.exit(7)"), processes=1, retries=2, pause=0.01) == 7
    err = capfd.readouterr().err
    assert err.count("all start again") == 2 and err.endswith(
        "process 0 ended with status 7; given up after 3 starts.\n"
    )
    assert supervise(_python("os.kill(os.getpid(), 9)"), processes=1, retries=0) == 137


@pytest.mark.parametrize("status", [2, 130, 143])
def test_what_would_end_the_same_way_is_not_repeated(capfd: Any, status: int) -> None:
    # The other one fails because of the first, and must not hide why.
    program = f"if index == '0': sys.exit({status})\ntime.sleep(60)"
    assert supervise(_python(program), processes=2, pause=0.01) == status
    assert capfd.readouterr().err == ""


def test_bad_numbers() -> None:
    with pytest.raises(ValueError, match="`processes` must be at least 1, but 0 was given"):
        supervise(["true"], processes=0)
    with pytest.raises(ValueError, match="`retries` must be at least 0, but -1 was given"):
        supervise(["true"], processes=1, retries=-1)


def _start(*arguments: Any) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("METAOPT_")} | {"PYTHONPATH": paths}
    pipes: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    return subprocess.Popen([sys.executable, *map(str, arguments)], env=environment, **pipes)


def _supervisor(program: str) -> subprocess.Popen[str]:
    """A supervisor of two processes in a process of its own."""
    return _start("-c", f"from metaopt.runs import supervise\nsupervise({_python(program)!r}, processes=2)")


def _until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise TimeoutError(f"Waited {seconds} s in vain.")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_signals_are_passed_on(tmp_path: Path) -> None:
    program = (
        "def save(*_):\n"
        "    time.sleep(0.3)\n"
        "    open(f'{folder}/saved' + index, 'w').close()\n"
        "    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "open(f'{folder}/ready' + index, 'w').close()\n"
        "time.sleep(60)"
    )
    supervisor = _supervisor(f"folder = {str(tmp_path)!r}\n{program}")
    _until(lambda: {p.name for p in tmp_path.iterdir()} == {"ready0", "ready1"})
    supervisor.send_signal(signal.SIGINT)
    _, err = supervisor.communicate(timeout=30)
    assert "KeyboardInterrupt" in err and supervisor.returncode != 0
    assert {p.name for p in tmp_path.iterdir()} == {"ready0", "ready1", "saved0", "saved1"}


def test_processes_end_with_their_supervisor(tmp_path: Path) -> None:
    program = (
        "from metaopt.runs._launch import end_with_supervisor\n"
        "end_with_supervisor()\n"
        f"open(f'{tmp_path}/' + str(os.getpid()), 'w').close()\n"
        "time.sleep(600)"
    )
    supervisor = _supervisor(program)
    pids = [int(name) for name in _until(lambda: len(os.listdir(tmp_path)) == 2 and os.listdir(tmp_path))]
    supervisor.kill()
    supervisor.communicate()
    _until(lambda: not any(map(_alive, pids)), 10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["-n", "2", "--", "bench", "estimators"],
            "`launch` starts runs: `python -m metaopt launch -n 2 -- run SPEC`.",
        ),
        (["-n", "2"], "`launch` starts runs"),
        (["-n", "0", "--", "run", "quickstart"], "`processes` must be at least 1, but 0 was given."),
    ],
)
def test_wrong_command_lines(capsys: Any, arguments: list[str], words: str) -> None:
    assert main(["launch", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"metaopt: {words}")


# From here on, whole runs.


def _spec(folder: Path, **changes: Any) -> Path:
    inner = {"name": "pes", "std": 0.001, "truncation": 5}
    estimator = {"name": "task_parallel", "inner": inner, "mesh": {"name": "mesh", "tasks": 2}}
    file = folder / "spec.toml"
    file.write_text(text(small(estimator=estimator, **changes)))
    return file


def _launch(spec: Path, out: Path, *options: Any, retries: int = 0) -> subprocess.Popen[str]:
    return _start("-m", "metaopt", "launch", "-n", 2, "--retries", retries, "--", "run", spec, "--out", out, *options)


def _finish(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=400)
    finally:
        process.kill()
    assert process.returncode == status, err
    return out, err


def _children(process: subprocess.Popen[str]) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return sorted(pid for pid, parent in pairs if parent == process.pid)


def _steps(out: Path) -> list[int]:
    """The complete checkpoints."""
    folder = out / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def _assert_same(out: Path, other: Path) -> None:
    for name in ("learner.metaopt", "history.json", "spec.toml"):
        assert (out / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.slow
def test_two_processes_give_what_one_with_two_devices_gives(tmp_path: Path) -> None:
    pytest.importorskip("orbax.checkpoint")
    spec, one, two = _spec(tmp_path, steps=4), tmp_path / "one", tmp_path / "two"
    out, err = _finish(_launch(spec, two))
    assert out.count("Meta-trained for 4 meta-steps") == 1 and "4/4" in out and "Traceback" not in err
    assert {p.name for p in two.iterdir()} == {"spec.toml", "checkpoints", "learner.metaopt", "history.json"} | {
        "metrics.csv",
        "history.png",
    }
    assert _steps(two) == [3, 4]
    assert main(["run", str(spec), "--out", str(one), "--quiet"]) == 0
    _assert_same(one, two)


@pytest.mark.slow
def test_what_is_wrong_is_said_once_and_not_repeated(tmp_path: Path) -> None:
    spec, out = _spec(tmp_path), tmp_path / "out"
    _, err = _finish(_launch(spec, out, "--set", "estimator.mesh.tasks=1", retries=3), 2)
    assert "There are 2 processes with 2 devices, but the estimator is spread over 1." in err
    assert "start again" not in err and not out.exists()
    out.mkdir()
    (out / "mine").write_text("mine")
    _, err = _finish(_launch(spec, out, retries=3), 2)
    assert "is not empty, and results are never overwritten" in err and "start again" not in err
    assert [p.name for p in out.iterdir()] == ["mine"]


_LONG = 6000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves that nobody disturbs."""
    pytest.importorskip("orbax.checkpoint")
    folder = tmp_path_factory.mktemp("whole")
    _finish(_launch(_spec(folder, steps=_LONG), folder / "out"))
    return folder / "out"


def _until_it_trains(out: Path, beyond: int = 0) -> None:
    _until(lambda: max(_steps(out), default=0) > beyond)


@pytest.mark.slow
def test_a_run_with_five_kills_ends_as_one_without(tmp_path: Path, whole: Path) -> None:
    """Digit for digit, each kill at a moment that nobody chose."""
    spec, out = _spec(tmp_path, steps=_LONG), tmp_path / "out"
    seed = int(os.environ.get("METAOPT_DRILL_SEED") or time.time_ns() % 10**6)
    draw, reached, killed = random.Random(seed), 0, []
    process = _launch(spec, out, "--quiet", retries=5)
    for _ in range(5):
        _until_it_trains(out, reached)
        time.sleep(draw.uniform(0.0, 0.5))
        children = _children(process)
        os.kill(children[draw.randrange(2)], signal.SIGKILL)
        _until(lambda: not set(children) & set(_children(process)))
        reached = max(_steps(out))
        killed.append(reached)
    _, err = _finish(process)
    assert err.count("all start again") == 5 and killed[-1] < _LONG, (seed, killed, err)
    _assert_same(whole, out)


@pytest.mark.slow
def test_half_a_checkpoint_is_ignored(tmp_path: Path, whole: Path) -> None:
    """All are killed when a checkpoint has begun to be written, and is not complete."""
    spec, out = _spec(tmp_path, steps=_LONG), tmp_path / "out"
    process = _launch(spec, out, "--quiet", retries=3)
    _until_it_trains(out)
    folder = out / "checkpoints"
    _until(lambda: list(folder.glob("*.orbax-checkpoint-tmp*")))
    for child in _children(process):
        os.kill(child, signal.SIGKILL)
    _finish(process)
    _assert_same(whole, out)
    assert all(p.name.isdigit() or p.name == "curves" for p in folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("to", ["supervisor", "one"])
def test_a_signal_saves_and_ends_all(tmp_path: Path, whole: Path, number: int, status: int, to: str) -> None:
    spec, out = _spec(tmp_path, steps=_LONG), tmp_path / "out"
    process = _launch(spec, out, "--quiet", retries=3)
    _until_it_trains(out)
    os.kill(process.pid if to == "supervisor" else _children(process)[1], number)
    _, err = _finish(process, status)
    assert 0 < _steps(out)[-1] < _LONG and "start again" not in err
    again = f"launch -n 2 -- run {out / 'spec.toml'} --out {out} --resume"
    assert f"What was reached is saved; go on with `python -m metaopt {again}`." in err
    _finish(_start("-m", "metaopt", *again.split()))
    _assert_same(whole, out)


@pytest.mark.slow
def test_a_full_disk_is_one_error_and_the_last_good_checkpoint_stays(tmp_path: Path, whole: Path) -> None:
    # The curves grow until they are larger than a file may be.
    spec, out = _spec(tmp_path, steps=_LONG), tmp_path / "out"
    # Set in a process of its own: to fork this one, in which jax runs, is not safe.
    limit = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    arguments = ("-m", "metaopt", "launch", "-n", 2, "--", "run", spec, "--out", out, "--quiet")
    _, err = _finish(_start("-S", "-c", limit, *arguments), 2)
    assert "start again" not in err and "Traceback" not in err
    assert re.search(r"metaopt: A checkpoint could not be written to `.*`; the last good one is that of step \d+.", err)
    assert 0 < _steps(out)[-1] < _LONG
    _finish(_launch(spec, out, "--resume"))
    _assert_same(whole, out)
