import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

import metaopt
import metaopt.__main__ as command_line
import metaopt.backend._discovery as discovery
import metaopt.runs._execute as execution
from metaopt.__main__ import main
from metaopt._core.files._lock import locked_folder
from metaopt.backend import AbstractBackend
from metaopt.bench import Benchmark, Claim, Report
from metaopt.registry import DEFAULT
from tests.runs.specs import evaluated, small, text


ROOT = Path(__file__).parent.parent
SIGNALS = pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)


@pytest.fixture
def metaopt_(capsys):
    """Run a command; returns its status and what it printed to stdout and stderr."""

    def command(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


@pytest.fixture
def spec(tmp_path):
    """Write a spec; returns the file."""

    def write(table, name="spec.toml"):
        file = tmp_path / name
        file.write_text(table if isinstance(table, str) else text(table))
        return file

    return write


def one_line(err):
    assert err.startswith("metaopt: ") and err.count("\n") == 1, err
    return err.removeprefix("metaopt: ").rstrip("\n")


def test_list_shows_all_kinds_and_entries(metaopt_):
    status, out, err = metaopt_("list")
    assert status == 0 and err == ""
    assert re.findall("^(\\S+):$", out, re.MULTILINE) == [
        *("algorithms", "predictors", "heads", "clocks", "backends", "task-families", "classes", "accelerators"),
        *("tasks", "domains", "samplers", "residuals", "terms", "fields", "balancings", "resamplings", "solvers"),
        *("environments", "agents", "rewards", "controls", "explorations"),
        *("networks", "mixtures", "objectives", "horizons", "estimators", "methods", "meshes", "runs", "benches"),
    ]
    for kind in DEFAULT.kinds():
        for name in DEFAULT.names(kind):
            assert re.search(rf"^  {name} +[A-Z].*\.( \[.+\])?$", out, re.MULTILINE), name
    assert re.search(r"^  quickstart +[A-Z]", out, re.MULTILINE)
    assert "  import-cost " in out


@pytest.mark.parametrize("kind", ["objectives", "runs", "benches"])
def test_list_of_one_kind(metaopt_, kind):
    status, out, _ = metaopt_("list", kind)
    assert status == 0 and out.startswith(f"{kind}:\n  ") and out.count(":\n") == 1


def test_list_of_one_entry_shows_its_options(metaopt_):
    status, out, _ = metaopt_("list", "estimators", "pes")
    assert status == 0 and out.startswith(DEFAULT.summary(metaopt.meta.AbstractEstimator, "pes"))
    assert re.search(r"^  std +float \(.*\)$", out, re.MULTILINE)
    _, out, _ = metaopt_("list", "horizons", "constant")
    assert re.search(r"^  longest +int \(required\)$", out, re.MULTILINE)


def test_an_entry_that_cannot_be_imported_does_not_hide_the_others(metaopt_, monkeypatch):
    broken = DEFAULT.register(metaopt.AbstractAlgorithm, "broken", "no_such_module:X")
    monkeypatch.setattr("metaopt.__main__.DEFAULT", broken)
    status, out, _ = metaopt_("list", "algorithms")
    assert status == 0 and "(`broken` cannot be imported. ModuleNotFoundError" in out and "  adam " in out


@pytest.fixture
def offered(monkeypatch):
    """Backends that distributions offer, by the module and class of each."""

    def offer(**backends):
        entries = {name: EntryPoint(name, value, "metaopt.backends") for name, value in backends.items()}
        registry = DEFAULT
        for name, value in backends.items():
            if name not in DEFAULT.names(AbstractBackend):
                registry = registry.register(AbstractBackend, name, value)
        monkeypatch.setattr("metaopt.__main__.DEFAULT", registry)
        monkeypatch.setattr("metaopt.backend._discovery.offered", lambda _: entries)
        for cached in (discovery.installed, discovery._automatic):
            cached.cache_clear()

    yield offer
    for cached in (discovery.installed, discovery._automatic):
        cached.cache_clear()


def test_list_says_which_backends_can_be_used(metaopt_, offered):
    offered(pallas="metaopt_backends.pallas:Pallas", broken="no_such_module:X")
    status, out, err = metaopt_("list", "backends")
    assert status == 0 and err == ""
    assert re.search(
        r"^  pallas +K.*\. \[not usable here: it is for GPUs and TPUs, and jax runs on cpu here\]$", out, re.M
    )
    assert re.search(r"^  xla +K.*\. \[usable, and used here if none is named\]$", out, re.M)
    assert re.search(r"^  broken +\(`broken` cannot be imported\. ModuleNotFoundError: [^\]]*\)$", out, re.M)


def test_list_says_which_backend_is_chosen(metaopt_, offered, native):
    offered(native="metaopt_backends.native:Native")
    _, out, _ = metaopt_("list", "backends")
    assert re.search(r"^  native +C.*\. \[usable, and used here if none is named\]$", out, re.M)
    assert re.search(r"^  xla +K.*\. \[usable\]$", out, re.M)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "algoritms"], "no kind 'algoritms'; .*`task-families`.* Did you mean `algorithms`?"),
        (["list", "estimators", "pess"], "'pess' is not the name of any .*`unrolled`.* Did you mean `pes`?"),
        (["list", "runs", "quickstart"], "only entries of the registry have options"),
        (["run", "quickstat"], "no run 'quickstat'; there are .*`quickstart`.* Did you mean `quickstart`?"),
        (["run", "missing.toml"], "missing.toml: there is no such file"),
        (["run", "quickstart", "--resume"], "`--resume` needs the folder to go on in"),
        (["run", "quickstart", "--set", "steps"], "expected `path.to.option=value`, given 'steps'"),
        (["bench", "estimator"], "no benchmark 'estimator'; .*`l2o-digits`.* Did you mean `estimators`?"),
        (["bench", "estimators", "--json", "no/such/folder/x.json"], "cannot be written: its folder must exist"),
        (["bench", "estimators", "--json", "."], "cannot be written"),
        (["show", "missing.metaopt"], "`missing.metaopt` cannot be read: No such file or directory"),
        (["show", "."], "`.` cannot be read: Is a directory"),
    ],
)
def test_wrong_command_lines_get_one_line(metaopt_, arguments, words):
    status, out, err = metaopt_(*arguments)
    assert status == 2 and out == ""
    assert re.search(words.replace("?", "[?]"), one_line(err))


@pytest.mark.parametrize("arguments", [[], ["rnu"], ["run"], ["show"], ["bench", "--jsn", "x"]])
def test_what_argparse_refuses(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and "usage: python -m metaopt" in capsys.readouterr().err


TYPOS = {
    "stepz": ("stepz=3", "stepz: `Run` has no such option. Did you mean `steps`?"),
    "learner": ("learner.algoritm.name=sgd", "learner.algoritm: `Learner` has no such option"),
    "name": ("learner.algorithm.name=sdg", "learner.algorithm.name: 'sdg' is not the name of any `AbstractAlgorithm`"),
    "option": (
        "learner.algorithm.learning_rat=1",
        "learner.algorithm.learning_rat: `sgd` has no such option. Did you mean `learning_rate`?",
    ),
    "type": ("learner.algorithm.learning_rate=fast", "learner.algorithm.learning_rate: expected `float`, given 'fast'"),
    "problem": ("problem.taks=3", "problem.taks: `MetaProblem` has no such option. Did you mean `tasks`?"),
    "nested": ("problem.horizon.longst=3", "problem.horizon.longst: `constant` has no such option"),
    "inner": ("outer.inner.learning_rats=1", "outer.inner.learning_rats: `adam` has no such option"),
    "evaluation": ("evaluation.baseline=3", "evaluation.baseline: `Evaluation` has no such option"),
    "value": ("problem.tasks=0", "problem: `tasks` must be at least 1"),
    "horizon": ("problem.horizon.longest=0", "problem.horizon: "),
    "truncation": ("estimator.truncation=11", ".*[Tt]runcation"),
}


@pytest.mark.parametrize("typo", TYPOS)
def test_a_typo_at_any_level_is_one_line(metaopt_, spec, tmp_path, typo):
    change, words = TYPOS[typo]
    status, out, err = metaopt_("run", spec(evaluated()), "--set", change, "--out", tmp_path / "out")
    assert status == 2 and out == "" and not (tmp_path / "out").exists()
    assert re.match(
        f".*{words.replace('?', '[?]')}" if typo == "truncation" else words.replace("?", "[?]"), one_line(err)
    )


def test_a_spec_that_cannot_be_parsed(metaopt_, spec, tmp_path):
    status, _, err = metaopt_("run", spec("steps = = 3"), "--out", tmp_path / "out")
    assert status == 2 and "spec.toml: Invalid value (at line 1" in one_line(err)


def test_a_run_from_a_file_with_changes(metaopt_, spec, tmp_path):
    out_folder = tmp_path / "out"
    status, out, err = metaopt_("run", spec(small()), "--set", "steps=3", "--out", out_folder)
    assert status == 0 and err == ""
    assert out.startswith("Learn a rate.\n") and "3/3" in out and "Meta-trained for 3 meta-steps" in out
    assert len(json.loads((out_folder / "history.json").read_text())["values"]) == 3
    status, _, err = metaopt_("run", spec(small()), "--out", out_folder)
    assert status == 2 and "is not empty, and results are never overwritten" in one_line(err)


def test_the_default_folder(metaopt_, spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = metaopt_("run", spec(small(steps=1), "mine.toml"), "--quiet")
    (folder,) = (tmp_path / "runs").iterdir()
    assert status == 0 and re.fullmatch(rf"mine-\d{{8}}-\d{{6}}-\d{{6}}-{os.getpid()}", folder.name)
    assert f"runs/{folder.name}" in out and "%" not in out
    assert (folder / "learner.metaopt").exists()
    assert command_line._new_folder("mine.toml") != command_line._new_folder("mine.toml")


def test_a_folder_that_cannot_be_written(metaopt_, spec, tmp_path):
    blocker = spec("not a folder", "blocker.txt")
    status, _, err = metaopt_("run", spec(small()), "--out", blocker / "out")
    assert status == 2 and one_line(err) == f"{blocker / 'out'}: Not a directory."
    status, _, err = metaopt_("run", spec(small()), "--out", blocker)
    assert status == 2 and one_line(err) == f"{blocker}: File exists."
    assert blocker.read_text() == "not a folder"


def test_twins_in_one_folder(metaopt_, spec, tmp_path):
    with locked_folder(tmp_path / "out", ""):
        status, out, err = metaopt_("run", spec(small(steps=1)), "--out", tmp_path / "out")
    held = (
        rf"The folder `{tmp_path}/out` is in use by process {os.getpid()} on \S+\. Choose another with `--out`, or wait"
    )
    assert status == 2 and out == "" and re.match(held, one_line(err))


def _interrupt(monkeypatch, signals_after, number=signal.SIGINT):
    """Send a signal to this process when the given chunk of meta-steps has begun."""
    import metaopt.meta.training._train as module

    original, calls = module._chunk, []

    def chunk(*arguments):
        calls.append(1)
        if len(calls) == signals_after:
            os.kill(os.getpid(), number)
        return original(*arguments)

    monkeypatch.setattr(module, "_chunk", chunk)


@SIGNALS
def test_a_run_goes_on_bit_for_bit_after_a_signal(metaopt_, spec, tmp_path, monkeypatch, number, code):
    file, whole, parts = spec(small()), tmp_path / "whole", tmp_path / "parts"
    assert metaopt_("run", file, "--out", whole)[0] == 0
    with monkeypatch.context() as patch:
        _interrupt(patch, 4, number)
        status, _, err = metaopt_("run", file, "--out", parts)
    assert status == code
    again = f"python -m metaopt run {parts / 'spec.toml'} --out {parts} --resume"
    assert one_line(err) == f"interrupted. What was reached is saved; go on with `{again}`."
    assert 0 < metaopt.read_header(parts / "checkpoint.metaopt")["metadata"]["meta_steps"] < 20
    assert not (parts / "learner.metaopt").exists()
    assert metaopt_(*again.split()[3:])[0] == 0
    names = {path.name for path in whole.iterdir()}
    assert {path.name for path in parts.iterdir()} == names and "checkpoint.metaopt.curves" in names
    for name in names:
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_interrupt_in_the_evaluation_keeps_the_learner(metaopt_, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "compare", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    status, _, err = metaopt_("run", spec(evaluated()), "--out", tmp_path / "out")
    assert status == 130 and "--resume" in one_line(err)
    learner: Any = metaopt.load(tmp_path / "out" / "learner.metaopt")
    assert learner.algorithm.hyperparameters["learning_rate"] > 0


def test_an_interrupt_before_anything_was_saved(metaopt_, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "build", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    status, _, err = metaopt_("run", spec(small()), "--out", tmp_path / "out")
    assert status == 130 and one_line(err) == "interrupted."


def test_a_damaged_checkpoint_is_not_resumed_from(metaopt_, spec, tmp_path):
    file, out = spec(small(steps=2)), tmp_path / "out"
    metaopt_("run", file, "--out", out)
    checkpoint = out / "checkpoint.metaopt"
    damaged = checkpoint.read_bytes()[:-5]
    checkpoint.write_bytes(damaged)
    status, _, err = metaopt_("run", file, "--out", out, "--resume", "--set", "steps=3")
    assert status == 2 and "is truncated or damaged" in one_line(err)
    assert checkpoint.read_bytes() == damaged


def test_show(metaopt_, spec, tmp_path):
    metaopt_("run", spec(small()), "--out", tmp_path / "out")
    status, out, _ = metaopt_("show", tmp_path / "out" / "learner.metaopt")
    assert status == 0 and out.startswith(f'{tmp_path}/out/learner.metaopt: learner\n\n[algorithm]\nname = "sgd"\n')
    assert "1 arrays of 1 numbers in all:" in out and "['learning_rate']  float32[]" in out
    status, out, _ = metaopt_("show", tmp_path / "out" / "checkpoint.metaopt")
    assert status == 0 and ": meta-training\n" in out and "20 meta-steps, mean inner value" in out
    assert re.search(r"best validation loss \S+ at meta-step \d+\n", out) and "sha256" not in out
    (tmp_path / "out" / "checkpoint.metaopt.curves").unlink()
    status, out, _ = metaopt_("show", tmp_path / "out" / "checkpoint.metaopt")
    assert status == 0 and "checkpoint.metaopt.curves`, the curves of this run, cannot be read" in out
    assert "meta_steps: 20\n" in out and "['learning_rate']  float32[]" in out
    metaopt.save(tmp_path / "mine.metaopt", {"w": jnp.zeros((2, 3))}, metadata={"note": "my own"})
    status, out, _ = metaopt_("show", tmp_path / "mine.metaopt")
    assert out.splitlines()[2:] == ["note: my own", "1 arrays of 6 numbers in all:", "  ['w']  float32[2, 3]"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Just text.\n", "is not a metaopt checkpoint"),
        (b"", "is not a metaopt checkpoint"),
        (b"METAOPT1", "is truncated or damaged"),
        (b"METAOPT1" + bytes(100), "is truncated or damaged"),
    ],
)
def test_show_of_other_files(metaopt_, tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    status, out, err = metaopt_("show", tmp_path / "file")
    assert status == 2 and out == "" and words in one_line(err)


def test_show_of_a_truncated_learner(metaopt_, tmp_path):
    file = tmp_path / "x.metaopt"
    metaopt.save(file, {"w": jnp.zeros(3)})
    file.write_bytes(file.read_bytes()[:-1])
    status, _, err = metaopt_("show", file)
    assert status == 2 and one_line(err).startswith(f"`{file}` is truncated or damaged")


def test_what_is_said_steers_no_terminal(metaopt_, tmp_path, spec):
    evil = "\x1b[2J\x9b1m\u202e"
    (tmp_path / f"{evil}.metaopt").write_bytes(b"no checkpoint")
    for command in (
        ("show", tmp_path / f"{evil}.metaopt"),
        ("show", tmp_path / evil),
        ("list", "algorithms", evil),
        ("list", evil),
        ("run", evil),
        ("run", tmp_path / f"{evil}.toml"),
        ("run", spec(json.dumps({evil: evil}), "a.json"), "--set", f"{evil}={evil}"),
        ("run", spec(json.dumps({evil: evil}), "a.json")),
        ("bench", evil),
    ):
        status, out, err = metaopt_(*command)
        assert status == 2 and out == "" and one_line(err).isprintable() and re.search(r"\\(x|u00)1b\[2J", err)


def test_a_full_disk_is_told_with_what_to_do(metaopt_, tmp_path, spec, monkeypatch):
    file = tmp_path / "checkpoint.metaopt"
    metaopt.save(file, 1.0)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def execute(*_, **__):
        monkeypatch.setattr(os, "fsync", full)
        metaopt.save(file, 2.0)

    monkeypatch.setattr("metaopt.runs.execute", execute)
    status, _, err = metaopt_("run", spec(small()), "--out", tmp_path / "out")
    assert status == 2 and one_line(err) == (
        f"{file}: No space left on device; what was saved there before is whole. Make room, and save again; a run goes "
        "on from its last checkpoint with `--resume`, or `resume=True`."
    )


def _measure(*, full=False):
    return Report([0], [{"what": "x", "s": 1.5}], [Claim("ratio", 2.0 + full)])


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr("metaopt.bench.BENCHMARKS", {"x-cost": Benchmark("cost of x", f"{__name__}:_measure", 0.5)})
    monkeypatch.setitem(sys.modules, __name__, sys.modules[_measure.__module__])


def test_bench(metaopt_, bench, tmp_path):
    status, out, _ = metaopt_("bench", "x-cost", "--json", tmp_path / "x.json")
    assert status == 0 and "ratio  2" in out and str(tmp_path / "x.json") in out
    data = json.loads((tmp_path / "x.json").read_text())
    assert data["bench"] == "x-cost" and data["claims"][0]["value"] == 2.0 and data["machine"]["cores"] >= 1
    assert "ratio  3" in metaopt_("bench", "x-cost", "--full")[1]


@pytest.mark.parametrize("arguments", [[], ["--list"]])
def test_bench_lists(metaopt_, bench, arguments):
    status, out, _ = metaopt_("bench", *arguments)
    assert status == 0 and "  x-cost  cost of x (0.5 min; needs nothing beyond metaopt)" in out


def test_a_missing_extra_is_one_line_and_a_bug_is_a_traceback(metaopt_, monkeypatch):
    def raising(error, cause):
        def run(*, full):
            raise error from cause

        return run

    monkeypatch.setattr(Benchmark, "load", lambda _: raising(ImportError("Install `x`."), ImportError("x")))
    status, _, err = metaopt_("bench", "import-cost")
    assert status == 2 and one_line(err) == "Install `x`."
    for bug in (ImportError("cannot import name"), ValueError("a bug"), KeyError("a bug")):
        monkeypatch.setattr(Benchmark, "load", lambda _, bug=bug: raising(bug, None))
        with pytest.raises(type(bug)):
            main(["bench", "import-cost"])


def _process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "metaopt", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.slow
@SIGNALS
def test_a_signal_to_a_process_saves_and_ends_it(spec, tmp_path, number, code):
    out = tmp_path / "out"
    process = _process("run", spec(small(steps=10**7)), "--out", out)
    try:
        end = time.monotonic() + 120
        while not (out / "checkpoint.metaopt").exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(2)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, stderr
    assert "--resume" in one_line(stderr)
    # Where nobody watches, the bar is a line now and then.
    assert "\r" not in stdout and stdout.count("/10000000") <= 10
    assert metaopt.read_header(out / "checkpoint.metaopt")["metadata"]["meta_steps"] < 10**7


def test_an_error_of_a_process():
    process = _process("run", "quickstat")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 2 and stdout == "" and "Did you mean `quickstart`?" in one_line(stderr)


@pytest.mark.slow
def test_a_reader_that_stops_reading():
    with _process("list") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=120) == 141 and process.stderr.read() == ""
