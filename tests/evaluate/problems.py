"""Tasks with known learning curves."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

import metaopt


class Bowl(metaopt.AbstractLossTask[Array]):
    """|x|^2 / 2 from a random start: gradient descent at rate a multiplies the loss by (1 - a)^2 per step.

    The minibatch gradient is off by `noise`. What is reported is exact, and `weight` times the loss.
    """

    weight: Float[Array, ""]
    noise: float = eqx.field(static=True, default=0.0)

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        return jr.uniform(key, (3,), minval=1.0, maxval=2.0)

    def loss(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return jnp.sum(params**2) / 2 + self.noise * jnp.sum(params * jr.normal(key, params.shape))

    def measure(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return self.weight * jnp.sum(params**2) / 2


class Bowls(metaopt.AbstractTaskFamily):
    """Bowls with random weights."""

    noise: float = eqx.field(static=True, default=0.0)

    def sample(self, *, key: PRNGKeyArray) -> Bowl:
        return Bowl(jr.uniform(key, (), minval=0.5, maxval=2.0), self.noise)
