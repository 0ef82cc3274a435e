"""A comparison as text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._text import align, figure


_Row = Mapping[str, Any]


def tables(rows: Sequence[_Row]) -> str:
    """Two tables for each horizon: losses and costs, then learners against baselines."""
    blocks, flagged = [], False
    for horizon in dict.fromkeys(row["horizon"] for row in rows):
        there = [row for row in rows if row["horizon"] == horizon]
        blocks.append(f"{there[0]['steps']} steps ({horizon}x the training horizon)")
        blocks.append(align(_LOSS_HEADER, [_losses(row) for row in there]))
        against = [_against(row, name) for row in there for name in row.get("against", {})]
        if against:
            blocks.append(align(_AGAINST_HEADER, against))
        flagged = flagged or any(row["rate_at_edge"] for row in there)
    if flagged:
        blocks.append("* The best learning rate lies at the edge of those that were tried; a better one may exist.")
    blocks.append(_LEGEND)
    return "\n\n".join(blocks)


_LOSS_HEADER = [
    "method",
    "rate",
    "final loss",
    "quartiles",
    "seeds",
    "geo. mean",
    "diverged",
    "us/step",
    "compile",
    "memory",
]
_AGAINST_HEADER = ["learner, baseline", "speedup", "seeds", "median task", "reached", "won"]
_LEGEND = (
    "speedup: steps until the final loss of the baseline, baseline over learner, on the curves over all tasks; `< 1x`\n"
    "if the learner never gets there. median task: the same task by task. reached, won: share of tasks on which the\n"
    "learner gets to, or ends below, the final loss of the baseline. us/step: microseconds per step and task, without\n"
    "measurements. memory: temporaries of one batch of tasks."
)


def _losses(row: _Row) -> list[str]:
    rate = "-" if row["rate"] is None else figure(row["rate"], 3) + ("*" if row["rate_at_edge"] else "")
    return [
        row["method"],
        rate,
        figure(row["final"]),
        _span(row["final_quartiles"]),
        _span([min(row["final_seeds"]), max(row["final_seeds"])]),
        figure(row["final_geometric_mean"]),
        f"{row['diverged']:.0%}",
        figure(1e6 * row["seconds_per_step"], 3),
        f"{row['compile_seconds']:.1f} s",
        _memory(row["temporary_bytes"]),
    ]


def _against(row: _Row, baseline: str) -> list[str]:
    found = row["against"][baseline]
    below = found["speedup_below"]
    seeds = [_times(min(found["speedup_seeds"])), _times(max(found["speedup_seeds"]))]
    return [
        f"{row['method']}, {baseline}",
        _times(found["speedup"]) if below is None else _times(0.0, below),
        " .. ".join(seeds),
        _times(found["speedup_task_median"]),
        f"{found['tasks_reached']:.0%}",
        f"{found['tasks_won']:.0%}",
    ]


def _times(ratio: float, bound: float = 1.0) -> str:
    if ratio == 0:
        return f"< {figure(bound, 3) if bound < 0.995 else '1'}x"
    return f"{ratio:.2f}x" if np.isfinite(ratio) else "inf"


def _memory(size: int) -> str:
    if size < 0:
        return "-"
    return f"{size / 2**10:.0f} KiB" if size < 2**20 else f"{size / 2**20:.1f} MiB"


def _span(ends: Sequence[float]) -> str:
    return f"{figure(ends[0], 3)} .. {figure(ends[1], 3)}"
