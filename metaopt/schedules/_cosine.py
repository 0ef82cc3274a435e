"""Cosine decay of the step size."""

from typing import Any

from jaxtyping import Array, Float, Int, ScalarLike

from .._core import AbstractAlgorithm, AbstractPlanner
from .._core._algorithm import ASSUMED_HORIZON, horizon_leaf
from .._core.arrays._numbers import COUNT, FRACTION, number
from ._common import half_cosine, warmup
from .base import AbstractSchedule


class Cosine(AbstractSchedule, AbstractPlanner):
    r"""Scale the steps of an inner algorithm down along half a cosine.

    $$\theta_{t+1} = \theta_t + \phi(t) \, (\mathrm{inner}(\theta_t, g_t) - \theta_t), \qquad
      \phi(t) = \min\left(1, \frac{t + 1}{w}\right)
                \left(\rho + (1 - \rho) \, \frac{1 + \cos \pi u_t}{2}\right), \qquad
      u_t = \min\left(1, \frac{\max(0, t - w)}{H - w}\right)$$

    with the horizon $H$ (set by [`metaopt.with_horizon`][], which the drivers call), the final fraction $\rho$ and
    $w$ steps of linear warm-up. From step $H$ on, the factor stays at $\rho$. See
    [`metaopt.schedules.AbstractSchedule`][].

    ??? cite "Reference"

        ```bibtex
        @inproceedings{loshchilov2017sgdr,
          title={{SGDR}: Stochastic Gradient Descent with Warm Restarts},
          author={Loshchilov, Ilya and Hutter, Frank},
          booktitle={ICLR}, year={2017}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    horizon: Int[Array, ""]
    final_fraction: Float[Array, ""]
    warmup_fraction: Float[Array, ""]

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        horizon: ScalarLike = ASSUMED_HORIZON,
        final_fraction: ScalarLike = 0.0,
        warmup_fraction: ScalarLike = 0.0,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm whose steps are scaled.
        - `horizon`: $H$, the number of steps until the factor is final.
        - `final_fraction`: $\rho$, where the factor ends.
        - `warmup_fraction`: $w / H$, the share of the horizon that is warm-up.

        **Raises:**

        - `ValueError`: if `horizon` is below 1 or a fraction is not between 0 and 1.
        """
        COUNT.check(horizon=horizon)
        FRACTION.check(final_fraction=final_fraction, warmup_fraction=warmup_fraction)
        self.inner = inner
        self.horizon = horizon_leaf(horizon)
        self.final_fraction = number(final_fraction)
        self.warmup_fraction = number(warmup_fraction)

    def factor(self, clock: Int[Array, ""]) -> Float[Array, ""]:
        rise, done = warmup(clock, self.horizon, self.warmup_fraction)
        return rise * half_cosine(done, self.final_fraction)
