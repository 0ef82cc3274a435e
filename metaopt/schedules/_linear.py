"""Linear decay of the step size."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, ScalarLike

from .._core import AbstractAlgorithm, AbstractPlanner
from .._core._algorithm import ASSUMED_HORIZON, horizon_leaf
from .._core.arrays._numbers import COUNT, FRACTION, number
from ._common import warmup
from .base import AbstractSchedule


class Linear(AbstractSchedule, AbstractPlanner):
    r"""Scale the steps of an inner algorithm down along a line, from the start on or late in the run.

    $$\phi(t) = \min\left(1, \frac{t + 1}{w}\right) \left(1 - (1 - \rho) \, u_t\right), \qquad
      u_t = \min\left(1, \frac{\max(0, t - s)}{H - s}\right), \qquad s = \max(w, (1 - \delta) H)$$

    with the horizon $H$, the final fraction $\rho$ and $w$ steps of linear warm-up, as in
    [`metaopt.schedules.Cosine`][]. The decay takes the last share $\delta$ of the horizon: all of it by default, and
    with less the schedule is the trapezoid that is known as warm-up, stable, decay.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{defazio2023when,
          title={Optimal Linear Decay Learning Rate Schedules and Further Refinements},
          author={Defazio, Aaron and Cutkosky, Ashok and Mehta, Harsh and Mishchenko, Konstantin},
          booktitle={arXiv:2310.07831}, year={2023}
        }
        @inproceedings{hagele2024scaling,
          title={Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations},
          author={H{\"a}gele, Alexander and Bakouch, Elie and Kosson, Atli and Ben Allal, Loubna
                  and Von Werra, Leandro and Jaggi, Martin},
          booktitle={NeurIPS}, year={2024}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    horizon: Int[Array, ""]
    final_fraction: Float[Array, ""]
    warmup_fraction: Float[Array, ""]
    decay_fraction: Float[Array, ""]

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        horizon: ScalarLike = ASSUMED_HORIZON,
        final_fraction: ScalarLike = 0.0,
        warmup_fraction: ScalarLike = 0.0,
        decay_fraction: ScalarLike = 1.0,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm whose steps are scaled.
        - `horizon`: $H$, the number of steps until the factor is final; drivers set it.
        - `final_fraction`: $\rho$, where the factor ends.
        - `warmup_fraction`: $w / H$, the share of the horizon that is warm-up.
        - `decay_fraction`: $\delta$, the share of the horizon that is decay; all but the warm-up at most.

        **Raises:**

        - `ValueError`: if `horizon` is below 1 or a fraction is not between 0 and 1.
        """
        COUNT.check(horizon=horizon)
        FRACTION.check(final_fraction=final_fraction, warmup_fraction=warmup_fraction, decay_fraction=decay_fraction)
        self.inner = inner
        self.horizon = horizon_leaf(horizon)
        self.final_fraction = number(final_fraction)
        self.warmup_fraction = number(warmup_fraction)
        self.decay_fraction = number(decay_fraction)

    def factor(self, clock: Int[Array, ""]) -> Float[Array, ""]:
        rise, _ = warmup(clock, self.horizon, self.warmup_fraction)
        _, done = warmup(clock, self.horizon, jnp.maximum(self.warmup_fraction, 1 - self.decay_fraction))
        return rise * (1 - (1 - self.final_fraction.astype(done.dtype)) * done)
