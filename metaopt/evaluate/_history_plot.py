"""A picture of a run of meta-training that is drawn again while it goes on."""

import csv
import importlib.util
import math
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .._core._extras import missing
from ._plot import COLORS


# Of the time that has passed, how much may be spent on drawing.
_SHARE = 0.02


class _Panel(NamedTuple):
    label: str
    names: tuple[str, ...]
    logarithmic: bool


_PANELS = (
    _Panel("loss", ("loss", "validation"), True),
    _Panel("signal to noise", ("signal_to_noise",), True),
    _Panel("norm", ("gradient_norm", "update_norm"), True),
    _Panel("count", ("skipped", "diverged"), False),
)


class HistoryPlot:
    """Draw the metrics of meta-training into a picture, anew after each validation: a sink of
    [`metaopt.meta_train`][].

    Panels are: the mean inner loss with the validation, the signal-to-noise ratio of the meta-gradient, the norms of
    meta-gradients and updates, and how many meta-steps were skipped and tasks diverged. Values that have no logarithm
    are gaps. Drawing takes at most a fiftieth of the time that the run takes; what could not be drawn in time is drawn
    at the end.
    """

    def __init__(self, path: str | os.PathLike[str], *, rows: str | os.PathLike[str] | None = None):
        """**Arguments:**

        - `path`: where to save the picture; the ending says how (`.png`, `.svg`, `.pdf`). Missing folders are made.
        - `rows`: the file of a [`metaopt.evaluate.CSVFile`][] whose rows to begin with, if it exists, as a run does
            that is resumed.

        **Raises:**

        - `ImportError`: if matplotlib is missing (`pip install "metaopt[plots]"`).
        """
        if importlib.util.find_spec("matplotlib") is None:
            raise missing("Plots need", "matplotlib", "plots")
        self.path = pathlib.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = {} if rows is None else _read(pathlib.Path(rows))
        self._drawn, self._last, self._took = False, -math.inf, 0.0

    def __call__(self, step: Any, metrics: Mapping[str, Any]) -> None:
        numbers = {name: float(metric) for name, metric in metrics.items() if np.ndim(metric) == 0}
        # What was read of a run that is gone on with from before that comes again.
        for later in [known for known in self.rows if known >= int(step)]:
            del self.rows[later]
        self.rows[int(step)] = numbers
        self._drawn = False
        rested = time.monotonic() - self._last
        if math.isfinite(numbers.get("validation", math.nan)) and rested * _SHARE >= self._took:
            self.flush()

    def flush(self) -> None:
        """Draw now what has not been drawn yet."""
        if self._drawn or not self.rows:
            return
        begun = time.monotonic()
        _figure(self.rows).savefig(self.path, dpi=120)
        self._drawn, self._last = True, time.monotonic()
        self._took = self._last - begun


def _read(path: pathlib.Path) -> dict[int, dict[str, float]]:
    if not path.exists():
        return {}
    found = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                numbers = {name: float(text) for name, text in row.items() if text}
                found[int(numbers.pop("step"))] = numbers
            except (TypeError, ValueError, KeyError):
                break  # The last line was cut off by a crash; it comes again.
    return found


def _figure(rows: Mapping[int, Mapping[str, float]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 6.0), layout="constrained")
    for axis, panel in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        lowest = math.inf
        for name, color in zip(panel.names, COLORS, strict=False):
            pairs = [(step, row[name]) for step, row in rows.items() if math.isfinite(row.get(name, math.nan))]
            if not pairs:
                continue
            steps, values = zip(*pairs, strict=True)
            lowest = min(lowest, *values, math.inf)
            marker = "o" if name == "validation" else None
            axis.plot(steps, values, color=color, linewidth=1.6, marker=marker, markersize=4, label=_words(name))
        if panel.logarithmic and 0 < lowest < math.inf:
            axis.set_yscale("log")
        axis.set_ylabel(panel.label)
        axis.set_xlabel("meta-step")
        axis.grid(True, which="major", color="0.9", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        if axis.lines:
            axis.legend(frameon=False, fontsize="small")
        else:
            axis.text(0.5, 0.5, "not known", ha="center", va="center", color="0.5", transform=axis.transAxes)
    return figure


def _words(name: str) -> str:
    return name.replace("_", " ")
