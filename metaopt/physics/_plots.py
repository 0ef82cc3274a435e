"""Pictures of solutions, errors and residuals."""

import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._core._extras import missing
from ._pinn import PINN


def plot_solution(
    task: PINN,
    params: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    component: int = 0,
    resolution: int = 101,
    title: str | None = None,
) -> Any:
    """Draw maps of a solution in two coordinates, of its error if there is a reference, and of the residual.

    **Arguments:**

    - `task`: a problem in a domain of two coordinates; time is drawn upwards.
    - `params`: the parameters.
    - `path`: where to save the picture; the ending says how (`.png`, `.svg`, `.pdf`).
    - `component`: which of the unknown functions.
    - `resolution`: points along each axis.
    - `title`: of the whole.

    **Returns:**

    The `matplotlib.figure.Figure`. No global state of matplotlib is used, and no window is opened.

    **Raises:**

    - `ImportError`: if matplotlib is missing (`pip install "metaopt[plots]"`).
    - `ValueError`: if the domain has not two coordinates.
    """
    try:
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing("Plots need", "matplotlib", "plots") from error
    if task.domain.dimension != 2:
        raise ValueError(f"Maps are drawn in two coordinates, but the domain has {task.domain.dimension}.")
    lower, upper = (np.asarray(x) for x in task.domain.bounds())
    axes = [np.linspace(a, b, resolution) for a, b in zip(lower, upper, strict=True)]
    x = jnp.asarray(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
    outside = np.asarray(task.domain.level(x) > 1e-6)

    def shown(values: Any) -> np.ndarray:
        return np.where(outside, np.nan, np.asarray(values)).reshape(resolution, resolution)

    found = task.solution(params, x)[:, component]
    panels: list[tuple[str, np.ndarray, bool]] = [("solution", shown(found), False)]
    if task.reference is not None:
        wanted = jnp.asarray(task.reference(x)).reshape(x.shape[0], -1)
        if component < wanted.shape[1]:
            panels.append(("absolute error", shown(jnp.abs(found - wanted[:, component].astype(found.dtype))), True))
    residual = jnp.sqrt(jnp.sum(task.physics(params, x) ** 2, axis=1))
    panels.append(("residual", shown(residual), True))
    figure = Figure(figsize=(4.0 * len(panels), 3.4), layout="constrained")
    labels = ("x", "t") if task.domain.transient else ("x", "y")
    for axis, (name, values, logarithmic) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        high = float(np.nanmax(values))
        # Over more than four decades nothing would be seen of where an error is large.
        norm = LogNorm(max(high * 1e-4, 1e-300), max(high, 1e-299)) if logarithmic else None
        values = np.maximum(values, high * 1e-4) if logarithmic else values
        image = axis.pcolormesh(
            *axes, values, norm=norm, cmap="magma" if logarithmic else "viridis", shading="nearest", rasterized=True
        )
        axis.set_title(name, fontsize="medium")
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])
        if not task.domain.transient:
            axis.set_aspect("equal")
        figure.colorbar(image, ax=axis)
    if title:
        figure.suptitle(title, fontsize="medium")
    if path is not None:
        figure.savefig(path, dpi=160)
    return figure
