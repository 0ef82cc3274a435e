"""The command line: `python -m metaopt`."""

import argparse
import json
import sys
import time
from pathlib import Path

from . import _core
from .registry import DEFAULT
from .spec import SpecError, dumps, override, read


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.command(options)
    except (SpecError, _core.CheckpointError, _UsageError) as error:
        print(f"metaopt: {error}", file=sys.stderr)
    except OSError as error:
        print(f"metaopt: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nmetaopt: interrupted; what was reached is saved, and `--resume` goes on from it.", file=sys.stderr)
        return 130
    return 2


class _UsageError(Exception):
    """A command line that names something that does not exist."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m metaopt", description="Learning to optimize, in JAX.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="list everything that has a name")
    listing.add_argument("kind", nargs="?", help="one kind only, such as `algorithms` or `runs`")
    listing.set_defaults(command=_list)

    run = commands.add_parser("run", help="execute a run: train, compare, report")
    run.add_argument("spec", metavar="SPEC", help="a TOML or JSON file, or the name of a run (see `list runs`)")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the spec: `steps=200`")
    run.add_argument("--out", type=Path, metavar="DIR", help="where results go (default: runs/NAME-TIME)")
    run.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder of --out")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    run.set_defaults(command=_run)

    bench = commands.add_parser("bench", help="measure a claim on this machine")
    bench.add_argument("name", nargs="?", metavar="NAME", help="which one (see `--list`)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    bench.add_argument("--full", action="store_true", help="the longer form, where there is one")
    bench.add_argument("--list", action="store_true", help="list all, with their cost and what they need")
    bench.set_defaults(command=_bench)

    show = commands.add_parser("show", help="describe a checkpoint or a saved learner")
    show.add_argument("path", type=Path, metavar="CHECKPOINT")
    show.set_defaults(command=_show)
    return parser


def _kinds() -> dict[str, type]:
    """The kinds of the registry by a plural that one would type: `AbstractTaskFamily` is `task-families`."""
    kinds = {}
    for kind in DEFAULT.kinds():
        words = "".join(f"-{c.lower()}" if c.isupper() else c for c in kind.__name__.removeprefix("Abstract"))
        word = words.removeprefix("-")
        kinds[word[:-1] + "ies" if word.endswith("y") else word + "s"] = kind
    return kinds


def _list(options: argparse.Namespace) -> int:
    from .bench import BENCHMARKS
    from .runs import names

    known = [*_kinds(), "runs", "benches"]
    if options.kind is not None and options.kind not in known:
        raise _UsageError(f"There is no kind `{options.kind}`. There are: {', '.join(known)}.")
    for word, kind in _kinds().items():
        if options.kind in (None, word):
            _print_table(word, {name: DEFAULT.summary(kind, name) for name in DEFAULT.names(kind)})
    if options.kind in (None, "runs"):
        _print_table("runs", {name: str(_read_run(name).get("description", "")) for name in names()})
    if options.kind in (None, "benches"):
        _print_table("benches", {name: bench.summary for name, bench in BENCHMARKS.items()})
    return 0


def _print_table(title: str, rows: dict[str, str]) -> None:
    width = max((len(name) for name in rows), default=0)
    print(f"{title}:")
    for name, summary in rows.items():
        print(f"  {name.ljust(width)}  {summary}")
    print()


def _read_run(name: str) -> dict:
    from .runs import find

    try:
        return read(find(name))
    except ValueError as error:
        raise _UsageError(str(error)) from error


def _run(options: argparse.Namespace) -> int:
    from .runs import execute

    name = Path(options.spec).stem
    spec = override(_read_run(options.spec), options.set)
    if options.out is None and options.resume:
        raise _UsageError("`--resume` needs the folder to go on in: `--out DIR`.")
    out = options.out or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if spec.get("description"):
        print(spec["description"], flush=True)
    execute(spec, out, resume=options.resume, progress=not options.quiet)
    return 0


def _bench(options: argparse.Namespace) -> int:
    from .bench import BENCHMARKS
    from .evaluate import machine

    if options.list or options.name is None:
        rows = {n: f"{b.summary} ({b.minutes:g} min; needs {b.needs})" for n, b in BENCHMARKS.items()}
        _print_table("benches", rows)
        return 0
    if options.name not in BENCHMARKS:
        raise _UsageError(f"There is no benchmark `{options.name}`. There are: {', '.join(BENCHMARKS)}.")
    if options.json is not None and not options.json.parent.is_dir():
        raise _UsageError(f"The folder of `{options.json}` does not exist.")
    report = BENCHMARKS[options.name].load()(full=options.full)
    print(report.table())
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_json(options.name, machine()), indent=1) + "\n")
        print(f"\nWritten to {options.json}.")
    return 0


def _show(options: argparse.Namespace) -> int:
    header = _core.read_header(options.path)
    metadata = dict(header["metadata"])
    print(f"{options.path}: {metadata.pop('kind', 'arrays')}")
    spec = metadata.pop("spec", None)
    if spec is not None:
        print(f"\n{dumps(spec).rstrip()}")
    values, validations = metadata.pop("values", None), metadata.pop("validations", None)
    if values:
        print(f"\n{len(values)} meta-steps, mean inner value {values[0]:.4g} at first, {values[-1]:.4g} at last")
    if validations:
        step, loss = min(validations, key=lambda pair: pair[1])
        print(f"best validation loss {loss:.4g} at meta-step {step}")
    for key, value in metadata.items():
        print(f"{key}: {value}")
    print()
    rows = {leaf["path"]: f"{leaf['dtype']}{leaf['shape']}" for leaf in header["leaves"]}
    _print_table(f"{len(rows)} leaves", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
