"""Features of time."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._core import AbstractPlanner
from ..._core._algorithm import ASSUMED_HORIZON, horizon_leaf
from ..._core.arrays._numbers import COUNT
from ..base import AbstractClock


TIMESCALES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000)
HORIZON_FEATURES = 6


class TanhClock(AbstractClock):
    r"""The time on eleven scales, for rules that are not told how many steps they have.

    $$c_i = \tanh\left(\frac{t}{\tau_i} - 1\right), \qquad \tau = 1, 3, 10, 30, \ldots, 100000$$

    with $t$ counted from 0.
    """

    @property
    def size(self) -> int:
        return len(TIMESCALES)

    def __call__(self, step: Int[Array, ""], dtype: Any) -> Float[Array, " size"]:
        return jnp.tanh(step.astype(dtype) / jnp.asarray(TIMESCALES, dtype) - 1)


class HorizonClock(AbstractClock, AbstractPlanner):
    r"""The time relative to the number of steps there will be, and the time since the start.

    With $x = t / H$ where $t$ is counted from 0:

    $$c = \left(2x - 1,\; 2\sqrt{x} - 1,\; \tfrac13 \log(1 - x + \tfrac1H) + \tfrac12,\;
           \tfrac13 \log(t + 2) - 1,\; \tanh(\tfrac{t + 1}{10} - 1),\; e^{-(t + 1) / 3}\right)$$

    Steps past the horizon see the time of the last one.
    """

    horizon: Int[Array, ""] = eqx.field(converter=horizon_leaf, default=ASSUMED_HORIZON)

    def __check_init__(self) -> None:
        COUNT.check(horizon=self.horizon)

    @property
    def size(self) -> int:
        return HORIZON_FEATURES

    def fraction(self, step: Int[Array, ""], dtype: Any) -> Float[Array, ""]:
        """The fraction $x$ of the steps that were taken, at most 1."""
        return jnp.minimum(step.astype(dtype) / self.horizon.astype(dtype), 1)

    def log_cosine(self, step: Int[Array, ""], dtype: Any) -> Float[Array, ""]:
        """The logarithm of a half cosine over the steps that there will be, which ends at 0.001."""
        return jnp.log(jnp.maximum((1 + jnp.cos(jnp.pi * self.fraction(step, dtype))) / 2, 1e-3))

    def log_warmup(self, step: Int[Array, ""], part: float, dtype: Any) -> Float[Array, ""]:
        """The logarithm of a line that rises to 1 over this part of the steps that there will be."""
        steps = jnp.maximum(part * self.horizon.astype(dtype), 1)
        return jnp.log(jnp.minimum((step.astype(dtype) + 1) / steps, 1))

    def __call__(self, step: Int[Array, ""], dtype: Any) -> Float[Array, " size"]:
        x, t = self.fraction(step, dtype), step.astype(dtype) + 1
        left = 1 - x + 1 / self.horizon.astype(dtype)
        return jnp.stack(
            [
                2 * x - 1,
                2 * jnp.sqrt(x) - 1,
                jnp.log(left) / 3 + 0.5,
                jnp.log1p(t) / 3 - 1,
                jnp.tanh(t / 10 - 1),
                jnp.exp(-t / 3),
            ]
        )
