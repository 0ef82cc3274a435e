"""What learning curves say about each other."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import ArrayLike, Float, Real


Statistic = Literal["median", "mean", "geometric_mean"]


def steps_to_target(
    curve: Real[ArrayLike, " records"] | Sequence[float],
    target: float,
    *,
    steps: Real[ArrayLike, " records"] | Sequence[float] | None = None,
) -> float:
    r"""After how many steps a learning curve first is at or below a target.

    Linear interpolation between records: with the first record $k$ at which $c_k \le$ `target`,

    $$s_{k-1} + (s_k - s_{k-1}) \, \frac{c_{k-1} - \mathrm{target}}{c_{k-1} - c_k}.$$

    **Arguments:**

    - `curve`: the recorded values. Those that are not finite count as infinite: they reach nothing.
    - `target`: the value to reach.
    - `steps`: the step of each record; by default 0, 1, 2, ...

    **Returns:**

    The number of steps; infinity if the curve never gets there.

    **Raises:**

    - `ValueError`: if `curve` is empty or no vector, or `steps` has another length.
    """
    values, positions = _checked(curve, steps)
    reached = np.flatnonzero((values <= target) & np.isfinite(values))
    if reached.size == 0:
        return float("inf")
    k = int(reached[0])
    if k == 0 or not np.isfinite(values[k - 1]):
        return float(positions[k])
    share = (values[k - 1] - target) / (values[k - 1] - values[k])
    return float(positions[k - 1] + share * (positions[k] - positions[k - 1]))


def speedup_at_target(
    curve: Real[ArrayLike, " records"] | Sequence[float],
    baseline_curve: Real[ArrayLike, " baseline_records"] | Sequence[float],
    *,
    steps: Real[ArrayLike, " records"] | Sequence[float] | None = None,
) -> float:
    r"""How many times fewer steps a curve needs to get where a baseline ends.

    $$\frac{\mathrm{steps}(\text{baseline} \to v)}{\mathrm{steps}(\text{curve} \to v)}, \qquad
      v = \text{the last value of the baseline}$$

    with the steps of [`metaopt.evaluate.steps_to_target`][]. The numerator is what the baseline really needed, which
    is less than its budget if it was there before the end.

    A curve that never gets there gives 0, a number below 1 that a median or a count over tasks takes into account; its
    true speedup is unknown, and lies below 1 unless the baseline was done before its budget was spent. If the baseline
    diverged, a curve that ends finite gives infinity, any other 0. If both are at the target before the first step,
    the ratio is 1.

    **Arguments:**

    - `curve`, `baseline_curve`: the recorded values.
    - `steps`: the step of each record, the same for both; by default 0, 1, 2, ...

    **Returns:**

    The ratio.

    **Raises:**

    - `ValueError`: if a curve is empty or no vector, or `steps` has another length.
    """
    end, target = (float(_checked(each, steps)[0][-1]) for each in (curve, baseline_curve))
    if not np.isfinite(target):
        return float("inf") if np.isfinite(end) else 0.0
    needed = steps_to_target(curve, target, steps=steps)
    baseline = steps_to_target(baseline_curve, target, steps=steps)
    if needed == 0:
        return 1.0 if baseline == 0 else float("inf")
    return baseline / needed


def summarize(values: Float[np.ndarray, "tasks *records"], statistic: Statistic) -> Float[np.ndarray, "*records"]:
    """One number over tasks (the first axis). An infinite value, a task that diverged, counts as what it is."""
    if statistic == "median":
        return np.asarray(np.median(values, axis=0))
    if statistic == "mean":
        return np.asarray(np.mean(values, axis=0))
    if np.any(values < 0):
        raise ValueError(
            "The statistic `geometric_mean` needs losses that are not negative, but the lowest is "
            f"{float(np.min(values)):.4g}. Use `median` or `mean`."
        )
    return geometric_mean(values)


def geometric_mean(values: Float[np.ndarray, "tasks *records"]) -> Float[np.ndarray, "*records"]:
    """The geometric mean over tasks (the first axis); NaN where a value is negative."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.exp(np.mean(np.log(values), axis=0)))


def quartiles(values: Float[np.ndarray, "tasks *records"]) -> Float[np.ndarray, "2 *records"]:
    """The lower and the upper quartile over tasks. Observed values: nothing is interpolated to infinity."""
    return np.quantile(values, [0.25, 0.75], axis=0, method="inverted_cdf")


def _checked(
    curve: ArrayLike | Sequence[float], steps: ArrayLike | Sequence[float] | None
) -> tuple[Float[np.ndarray, " records"], Float[np.ndarray, " records"]]:
    values = np.asarray(curve, float)
    positions = np.arange(values.size, dtype=float) if steps is None else np.asarray(steps, float)
    if values.ndim != 1 or values.size == 0 or positions.shape != values.shape:
        raise ValueError(
            f"A curve must be a vector of at least one value, with one step for each, but the shapes {values.shape} "
            f"(values) and {positions.shape} (steps) were given."
        )
    return np.where(np.isnan(values), np.inf, values), positions
