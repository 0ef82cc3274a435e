"""How a run goes: what schedulers are told of the time and of the losses."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, ScalarLike

from ..._core import AbstractPlanner
from ..._core._algorithm import ASSUMED_HORIZON, horizon_leaf


FRACTIONS = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
AVERAGES = 10
# An average of one or two losses says nothing yet.
SILENT = 2
HIGHEST = 1e12


class Losses(NamedTuple):
    """Averages of the losses, and the lowest that each was."""

    means: Float[Array, " averages"]
    lowest: Float[Array, " averages"]


class Progress(AbstractPlanner):
    r"""The fraction of the steps that were taken, and how the losses developed: 18 features.

    With $x = t / H$, where $t$ is counted from 0, nine are $\tanh(10 (x - \tau_i))$ for
    $\tau = 0.03, 0.1, \ldots, 1.1$. The others compare ten averages of the losses, whose memories $h$ are spaced
    evenly on a logarithmic scale between 10 steps and $H$,

    $$\ell \leftarrow \min(\ell, 2 |\max_i \hat\mu_i|), \qquad
      \mu_i \leftarrow e^{-1 / h_i} \mu_i + (1 - e^{-1 / h_i})\, \ell, \qquad
      b_i \leftarrow \min(b_i, \hat\mu_i), \qquad
      f_i = \frac{\hat\mu_i - b_i}{\hat\mu_{i + 1} - b_i} - 1 \in [-1, 1]$$

    with $\hat\mu$ corrected for starting at zero: -1 where an average is as low as it ever was. The first two steps see
    zeros.

    Without a loss, losses are taken to be the same all the time. One that is not finite is taken to be the highest of
    the averages.
    """

    horizon: Int[Array, ""] = eqx.field(converter=horizon_leaf, default=ASSUMED_HORIZON)

    @property
    def size(self) -> int:
        """How many features there are."""
        return len(FRACTIONS) + AVERAGES - 1

    def init(self, dtype: Any) -> Losses:
        """The averages before the first loss."""
        return Losses(jnp.zeros(AVERAGES, dtype), jnp.full(AVERAGES, HIGHEST, dtype))

    def observe(
        self, old: Losses, step: Int[Array, ""], value: ScalarLike | None
    ) -> tuple[Losses, Float[Array, " size"]]:
        """The averages with a new loss, and the features then.

        **Arguments:**

        - `old`: the averages.
        - `step`: how many steps were taken before this one.
        - `value`: the loss.
        """
        dtype = old.means.dtype
        t, horizon = step.astype(dtype), self.horizon.astype(dtype)
        memory = jnp.exp(jnp.linspace(jnp.log(jnp.asarray(10, dtype)), jnp.log(horizon), AVERAGES))
        fresh = -jnp.expm1(-1 / memory)
        # The old averages are corrected as if they held one loss more, as published.
        correction = -1 / jnp.expm1(-(t + 1) / memory)
        loss = jnp.ones((), dtype) if value is None else jnp.asarray(value).astype(dtype)
        highest = jnp.max(old.means * correction)
        # What is not finite says nothing: the averages stay about where they are.
        loss = jnp.where(jnp.isfinite(loss), loss, jnp.where(step == 0, 1, highest))
        highest = jnp.where(step == 0, loss, highest)
        loss = jnp.minimum(2 * jnp.abs(highest), loss)
        means = old.means + fresh * (loss - old.means)
        corrected = means * correction
        lowest = jnp.minimum(old.lowest, corrected)
        span = jnp.maximum(corrected[1:] - lowest[:-1], 1e-8)
        trend = jnp.clip((corrected[:-1] - lowest[:-1]) / span - 1, -1, 1)
        trend = jnp.where(step < SILENT, 0, trend)
        time = jnp.tanh(10 * (t / horizon - jnp.asarray(FRACTIONS, dtype)))
        return Losses(means, lowest), jnp.concatenate([time, trend])
