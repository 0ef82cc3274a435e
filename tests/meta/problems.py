"""Small meta-problems with known answers."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

import metaopt


class Parabola(metaopt.AbstractLossTask[Array]):
    """f(x) = curvature x^2 / 2 from x = 1, so gradient descent at rate a gives x_t = (1 - a curvature)^t."""

    curvature: Float[Array, ""]

    def init(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.asarray(1.0)

    def loss(self, params: Float[Array, ""], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return 0.5 * self.curvature * params**2

    def measure(self, params: Float[Array, ""], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)


class Parabolas(metaopt.AbstractTaskFamily):
    """Parabolas of curvature between 1 and `widest`."""

    widest: float = eqx.field(static=True, default=1.0)

    def sample(self, *, key: PRNGKeyArray) -> Parabola:
        return Parabola(jr.uniform(key, (), minval=1.0, maxval=self.widest))


class Descent(metaopt.AbstractAlgorithm[tuple, Array, Array]):
    """Gradient descent with a learnable log-rate."""

    log_rate: Float[Array, ""]

    def init(self, params: Array, *, key: PRNGKeyArray | None = None) -> tuple:
        del params, key
        return ()

    def step(self, state: tuple, params: Array, grads: Array, *, value: Array | None = None) -> tuple[tuple, Array]:
        del value
        return state, params - jnp.exp(self.log_rate) * grads


def descent(rate: float) -> metaopt.Learner:
    return metaopt.Learner(Descent(jnp.log(jnp.asarray(rate, jnp.result_type(float)))))


def log_rate(learner: metaopt.Learner) -> Float[Array, ""]:
    assert isinstance(learner.algorithm, Descent)
    return learner.algorithm.log_rate
