"""What importing metaopt costs beside the libraries that it stands on."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

from ..base import Budget, Claim, Report, Rival


_BASE = "import jax, equinox, optax"
_OURS = "import metaopt"
_ROOT = Path(__file__).parents[3]
_TIMED = """
import time
wall, cpu = time.perf_counter(), time.process_time()
{}
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def _measure(statement: str) -> tuple[float, float]:
    """Wall-clock and CPU seconds of an import in a fresh interpreter."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", _TIMED.format(statement)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    wall, cpu = done.stdout.split()
    return float(wall), float(cpu)


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` takes more rounds."""
    rounds = 15 if full else 5
    statements = (_BASE, _OURS)
    for statement in statements:
        _measure(statement)  # compiles what has no byte code yet, and reads the files into memory
    # Alternating, so that both meet the same load; and judged by CPU time, which other processes hardly change.
    measured = [[_measure(statement) for statement in statements] for _ in range(rounds)]
    wall, cpu = (
        [statistics.median(each[i][clock] for each in measured) for i in range(len(statements))] for clock in (0, 1)
    )
    rows = [
        {"statement": statement, "s": wall[i], "CPU-s": cpu[i], "rounds": rounds}
        for i, statement in enumerate(statements)
    ]
    note = f"CPU time, medians of {rounds}, alternating; {wall[1] / wall[0]:.3f} in wall-clock time"
    work = Budget(work="an import in a fresh interpreter")
    claim = Claim("import_ratio", cpu[1] / cpu[0], note, budget=work, rival=Rival(f"`{_BASE}`", work))
    return Report([], rows, [claim])
