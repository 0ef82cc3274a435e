"""The look of all figures: readable on light and on dark pages, and for readers who are color-blind."""

from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler


matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402


# Between black and white, so that it can be read on both.
GRAY = "#808080"
BLUE, ORANGE, GREEN, RED, PURPLE = "#3b8fd4", "#e08a1e", "#2fa37c", "#d9604f", "#9a7fd1"
COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE)

plt.rcParams.update(
    {
        "axes.edgecolor": GRAY,
        "axes.labelcolor": GRAY,
        "axes.prop_cycle": cycler(color=COLORS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": GRAY,
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "grid.alpha": 0.3,
        "grid.color": GRAY,
        "legend.frameon": False,
        "legend.labelcolor": GRAY,
        "lines.linewidth": 1.8,
        # The same figure is the same file.
        "svg.hashsalt": "metaopt",
        "text.color": GRAY,
        "xtick.color": GRAY,
        "ytick.color": GRAY,
    }
)


def axes(columns: int = 1, *, width: float = 7.0, height: float = 3.6, **options: Any) -> tuple[Any, Any]:
    """A figure, and its axes in a row."""
    return plt.subplots(1, columns, figsize=(width, height), **options)


def save(figure: Any, name: str) -> None:
    """Write a figure beside its script."""
    figure.savefig(Path(__file__).with_name(f"{name}.svg"), transparent=True, metadata={"Date": None})
    plt.close(figure)
