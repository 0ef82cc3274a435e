"""The command line: `python -m metaopt`."""

import argparse
import contextlib
import datetime
import faulthandler
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax

from ._core import CheckpointError
from ._core.files._printable import printable
from .registry import DEFAULT, unknown
from .spec import SpecError, override, read


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        with _terminable():
            return options.command(options)
    except KeyboardInterrupt as interrupt:
        hint = "".join(f" {note}" for note in getattr(interrupt, "__notes__", ()))
        print(printable(f"metaopt: interrupted.{hint}", lines=True), file=sys.stderr)
        return 143 if isinstance(interrupt, _Terminated) else 130
    except BrokenPipeError:
        # Whoever reads has seen enough, as in `list | head`. What is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (SpecError, CheckpointError, OSError, ImportError) as error:
        # Where an extra is missing, an error that says so stands for the one of Python.
        if isinstance(error, ImportError) and not isinstance(error.__cause__, ImportError):
            raise
        place = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) and error.filename else error
        print(printable(f"metaopt: {place}", lines=True), file=sys.stderr)
        return 2


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which saves and ends a run as Ctrl-C does."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    def terminate(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m metaopt", description="Learning to optimize, in JAX.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="list everything that has a name")
    listing.add_argument("kind", nargs="?", metavar="KIND", help=f"one kind only: {', '.join(_listings())}")
    listing.add_argument("name", nargs="?", metavar="NAME", help="one entry, with all its options")
    listing.set_defaults(command=_list)

    run = commands.add_parser("run", help="execute a run: train, compare, report")
    run.add_argument("spec", metavar="SPEC", help="a TOML or JSON file, or the name of a run (see `list runs`)")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the spec: `steps=200`")
    run.add_argument("--out", type=Path, metavar="DIR", help="where results go (default: runs/NAME-TIME-PROCESS)")
    run.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder of --out")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    run.set_defaults(command=_run)

    launch = commands.add_parser(
        "launch",
        help="execute a run in many processes on this machine, and restart it when one dies",
        usage="python -m metaopt launch -n N [--retries R] -- run SPEC [options of run]",
    )
    launch.add_argument("-n", "--processes", type=int, required=True, metavar="N", help="how many processes")
    launch.add_argument("--retries", type=int, default=3, metavar="R", help="how often to restart it (default: 3)")
    launch.add_argument("run", nargs=argparse.REMAINDER, metavar="run ...", help="the command, after `--`")
    launch.set_defaults(command=_launch)

    bench = commands.add_parser("bench", help="measure a claim on this machine")
    bench.add_argument("name", nargs="?", metavar="NAME", help="which one (see `--list`)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    bench.add_argument("--full", action="store_true", help="the longer form, where there is one")
    bench.add_argument("--list", action="store_true", help="list all, with their cost and what they need")
    bench.set_defaults(command=_bench)

    doctor = commands.add_parser("doctor", help="say what this installation can do, and test its numbers")
    doctor.add_argument("--json", type=Path, metavar="FILE", help="write what was found there, for a bug report")
    doctor.set_defaults(command=_doctor)

    show = commands.add_parser("show", help="describe a checkpoint, a saved learner, or published weights")
    show.add_argument("path", type=Path, metavar="FILE")
    show.set_defaults(command=_show)
    return parser


def _kinds() -> dict[str, type]:
    """The kinds of the registry by a plural that one would type: `AbstractTaskFamily` is `task-families`."""
    kinds = {}
    for kind in DEFAULT.kinds():
        words = "".join(f"-{c.lower()}" if c.isupper() else c for c in kind.__name__.removeprefix("Abstract"))
        word = words.removeprefix("-")
        ending = "ies" if word.endswith("y") else "es" if word.endswith("sh") else "" if word.endswith("es") else "s"
        kinds[word.removesuffix("y") + ending] = kind
    return kinds


def _listings() -> list[str]:
    return [*_kinds(), "runs", "benches"]


def _list(options: argparse.Namespace) -> int:
    kinds = _kinds()
    if options.kind is not None and options.kind not in _listings():
        raise unknown("kind", options.kind, _listings())
    if options.name is None:
        for word in [options.kind] if options.kind else _listings():
            _print_table(word, _entries(kinds[word]) if word in kinds else _summaries(word))
    elif options.kind in kinds:
        _print_entry(kinds[options.kind], options.name)
    else:
        raise SpecError("", f"only entries of the registry have options, {options.kind} have none.")
    return 0


def _entries(kind: type) -> dict[str, str]:
    notes = {}
    if kind.__name__ == "AbstractBackend":
        from .backend._discovery import usability

        notes = {name: f"[{said}]" for name, said in usability().items()}

    def summary(name: str) -> str:
        try:
            return f"{DEFAULT.summary(kind, name)} {notes.get(name, '')}".rstrip()
        except SpecError as error:  # what cannot be imported should not hide the others
            return f"({error})"

    return {name: summary(name) for name in DEFAULT.names(kind)}


def _summaries(word: str) -> dict[str, str]:
    if word == "runs":
        from .runs import find, names

        return {name: str(read(find(name)).get("description", "")) for name in names()}
    from .bench import BENCHMARKS

    return {name: bench.summary for name, bench in BENCHMARKS.items()}


def _print_entry(kind: type, name: str) -> None:
    print(f"{DEFAULT.summary(kind, name)}\n")
    options = DEFAULT.options(kind, name)
    _print_table("options", {o.name: f"{o.type} ({'required' if o.default is None else o.default})" for o in options})


def _print_table(title: str, rows: Mapping[str, str]) -> None:
    width = max((len(name) for name in rows), default=0)
    lines = [printable(f"  {name.ljust(width)}  {text}".rstrip()) for name, text in rows.items()]
    print("\n".join([f"{title}:", *lines, ""]))


def _run(options: argparse.Namespace) -> int:
    from .runs import execute, find
    from .runs._launch import end_with_supervisor
    from .sharding import initialize

    end_with_supervisor()
    try:
        initialize()
    except ValueError as error:
        raise SpecError("", str(error)) from error
    spec = override(read(find(options.spec)), options.set)
    if options.out is None and options.resume:
        raise SpecError("", "`--resume` needs the folder to go on in: `--out DIR`.")
    if options.out is None and jax.distributed.is_initialized():
        raise SpecError("", "many processes need the same folder for their results: `--out DIR`.")
    execute(spec, options.out or _new_folder(options.spec), resume=options.resume, progress=not options.quiet)
    return 0


def _new_folder(spec: str) -> Path:
    # No two processes of a machine have one number at a time. Should two on machines that share a disk meet in one
    # microsecond, the lock of the folder tells.
    now = datetime.datetime.now()
    return Path("runs", f"{Path(spec).stem}-{now:%Y%m%d-%H%M%S-%f}-{os.getpid()}")


def _launch(options: argparse.Namespace) -> int:
    from .runs import supervise

    words = options.run[1:] if options.run[:1] == ["--"] else options.run
    if words[:1] != ["run"]:
        raise SpecError("", "`launch` starts runs: `python -m metaopt launch -n 2 -- run SPEC`.")
    run = _parser().parse_args(words)
    # All processes, and those that are started after a failure, need the same folder.
    if run.out is None:
        words = [*words, "--out", str(_new_folder(run.spec))]
    command = [sys.executable, "-m", "metaopt", *words]
    try:
        return supervise(command, again=[*command, "--resume"], processes=options.processes, retries=options.retries)
    except ValueError as error:
        raise SpecError("", str(error)) from error


def _bench(options: argparse.Namespace) -> int:
    from .bench import BENCHMARKS
    from .evaluate import machine, write_json

    if options.list or options.name is None:
        rows = {n: f"{b.summary} ({b.minutes:g} min; needs {b.needs})" for n, b in BENCHMARKS.items()}
        _print_table("benches", rows)
        return 0
    if options.name not in BENCHMARKS:
        raise unknown("benchmark", options.name, BENCHMARKS)
    _check_writable(options.json)
    report = BENCHMARKS[options.name].load()(full=options.full)
    print(report.table())
    if options.json is not None:
        write_json(options.json, report.to_json(options.name, machine()))
        print(f"\nWritten to {options.json}.")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from .doctor import diagnose
    from .evaluate import write_json

    _check_writable(options.json)
    with contextlib.suppress(OSError, ValueError):  # where standard error is no file
        # What ends the process says where.
        faulthandler.enable()
    found = diagnose(lambda text: print(text, end="", flush=True))
    if options.json is not None:
        write_json(options.json, found.to_json())
        print(f"\nWritten to {options.json}.")
    return 0 if found.healthy else 1


def _check_writable(file: Path | None) -> None:
    if file is not None and not _is_writable(file):
        raise SpecError("", f"`{file}` cannot be written: its folder must exist and be writable.")


def _is_writable(file: Path) -> bool:
    folder = file.absolute().parent
    return folder.is_dir() and os.access(folder, os.W_OK) and not file.is_dir()


def _show(options: argparse.Namespace) -> int:
    from .runs import describe

    print(describe(options.path))
    return 0


if __name__ == "__main__":
    status = main()
    if status in (130, 143) or (status and jax.distributed.is_initialized()):
        # What XLA is compiling or running at an interrupt does not survive the orderly end of the interpreter, which
        # would also wait for all other processes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
