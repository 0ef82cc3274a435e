"""What a benchmark is, and what it reports."""

import dataclasses
import importlib.metadata
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..evaluate import report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What one side of a comparison may spend, or has spent, on one problem.

    What is `None` has no part in it. Two sides have equal budgets if all of these are equal.

    **Arguments:**

    - `values`: values of the objective alone.
    - `gradients`: gradients, most of which bring their value along; those of residuals count, too.
    - `constraints`: values of constraints, with or without their gradients.
    - `fock_builds`: Fock builds, that of the guess included.
    - `environment_steps`: steps of an environment.
    - `cpu_seconds`: processor seconds.
    - `before`: steps on other problems before this one: of meta-training, or to find rates.
    - `work`: what is done, where the cost of a given piece of work is what is measured.

    **Raises:**

    `ValueError` if nothing is given, or a number is negative or not a number.
    """

    values: float | None = None
    gradients: float | None = None
    constraints: float | None = None
    fock_builds: float | None = None
    environment_steps: float | None = None
    cpu_seconds: float | None = None
    before: float | None = None
    work: str = ""

    def __post_init__(self) -> None:
        given = {name: count for name in _UNITS if (count := getattr(self, name)) is not None}
        if not given and not self.work:
            raise ValueError(f"An empty `Budget` was given; say at least one of {', '.join(_UNITS)}, or the `work`.")
        for name, count in given.items():
            if not count >= 0:
                raise ValueError(f"`{name}` of a `Budget` must be a number of at least 0, but {count!r} was given.")

    def __str__(self) -> str:
        counts = [f"{_count(c)} {unit}" for name, unit in _UNITS.items() if (c := getattr(self, name)) is not None]
        return ", ".join([*filter(None, [self.work]), *counts])

    def differences(self, other: "Budget") -> list[str]:
        """The names of what is not equal in both."""
        return [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != getattr(other, f.name)]


_UNITS = {
    "values": "values",
    "gradients": "gradients",
    "constraints": "constraint evaluations",
    "fock_builds": "Fock builds",
    "environment_steps": "environment steps",
    "cpu_seconds": "CPU-s",
    "before": "steps before",
}


def _count(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) else f"{number:.3g}"


@dataclasses.dataclass(frozen=True)
class Rival:
    """What a figure is held against: its name, its own budget, and the version that was run, if it has one."""

    name: str
    budget: Budget
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.version})" if self.version else self.name


@dataclasses.dataclass(frozen=True)
class Claim:
    """One figure that is held against a target: measured in this run, never a constant.

    **Arguments:**

    - `id`, `value`, `note`: its name, the figure, and what to know of it.
    - `budget`: what our side may spend.
    - `rival`: what the figure is held against, the strongest of what was run; `None` for a figure that stands by
        itself, such as a bias or a count, of which all output says that it has no rival.
    - `unequal`: why the budgets of both sides differ. Without it, they may not.
    - `compile_seconds`: what compiling our program took, in seconds; `None` where it was not measured.
    - `compile_counted`: whether the figure includes that.
    - `left_out`: what the comparison does not cover: stronger rivals, sizes, costs.

    **Raises:**

    `ValueError` if there is a rival whose budget is not ours, and nothing in `unequal`; or no budget of ours.
    """

    id: str
    value: float
    note: str = ""
    _: dataclasses.KW_ONLY
    budget: Budget | None = None
    rival: Rival | None = None
    unequal: str = ""
    compile_seconds: float | None = None
    compile_counted: bool = False
    left_out: str = ""

    def __post_init__(self) -> None:
        if self.rival is None:
            if self.unequal:
                raise ValueError(f"`{self.id}` says why budgets are unequal, but has no `rival`; name it.")
            return
        if self.budget is None:
            raise ValueError(
                f"`{self.id}` is held against {self.rival}, but does not say what our side may spend; give `budget`."
            )
        apart = self.budget.differences(self.rival.budget)
        if apart and not self.unequal:
            raise ValueError(
                f"`{self.id}` is held against {self.rival} with another budget ({self.budget} against "
                f"{self.rival.budget}; apart: {', '.join(apart)}). Give both the same, or say why not in `unequal`."
            )

    def terms(self) -> dict[str, str]:
        """What else belongs to the figure, as columns of a table: empty where there is nothing to say."""
        compiling = "" if self.compile_seconds is None else f"{self.compile_seconds:.3g}"
        counted = " (in the figure)" if self.compile_counted else " (not in the figure)"
        other = "" if self.rival is None else "the same" if self.rival.budget == self.budget else str(self.rival.budget)
        return {
            "budget": "" if self.budget is None else str(self.budget),
            "rival": "none" if self.rival is None else str(self.rival),
            "its budget": other,
            "unequal": self.unequal,
            "compile s": compiling and compiling + counted,
            "left out": self.left_out,
        }


@dataclasses.dataclass(frozen=True)
class Report:
    """What one benchmark found: rows for people, claims for the ledger."""

    seeds: list[int]
    rows: list[dict[str, Any]]
    claims: list[Claim]
    notes: list[str] = dataclasses.field(default_factory=list)

    def table(self) -> str:
        """The rows and claims as aligned text, and under each claim its budget, its rival and what was left out."""
        claims = {claim.id: f"{claim.value:.4g}  {claim.note}".rstrip() for claim in self.claims}
        lines = []
        for line, claim in zip(report(claims).splitlines(), self.claims, strict=True):
            lines += [line, *(f"    {name}: {text}" for name, text in claim.terms().items() if text)]
        return "\n\n".join(part for part in (*map(report, self._tables()), "\n".join(lines), *self.notes) if part)

    def _tables(self) -> list[list[dict[str, Any]]]:
        """The rows, apart where they have no column in common with those before."""
        tables: list[list[dict[str, Any]]] = []
        for row in self.rows:
            if tables and set(tables[-1][-1]) & set(row):
                tables[-1].append(row)
            else:
                tables.append([row])
        return tables

    def to_json(self, name: str, machine: dict[str, Any]) -> dict[str, Any]:
        """The report as JSON data."""
        return {
            "bench": name,
            "commit": _commit(),
            "machine": machine,
            "seeds": self.seeds,
            "rows": self.rows,
            "claims": [dataclasses.asdict(claim) for claim in self.claims],
            "notes": self.notes,
        }


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """An entry of the table of benchmarks.

    `run` is imported when it is called, from `"module:function"`; it takes `full`, whether to take the longer form.
    """

    summary: str
    run: str
    minutes: float
    needs: str = "nothing beyond metaopt"

    def load(self) -> Callable[..., Report]:
        """Import the function that runs it."""
        import importlib

        module, name = self.run.split(":")
        return getattr(importlib.import_module(module), name)


def release(package: str) -> str | None:
    """The name and the version of a package that is installed here; nothing if it is not."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the source tree this package runs from, marked if it was changed; nothing for an installed one."""
    here = Path(__file__).parent
    # An environment may lie inside a repository that is not ours.
    if _git(here, "rev-parse", "--show-prefix") != f"{here.parent.name}/{here.name}/":
        return None
    return _git(here, "describe", "--always", "--dirty", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
