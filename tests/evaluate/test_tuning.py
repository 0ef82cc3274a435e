"""The search for a learning rate, on scores whose minimum is known."""

import math

import numpy as np
import pytest

from metaopt.evaluate._tuning import tune


GRID = np.logspace(-3, 0, 13)


def test_the_best_rate_inside_the_grid_is_taken() -> None:
    tuning = tune(lambda rate: abs(math.log(rate / 0.03)), GRID)
    assert tuning.rate == pytest.approx(10**-1.5)
    assert not tuning.at_edge
    assert tuning.rates.tolist() == GRID.tolist()
    assert tuning.scores.tolist() == [abs(math.log(rate / 0.03)) for rate in GRID]


@pytest.mark.parametrize("best", [3.0, 10**-3.4])
def test_the_grid_is_extended_towards_the_best_rate(best: float) -> None:
    tuning = tune(lambda rate: abs(math.log(rate / best)), GRID)
    assert tuning.rate == pytest.approx(best, rel=0.3)
    assert not tuning.at_edge
    # Still one geometric grid.
    np.testing.assert_allclose(np.diff(np.log(tuning.rates)), math.log(10) / 4)


def test_after_two_extensions_the_edge_is_reported() -> None:
    tried = []

    def score(rate: float) -> float:
        tried.append(rate)
        return -rate

    tuning = tune(score, GRID)
    assert tuning.at_edge
    assert len(tried) == 13 + 2 * 2
    assert tuning.rate == max(tried) == pytest.approx(10.0)


def test_divergence_is_the_worst_score() -> None:
    tuning = tune(lambda rate: math.nan if rate > 0.01 else -rate, GRID)
    assert tuning.rate == pytest.approx(0.01)
    assert math.isinf(tuning.scores[-1])


def test_if_all_diverge_lower_rates_are_tried() -> None:
    tuning = tune(lambda rate: math.inf if rate > 5e-4 else 1.0, GRID)
    assert tuning.rate <= 5e-4 and np.isfinite(tuning.scores).any()


def test_a_single_rate_is_an_edge() -> None:
    tuning = tune(lambda rate: rate, np.asarray([0.1]))
    assert tuning.rate == 0.1 and tuning.at_edge and tuning.rates.size == 1


@pytest.mark.parametrize("rates", [[], [0.1, 0.1], [0.0, 1.0], [-1.0], [math.nan]])
def test_bad_rates_are_refused(rates: list[float]) -> None:
    with pytest.raises(ValueError, match="`rates` must be distinct positive numbers"):
        tune(lambda rate: rate, np.asarray(rates, float))
