"""Speedups against closed forms."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from metaopt.evaluate import speedup_at_target, steps_to_target
from metaopt.evaluate._curves import geometric_mean, quartiles, summarize


T = np.arange(11.0)


def test_straight_lines_are_exact() -> None:
    assert speedup_at_target(np.maximum(10 - 2.5 * T, 0), 10 - T) == 2.5
    assert speedup_at_target(10 - T, np.maximum(10 - 2.5 * T, 0)) == pytest.approx(0.4)


def test_exponential_decays_have_the_ratio_of_their_rates() -> None:
    t = np.linspace(0, 12, 4001)
    assert speedup_at_target(np.exp(-3 * t), np.exp(-t), steps=t) == pytest.approx(3, rel=1e-5)
    assert speedup_at_target(np.exp(-2 * T), np.exp(-T)) == pytest.approx(2, rel=1e-12)


def test_crossings_are_interpolated() -> None:
    assert steps_to_target([8.0, 4.0, 0.0], 3.0) == 1.25
    assert steps_to_target([8.0, 4.0, 0.0], 3.0, steps=[0, 10, 30]) == 15.0
    assert steps_to_target([8.0, 4.0, 6.0, 0.0], 4.0) == 1.0
    assert steps_to_target([1.0], 1.0) == 0.0


def test_a_target_that_is_not_reached_is_not_dropped() -> None:
    assert steps_to_target([3.0, 2.0], 1.0) == math.inf
    assert speedup_at_target([3.0, 2.0, 1.5], [3.0, 2.0, 1.0]) == 0.0


def test_a_baseline_counts_from_when_it_was_there_first() -> None:
    baseline = [4.0, 1.0, 2.0, 1.0, 1.0]
    assert speedup_at_target([4.0, 3.0, 1.0, 1.0, 1.0], baseline) == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_divergence_reaches_nothing(bad: float) -> None:
    fine = [3.0, 2.0, 1.0]
    assert speedup_at_target([3.0, bad, bad], fine) == 0.0
    assert speedup_at_target([3.0, bad, 1.0], fine) == 1.0
    assert speedup_at_target(fine, [3.0, 2.0, bad]) == math.inf
    assert speedup_at_target([3.0, 2.0, bad], [3.0, 2.0, bad]) == 0.0


def test_starts_at_the_target() -> None:
    assert speedup_at_target([1.0, 0.5], [1.0, 2.0]) == 1.0
    assert speedup_at_target([1.0, 0.5], [3.0, 2.0]) == math.inf
    assert speedup_at_target([5.0, 4.0], [1.0, 2.0]) == 0.0


@hypothesis.given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20), st.floats(0.01, 100))
def test_a_curve_is_as_fast_as_itself_on_any_scale(values: list[float], scale: float) -> None:
    curve = np.asarray(values)
    assert speedup_at_target(curve, curve) == 1.0
    faster = speedup_at_target(curve, curve, steps=scale * np.arange(curve.size))
    assert faster == 1.0


# Of single precision: a target closer to a record than its last digit crosses at that record.
_NUMBERS = st.floats(-1024, 1024, width=32, allow_subnormal=False)


@hypothesis.given(st.lists(_NUMBERS, min_size=1, max_size=20), _NUMBERS)
def test_a_crossing_lies_in_the_interval_of_its_records(values: list[float], target: float) -> None:
    step = steps_to_target(values, target)
    if step == math.inf:
        assert min(values) > target
    else:
        assert values[math.ceil(step)] <= target
        assert all(value > target for value in values[: math.ceil(step)])


@pytest.mark.parametrize("other", [[1.0, 0.5], [math.nan]])
def test_an_empty_curve_is_refused(other: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one value"):
        steps_to_target([], 1.0)
    with pytest.raises(ValueError, match="at least one value"):
        speedup_at_target([], other)
    with pytest.raises(ValueError, match="at least one value"):
        speedup_at_target(other, [])


def test_steps_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one step for each"):
        steps_to_target([1.0, 2.0], 1.0, steps=[0.0])


def test_summaries() -> None:
    values = np.asarray([1.0, 10.0, 1000.0, np.inf])
    assert summarize(values, "median") == 505.0
    assert summarize(values, "mean") == np.inf
    assert summarize(values[:3], "geometric_mean") == pytest.approx(10 ** (4 / 3))
    assert quartiles(values).tolist() == [1.0, 1000.0]
    assert geometric_mean(np.asarray([[1.0, 0.0], [4.0, 1.0]])).tolist() == pytest.approx([2.0, 0.0])
    assert np.isnan(geometric_mean(np.asarray([-1.0, 1.0])))
    with pytest.raises(ValueError, match="not negative, but the lowest is -1"):
        summarize(np.asarray([-1.0, 1.0]), "geometric_mean")
