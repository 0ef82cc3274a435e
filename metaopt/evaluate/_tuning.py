"""The choice of a learning rate."""

from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Float


class Tuning(eqx.Module):
    """Which learning rate was chosen, and among which.

    - `rate`: the rate with the lowest score.
    - `rates`, `scores`: all that were tried, in ascending order; a score is infinite if the tasks diverged.
    - `at_edge`: whether the chosen rate is the lowest or the highest of them even after the grid was extended, so that
        a better one may lie outside.
    """

    rate: float
    rates: Float[np.ndarray, " rates"]
    scores: Float[np.ndarray, " rates"]
    at_edge: bool


def tune(score: Callable[[float], float], rates: Float[np.ndarray, " rates"], *, extensions: int = 2) -> Tuning:
    """Try all rates, and more of them as long as the best one lies at the edge of the grid.

    An extension goes on from the edge with the ratio of the two outermost rates, by a fifth of the size of the grid but
    at least two rates.

    **Arguments:**

    - `score`: what to minimize. NaN counts as infinite.
    - `rates`: positive rates.
    - `extensions`: how often the grid may be extended.

    **Returns:**

    A [`metaopt.evaluate.Tuning`][].

    **Raises:**

    - `ValueError`: if a rate is not positive and finite, or given twice, or there is none.
    """
    grid = np.sort(np.asarray(rates, float))
    if grid.ndim != 1 or grid.size == 0 or not np.all(np.isfinite(grid) & (grid > 0)) or np.any(np.diff(grid) == 0):
        raise ValueError(f"`rates` must be distinct positive numbers, at least one, but {rates!r} was given.")
    width = max(2, grid.size // 5)
    tried = {float(rate): _number(score(float(rate))) for rate in grid}
    for _ in range(extensions if grid.size > 1 else 0):
        ordered = sorted(tried)
        best = min(ordered, key=tried.__getitem__)
        if best == ordered[0]:
            ratio = ordered[0] / ordered[1]
        elif best == ordered[-1]:
            ratio = ordered[-1] / ordered[-2]
        else:
            break
        for power in range(1, width + 1):
            rate = best * ratio**power
            tried[rate] = _number(score(rate))
    ordered = sorted(tried)
    best = min(ordered, key=tried.__getitem__)
    scores = np.asarray([tried[rate] for rate in ordered])
    return Tuning(best, np.asarray(ordered), scores, best in (ordered[0], ordered[-1]))


def _number(score: float) -> float:
    return float("inf") if np.isnan(score) else float(score)
