"""Fronts as pictures."""

import itertools as it
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from .._core._extras import missing
from ._plot import COLORS


_MARKERS = "xo^sv+D"


def plot_fronts(
    fronts: Mapping[str, Float[Array, "_ m"] | Float[np.ndarray, "_ m"]],
    path: str | os.PathLike[str] | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Any:
    """Plot the objectives of fronts, one panel for each pair of objectives.

    **Arguments:**

    - `fronts`: the objectives of each front, one row for each solution, by the name of the front.
    - `path`: where to save the picture; the ending says how (`.png`, `.svg`, `.pdf`).
    - `names`: of the objectives.

    **Returns:**

    The `matplotlib.figure.Figure`. No global state of matplotlib is used, and no window is opened.

    **Raises:**

    - `ImportError`: if matplotlib is missing (`pip install "metaopt[plots]"`).
    - `ValueError`: if there is no front, or there are fewer than two objectives or another number of names.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing("Plots need", "matplotlib", "plots") from error
    if not fronts:
        raise ValueError("There is nothing to plot: `fronts` is empty. Give the objectives of one front at least.")
    values = {name: np.asarray(front) for name, front in fronts.items()}
    count = next(iter(values.values())).shape[1]
    names = [f"objective {i}" for i in range(count)] if names is None else names
    if count < 2 or len(names) != count:
        raise ValueError(
            f"A front has two objectives or more, each with a name, but {count} and the names {list(names)} were given."
        )
    pairs = list(it.combinations(range(count), 2))
    figure = Figure(figsize=(1.5 + 4 * len(pairs), 4), layout="constrained")
    axes = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axis, (i, j) in zip(axes, pairs, strict=True):
        for (name, front), color, marker in zip(values.items(), it.cycle(COLORS), it.cycle(_MARKERS), strict=False):
            axis.scatter(front[:, i], front[:, j], label=name, marker=marker, color=color, s=22)
        axis.set_xlabel(names[i])
        axis.set_ylabel(names[j])
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    if path is not None:
        figure.savefig(path, dpi=130)
    return figure
