"""How an agent that learns values tries what it does not know."""

import abc

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._core.arrays._numbers import FRACTION, POSITIVE, SHARE, number


class AbstractExploration(eqx.Module):
    """A way to choose an action by the values of all, at some point of the training."""

    @abc.abstractmethod
    def choose(
        self, values: Float[Array, " actions"], progress: Float[Array, ""], *, key: PRNGKeyArray
    ) -> Int[Array, ""]:
        """Choose an action. `progress` is the share of the training that is done."""


def _line(
    progress: Float[Array, ""], start: Float[Array, ""], end: Float[Array, ""], share: Float[Array, ""]
) -> Float[Array, ""]:
    return start + (end - start) * jnp.clip(progress / share, 0, 1)


class EpsilonGreedy(AbstractExploration):
    """A random action with a probability that falls linearly, and the best one otherwise.

    **Arguments:**

    - `initial`, `final`: the probability at the start and at the end.
    - `share`: the share of the training after which it is final.
    """

    initial: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    final: Float[Array, ""] = eqx.field(converter=number, default=0.05)
    share: Float[Array, ""] = eqx.field(converter=number, default=0.5)

    def __check_init__(self) -> None:
        FRACTION.check(initial=self.initial, final=self.final)
        SHARE.check(share=self.share)

    def choose(
        self, values: Float[Array, " actions"], progress: Float[Array, ""], *, key: PRNGKeyArray
    ) -> Int[Array, ""]:
        whether, which = jr.uniform(key, (2,))
        random = whether < _line(progress, self.initial, self.final, self.share)
        other = jnp.minimum(which * values.size, values.size - 1)
        return jnp.where(random, other.astype(jnp.int32), jnp.argmax(values).astype(jnp.int32))


class Boltzmann(AbstractExploration):
    r"""An action with a probability proportional to $e^{q / T}$, where the temperature $T$ falls linearly.

    **Arguments:**

    - `initial`, `final`: the temperature at the start and at the end, in units of the values.
    - `share`: the share of the training after which it is final.
    """

    initial: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    final: Float[Array, ""] = eqx.field(converter=number, default=0.02)
    share: Float[Array, ""] = eqx.field(converter=number, default=0.5)

    def __check_init__(self) -> None:
        POSITIVE.check(initial=self.initial, final=self.final)
        SHARE.check(share=self.share)

    def choose(
        self, values: Float[Array, " actions"], progress: Float[Array, ""], *, key: PRNGKeyArray
    ) -> Int[Array, ""]:
        temperature = _line(progress, self.initial, self.final, self.share)
        return jr.categorical(key, values / temperature).astype(jnp.int32)
