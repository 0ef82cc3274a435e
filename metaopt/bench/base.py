"""What a benchmark is, and what it reports."""

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..evaluate import report


@dataclasses.dataclass(frozen=True)
class Claim:
    """One figure that is held against a target: measured in this run, never a constant."""

    id: str
    value: float
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """What one benchmark found: rows for people, claims for the ledger."""

    seeds: list[int]
    rows: list[dict[str, Any]]
    claims: list[Claim]
    notes: list[str] = dataclasses.field(default_factory=list)

    def table(self) -> str:
        """The rows and claims as aligned text."""
        claims = {claim.id: f"{claim.value:.4g}  {claim.note}".rstrip() for claim in self.claims}
        return "\n\n".join(part for part in (report(self.rows), report(claims), *self.notes) if part)

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
