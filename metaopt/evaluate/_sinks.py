"""Where the metrics of a run go while it runs."""

import csv
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ._text import cell


Sink = Callable[[Any, Mapping[str, Any]], None]
"""A function of the step and of metrics by name, such as [`metaopt.evaluate.Monitor.summary`][] gives them.

It is called from Python, or from compiled loops by
`jax.debug.callback(sink, step, monitor.summary(state), ordered=True)`.
"""


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(metric).item() for name, metric in metrics.items() if np.ndim(metric) == 0}


class CSVFile:
    """Write metrics to a file of comma-separated values, one line for each call. The first call says the columns."""

    def __init__(self, path: str | os.PathLike[str]):
        """**Arguments:**

        - `path`: the file; one that exists is replaced, and missing folders are made.
        """
        self.path = _fresh(path)
        self.columns: list[str] = []

    def __call__(self, step: Any, metrics: Mapping[str, Any]) -> None:
        row = {"step": int(step), **_numbers(metrics)}
        with self.path.open("a", newline="", encoding="utf-8") as file:
            if not self.columns:
                self.columns = list(row)
                csv.writer(file).writerow(self.columns)
            csv.writer(file).writerow([row.get(column, "") for column in self.columns])


class JSONLines:
    """Write metrics to a file with one JSON object on each line. What is not finite is written as text."""

    def __init__(self, path: str | os.PathLike[str]):
        """**Arguments:**

        - `path`: the file; one that exists is replaced, and missing folders are made.
        """
        self.path = _fresh(path)

    def __call__(self, step: Any, metrics: Mapping[str, Any]) -> None:
        row = {"step": int(step), **_numbers(metrics)}
        # JSON knows neither infinity nor NaN.
        row = {k: v if not isinstance(v, float) or np.isfinite(v) else str(v) for k, v in row.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")


class TensorBoard:
    """Write metrics as scalars for TensorBoard. Needs `pip install tensorboardX`."""

    def __init__(self, folder: str | os.PathLike[str]):
        """**Arguments:**

        - `folder`: where to.

        **Raises:**

        - `ImportError`: if `tensorboardX` is missing.
        """
        try:
            from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("`TensorBoard` needs a package: `pip install tensorboardX`.") from error
        self.writer: Any = SummaryWriter(str(folder))

    def __call__(self, step: Any, metrics: Mapping[str, Any]) -> None:
        for name, number in _numbers(metrics).items():
            self.writer.add_scalar(name, number, int(step))
        self.writer.flush()


class LiveTable:
    """Print metrics as the rows of a table while a long run goes on, the names now and then."""

    def __init__(
        self,
        columns: Sequence[str] = ("average", "convergence_rate", "gradient_norm", "update_norm"),
        *,
        seconds: float = 1.0,
        file: Any = None,
    ):
        """**Arguments:**

        - `columns`: which metrics.
        - `seconds`: how long to wait at least between two rows.
        - `file`: where to; by default standard output.
        """
        self.columns, self.seconds, self.file = list(columns), seconds, file
        self.rows, self.last = 0, -float("inf")

    def __call__(self, step: Any, metrics: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now - self.last < self.seconds:
            return
        self.last = now
        file = sys.stdout if self.file is None else self.file
        widths = [max(len(name), 10) for name in self.columns]
        if self.rows % 20 == 0:
            names = "  ".join(name.rjust(width) for name, width in zip(self.columns, widths, strict=True))
            print(f"{'step'.rjust(8)}  {names}", file=file)
        self.rows += 1
        numbers = _numbers(metrics)
        cells = "  ".join(cell(numbers.get(n)).rjust(w) for n, w in zip(self.columns, widths, strict=True))
        print(f"{int(step)!s:>8}  {cells}", file=file, flush=True)


def _fresh(path: str | os.PathLike[str]) -> pathlib.Path:
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("", encoding="utf-8")
    return file
