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


# As many as fit beside the step on a terminal of eighty characters.
_COLUMNS = 6


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(metric).item() for name, metric in metrics.items() if np.ndim(metric) == 0}


class CSVFile:
    """Write metrics to a file of comma-separated values, one line for each call. The first call says the columns."""

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False):
        """**Arguments:**

        - `path`: the file; one that exists is replaced, and missing folders are made.
        - `append`: go on with the file if it exists, as a run does that is resumed. Lines of the step of the first
            call and of later ones, which come again, are taken out then.
        """
        self.path, self.columns = _opened(path, append), list[str]()
        self._goes_on = append and self.path.stat().st_size > 0

    def __call__(self, step: Any, metrics: Mapping[str, Any]) -> None:
        """Write a line.

        **Raises:**

        - `ValueError`: if a metric has no column, since the first call did not have it.
        """
        row = {"step": int(step), **_numbers(metrics)}
        if self._goes_on:
            header, *lines = self.path.read_text(encoding="utf-8").splitlines()
            self.columns = next(csv.reader([header]))
            _put_back(self.path, [header, *_before(lines, lambda line: int(line.split(",", 1)[0]), row["step"])])
            self._goes_on = False
        if not self.path.exists():
            _opened(self.path, False)
            self.columns = []
        with self.path.open("a", newline="", encoding="utf-8") as file:
            if not self.columns:
                self.columns = list(row)
                csv.writer(file).writerow(self.columns)
            new = [name for name in row if name not in self.columns]
            if new:
                raise ValueError(
                    f"`{self.path}` has no column `{new[0]}`: the first line says the columns. Give all metrics from "
                    "the first call on, NaN where there is none yet, or use `JSONLines`."
                )
            csv.writer(file).writerow([row.get(column, "") for column in self.columns])


class JSONLines:
    """Write metrics to a file with one JSON object on each line. What is not finite is written as text."""

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False):
        """**Arguments:**

        - `path`: the file; one that exists is replaced, and missing folders are made.
        - `append`: go on with the file if it exists, as a run does that is resumed. Lines of the step of the first
            call and of later ones, which come again, are taken out then.
        """
        self.path = _opened(path, append)
        self._goes_on = append

    def __call__(self, step: Any, metrics: Mapping[str, Any]) -> None:
        row = {"step": int(step), **_numbers(metrics)}
        # JSON knows neither infinity nor NaN.
        row = {k: v if not isinstance(v, float) or np.isfinite(v) else str(v) for k, v in row.items()}
        if self._goes_on:
            lines = self.path.read_text(encoding="utf-8").splitlines()
            _put_back(self.path, _before(lines, lambda line: json.loads(line)["step"], int(step)))
            self._goes_on = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
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
        columns: Sequence[str] | None = None,
        *,
        seconds: float = 1.0,
        file: Any = None,
    ):
        """**Arguments:**

        - `columns`: which metrics; by default the first six of the first call.
        - `seconds`: how long to wait at least between two rows.
        - `file`: where to; by default standard output.
        """
        self.columns, self.seconds, self.file = None if columns is None else list(columns), seconds, file
        self.rows, self.last = 0, -float("inf")

    def __call__(self, step: Any, metrics: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now - self.last < self.seconds:
            return
        self.last = now
        file = sys.stdout if self.file is None else self.file
        if self.columns is None:
            self.columns = list(_numbers(metrics))[:_COLUMNS]
        widths = [max(len(name), 10) for name in self.columns]
        if self.rows % 20 == 0:
            names = "  ".join(name.rjust(width) for name, width in zip(self.columns, widths, strict=True))
            print(f"{'step'.rjust(8)}  {names}", file=file)
        self.rows += 1
        numbers = _numbers(metrics)
        cells = "  ".join(cell(numbers.get(n)).rjust(w) for n, w in zip(self.columns, widths, strict=True))
        print(f"{int(step)!s:>8}  {cells}", file=file, flush=True)


def _opened(path: str | os.PathLike[str], append: bool) -> pathlib.Path:
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a" if append else "w", encoding="utf-8"):
        return file


def _before(lines: Sequence[str], step: Callable[[str], int], first: int) -> list[str]:
    """The lines of steps before the first. A line that was cut off by a crash is left out, as are those after it."""
    kept = []
    for line in lines:
        try:
            if step(line) >= first:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line)
    return kept


def _put_back(path: pathlib.Path, lines: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        file.writelines(f"{line}\r\n" if path.suffix == ".csv" else f"{line}\n" for line in lines)
