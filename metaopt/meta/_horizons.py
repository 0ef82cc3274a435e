"""How long episodes are."""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, PRNGKeyArray

from .base import AbstractHorizon


class ConstantHorizon(AbstractHorizon):
    """Every episode has the same number of updates."""

    longest: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.longest < 1:
            raise ValueError(f"A horizon must be at least 1 step, but `longest={self.longest}` was given.")

    def sample(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        del key
        return jnp.asarray(self.longest, jnp.int32)

    def mean_truncations(self, truncation: int) -> float:
        return float(math.ceil(self.longest / truncation))


class LogUniformHorizon(AbstractHorizon):
    r"""Horizons spread evenly over orders of magnitude, $\log H \sim U(\log a, \log b)$ rounded down.

    A learner trained at one horizon overfits it; one trained over many can be told any.
    """

    shortest: int = eqx.field(static=True)
    longest: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(
                f"Horizons must satisfy 1 <= shortest <= longest, but `shortest={self.shortest}` and "
                f"`longest={self.longest}` were given."
            )

    def sample(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        low, high = math.log(self.shortest), math.log(self.longest + 1)
        drawn = jnp.exp(jr.uniform(key, (), minval=low, maxval=high)).astype(jnp.int32)
        return jnp.clip(drawn, self.shortest, self.longest)

    def mean_truncations(self, truncation: int) -> float:
        width = math.log((self.longest + 1) / self.shortest)
        probabilities = (math.log((h + 1) / h) / width for h in range(self.shortest, self.longest + 1))
        lengths = range(self.shortest, self.longest + 1)
        return sum(p * math.ceil(h / truncation) for p, h in zip(probabilities, lengths, strict=True))
