"""What a rule remembers of the losses that it was told."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from ..._core.arrays._numbers import number
from ..._core.arrays._trees import select


LOSS_FEATURES = 3
_FAST, _SLOW = 0.2, 0.02


class LossMemory(NamedTuple):
    """Averages of the losses so far; zero before the first."""

    told: Float[Array, ""]
    first: Float[Array, ""]
    best: Float[Array, ""]
    fast: Float[Array, ""]
    slow: Float[Array, ""]
    noise: Float[Array, ""]

    @staticmethod
    def create() -> "LossMemory":
        return LossMemory(*[number(0.0)] * 6)

    def see(self, value: Scalar | None) -> "LossMemory":
        """Take in one loss. What is not finite, and nothing at all, are passed over."""
        if value is None:
            return self
        x = value.astype(self.fast.dtype)
        fine = jnp.isfinite(x)
        x = jnp.where(fine, x, self.fast)
        fresh = self.told == 0

        def towards(old: Array, new: Array, weight: float) -> Array:
            # The first losses are averaged evenly.
            return old + jnp.maximum(weight, 1 / (self.told + 1)) * (new - old)

        fast, slow = towards(self.fast, x, _FAST), towards(self.slow, x, _SLOW)
        noise = towards(self.noise, jnp.abs(x - jnp.where(fresh, x, self.fast)), _SLOW)
        seen = LossMemory(
            self.told + 1,
            jnp.where(fresh, x, self.first),
            jnp.where(fresh, x, jnp.minimum(self.best, fast)),
            fast,
            slow,
            noise,
        )
        return select(fine, seen, self)

    def features(self) -> Float[Array, " features"]:
        """Features that do not change when the losses are scaled or shifted: whether they fall, in units of their
        noise; where they are between the first and the best; and how much noise there is."""
        tiny = 1e-12
        drop = self.first - self.best
        scale = jnp.maximum(jnp.abs(drop), tiny)
        trend = jnp.tanh((self.slow - self.fast) / jnp.maximum(self.noise, tiny))
        place = jnp.clip((self.fast - self.best) / scale, 0, 2)
        noise = jnp.clip(jnp.log(jnp.maximum(self.noise, tiny) / scale) / 4, -2, 2)
        return jnp.where(self.told > 1, jnp.stack([trend, place, noise]), 0.0)
