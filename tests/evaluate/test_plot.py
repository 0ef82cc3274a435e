"""Pictures: what is drawn, where, and in which colors."""

import sys
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from metaopt.evaluate import Comparison, Cost, Monitor, Run, plot
from tests._cases import slow


matplotlib = pytest.importorskip("matplotlib")


def _comparison(lowest: float = 1e-4) -> Comparison:
    steps = np.arange(0, 101, 10)
    cost, runs = Cost(1e-6, 1.0, 1000), []
    for horizon in (1, 3):
        for i, method in enumerate(["learned", "sgd", "momentum", "adam", "adamw", "adam_cosine"]):
            spread = np.linspace(0.5, 2, 8).reshape(2, 4, 1)
            curve = np.exp(-steps / (20.0 + 10 * i)) + lowest
            runs.append(Run(method, i == 0, horizon, steps * horizon, spread * curve[None, None, :], None, cost))
    return Comparison(tuple(runs), "median", "Curves()", {})


@pytest.mark.parametrize("suffix", [*slow("png"), "svg"])
def test_pictures_are_saved(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"curves.{suffix}"
    plot(_comparison(), path)
    start = {"png": b"\x89PNG", "svg": b"<?xml"}[suffix]
    assert path.read_bytes().startswith(start) and path.stat().st_size > 5000


def test_a_comparison_has_a_panel_per_horizon() -> None:
    comparison = _comparison()
    figure = plot(comparison)
    assert [axis.get_title() for axis in figure.axes] == ["1x the training horizon", "3x the training horizon"]
    assert figure.get_suptitle() == "Curves()"
    axis = figure.axes[1]
    assert axis.get_yscale() == "log"
    lines = {line.get_label(): line for line in axis.get_lines()}
    np.testing.assert_allclose(lines["learned"].get_ydata(), comparison.curve("learned", 3))
    assert lines["learned"].get_xdata()[-1] == 300
    assert len({line.get_color() for line in lines.values()}) == 6
    assert len(axis.collections) == 6
    # Learners stand out.
    assert lines["learned"].get_linewidth() > lines["adam"].get_linewidth()
    assert lines["learned"].get_zorder() == max(line.get_zorder() for line in lines.values())


def test_the_legend_lies_outside_of_the_data() -> None:
    figure = plot(_comparison())
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert all(not axis.get_window_extent().overlaps(legend) for axis in figure.axes)
    assert legend.x1 <= figure.bbox.x1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(_comparison().methods)


def test_values_that_are_not_positive_have_a_linear_axis() -> None:
    assert plot(_comparison(lowest=-0.1)).axes[0].get_yscale() == "linear"


def test_divergence_is_a_gap() -> None:
    comparison = _comparison()
    comparison.run("learned").values[..., 5:] = np.inf
    figure = plot(comparison, methods=["learned"])
    (line,) = figure.axes[0].get_lines()
    assert np.isfinite(line.get_ydata()[:5]).all() and np.isnan(line.get_ydata()[5:]).all()


def test_a_monitor_is_plotted() -> None:
    monitor = Monitor()
    state, update = monitor.init(), eqx.filter_jit(monitor.update)
    for step in range(5):
        state = update(state, value=2.0**-step, grads=jnp.asarray([2.0**-step]))
    figure = plot(monitor.trace(state), title="Halves")
    assert [axis.get_ylabel() for axis in figure.axes] == ["value", "gradient norm"]
    assert not figure.legends and figure.get_suptitle() == "Halves"
    np.testing.assert_allclose(figure.axes[1].get_lines()[0].get_ydata(), 2.0 ** -np.arange(5))
    assert plot({"a": monitor.trace(state), "b": monitor.trace(state)}).legends


def test_nothing_to_plot_is_an_error() -> None:
    with pytest.raises(ValueError, match="There is no `adm` to plot, only learned, sgd"):
        plot(_comparison(), methods=["adm"])
    with pytest.raises(ValueError, match="No curves"):
        plot({})
    with pytest.raises(ValueError, match="No curves"):
        plot(Monitor().trace(Monitor().init()))


def test_a_missing_matplotlib_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "metaopt\[plots\]"'):
        plot(_comparison())


def test_no_window_is_opened() -> None:
    import matplotlib._pylab_helpers as windows

    before = windows.Gcf.get_num_fig_managers()
    plot(_comparison())
    assert windows.Gcf.get_num_fig_managers() == before
