"""What a benchmark is, and what it reports."""

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
        parts = [_table(self.rows)] if self.rows else []
        parts.append(_table([{"claim": c.id, "value": f"{c.value:.4g}", "note": c.note} for c in self.claims]))
        return "\n\n".join([*parts, *self.notes])

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


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns] + [[_cell(row.get(c, "")) for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _commit() -> str | None:
    """The commit of the source tree this package runs from, or nothing for an installed one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
