"""Learning curves as pictures."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from .._core._extras import missing
from ._comparison import Comparison
from ._curves import quartiles
from ._monitor import Trace


# Okabe and Ito's colors, which remain apart for color-blind readers; the yellow, too light for a line, is left out.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#555555", "#56B4E9")
_DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)))


def plot(
    result: Comparison | Trace | Mapping[str, Trace],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
    methods: Sequence[str] | None = None,
) -> Any:
    """Plot learning curves, summarized over tasks, with the quartiles as bands; one panel per horizon.

    The vertical axis is logarithmic if all values are positive. Values that are not finite are gaps.

    **Arguments:**

    - `result`: a [`metaopt.evaluate.Comparison`][]; or the [`metaopt.evaluate.Trace`][] of a monitor, or several by
        name, which are plotted with the norms of their gradients in a second panel.
    - `path`: where to save the picture; the ending says how (`.png`, `.svg`, `.pdf`).
    - `title`: by default the family of a comparison.
    - `methods`: which of the names to plot; by default all.

    **Returns:**

    The `matplotlib.figure.Figure`. No global state of matplotlib is used, and no window is opened.

    **Raises:**

    - `ImportError`: if matplotlib is missing (`pip install "metaopt[plots]"`).
    - `ValueError`: if a method is unknown, or there is nothing to plot.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing("Plots need", "matplotlib", "plots") from error
    if isinstance(result, Comparison):
        panels = _comparison_panels(result)
        title = result.family if title is None else title
    else:
        panels = _trace_panels({"": result} if isinstance(result, Trace) else result)
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    unknown = [name for name in methods or () if name not in names]
    if unknown or not names:
        raise ValueError(f"There is no `{unknown[0]}` to plot, only {', '.join(names)}." if unknown else "No curves.")
    figure = Figure(figsize=(5.2 * len(panels) + 1.8, 4.0), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, names, names if methods is None else methods)
    handles, labels = axes[0].get_legend_handles_labels()
    if labels and labels != [""]:
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
    if title:
        figure.suptitle(title, fontsize="medium")
    if path is not None:
        figure.savefig(path, dpi=160)
    return figure


class _Line(NamedTuple):
    name: str
    steps: Int[np.ndarray, " n"]
    middle: Float[np.ndarray, " n"]
    edges: Float[np.ndarray, "2 n"]
    bold: bool


class _Panel(NamedTuple):
    title: str
    label: str
    lines: list[_Line]


def _comparison_panels(comparison: Comparison) -> list[_Panel]:
    panels = []
    for horizon in comparison.horizons:
        runs = [run for run in comparison.runs if run.horizon == horizon]
        lines = [
            _Line(run.method, run.steps, comparison.curve(run.method, horizon), quartiles(run.pooled), run.learned)
            for run in runs
        ]
        panels.append(_Panel(f"{horizon}x the training horizon", "loss", lines))
    return panels


def _trace_panels(traces: Mapping[str, Trace]) -> list[_Panel]:
    def panel(label: str, pick: Callable[[Trace], Float[np.ndarray, "..."]]) -> _Panel:
        lines = []
        for name, trace in traces.items():
            curves = pick(trace).reshape(math.prod(trace.values.shape[:-1]), trace.steps.size)
            if np.any(np.isfinite(curves)):
                curves = np.where(np.isnan(curves), np.inf, curves)
                lines.append(_Line(name, trace.steps, np.median(curves, axis=0), quartiles(curves), True))
        return _Panel("", label, lines)

    panels = [panel("value", lambda trace: trace.values), panel("gradient norm", lambda trace: trace.gradient_norms)]
    return [each for each in panels if each.lines]


def _draw(axis: Any, panel: _Panel, names: Sequence[str], shown: Sequence[str]) -> None:
    lines = [line for line in panel.lines if line.name in shown]
    drawn = []
    for place, line in enumerate(lines):
        slot = list(names).index(line.name)
        color, dashes = COLORS[slot % len(COLORS)], _DASHES[slot // len(COLORS) % len(_DASHES)]
        middle, (lower, upper) = _gaps(line.middle), (_gaps(edge) for edge in line.edges)
        # What matters most comes first in the legend and on top in the picture.
        top = 2 + (len(lines) - place) / len(lines)
        alpha, width = (0.2, 2.4) if line.bold else (0.08, 1.4)
        axis.fill_between(line.steps, lower, upper, color=color, alpha=alpha, linewidth=0, zorder=top - 1)
        axis.plot(line.steps, middle, color=color, linestyle=dashes, linewidth=width, label=line.name, zorder=top)
        drawn += [lower, middle]
    if drawn and np.nanmin(drawn, initial=np.inf) > 0:
        axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel(panel.label)
    axis.set_title(panel.title, fontsize="medium")
    axis.grid(True, which="major", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.01)


def _gaps(curve: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.where(np.isfinite(curve), curve, np.nan)
