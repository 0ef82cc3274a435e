from pathlib import Path

import numpy as np
import pytest

from metaopt.evaluate import plot_fronts


pytest.importorskip("matplotlib")


def test_each_pair_of_objectives_has_a_panel(tmp_path: Path) -> None:
    one, other = np.arange(12.0).reshape(4, 3), np.ones((2, 3))
    figure = plot_fronts({"one": one, "other": other}, tmp_path / "fronts.png", names=["a", "b", "c"])
    assert [(axis.get_xlabel(), axis.get_ylabel()) for axis in figure.axes] == [("a", "b"), ("a", "c"), ("b", "c")]
    np.testing.assert_array_equal(figure.axes[1].collections[0].get_offsets(), one[:, [0, 2]])
    assert [len(axis.collections) for axis in figure.axes] == [2, 2, 2]
    assert (tmp_path / "fronts.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_plotted() -> None:
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_fronts({})
    with pytest.raises(ValueError, match="two objectives or more"):
        plot_fronts({"one": np.ones((3, 1))})
    with pytest.raises(ValueError, match="two objectives or more"):
        plot_fronts({"one": np.ones((3, 2))}, names=["a"])
