"""Small few-shot problems with known answers."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

import metaopt
from metaopt.tasks import DenseNetwork, FewShotTask, SinusoidsTask


class LinearRegression(metaopt.AbstractLossTask[Array]):
    """Half the mean squared error of a linear model, on support and on query rows."""

    support: Float[Array, "n d"]
    support_targets: Float[Array, " n"]
    query: Float[Array, "m d"]
    query_targets: Float[Array, " m"]

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " d"]:
        return jr.normal(key, (self.support.shape[1],))

    def loss(self, params: Float[Array, " d"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return 0.5 * jnp.mean(jnp.square(self.support @ params - self.support_targets))

    def measure(self, params: Float[Array, " d"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return 0.5 * jnp.mean(jnp.square(self.query @ params - self.query_targets))


class LinearRegressions(metaopt.AbstractTaskFamily):
    def sample(self, *, key: PRNGKeyArray) -> LinearRegression:
        keys = jr.split(key, 3)
        rows = jr.normal(keys[0], (2, 6, 3))
        targets = rows @ jr.normal(keys[1], (3,)) + 0.1 * jr.normal(keys[2], (2, 6))
        return LinearRegression(rows[0], targets[0], rows[1], targets[1])


class Blobs(metaopt.AbstractTaskFamily):
    """Classification of points near one of three places."""

    def sample(self, *, key: PRNGKeyArray) -> FewShotTask:
        places, noise = jr.split(key)
        points = jr.normal(places, (3, 1, 5)) + 0.3 * jr.normal(noise, (3, 6, 5))
        return FewShotTask(DenseNetwork((5, 6, 3), "tanh"), points[:, :2], points[:, 2:])


class Slope(metaopt.AbstractLossTask[Array]):
    """A loss without curvature on support data, and one with it on query data."""

    slope: Float[Array, " d"]

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " d"]:
        return jr.normal(key, self.slope.shape)

    def loss(self, params: Float[Array, " d"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return self.slope @ params

    def measure(self, params: Float[Array, " d"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.sum(params**4)


class Slopes(metaopt.AbstractTaskFamily):
    def sample(self, *, key: PRNGKeyArray) -> Slope:
        return Slope(jr.normal(key, (3,)))


def wave(seed: int = 0, width: int = 8) -> metaopt.SingleTask:
    """One sine wave and a smooth network, whose losses have all derivatives."""
    keys = jr.split(jr.key(seed), 2)
    points = [jr.uniform(k, (10,), minval=-5.0, maxval=5.0) for k in keys]
    task = SinusoidsTask(DenseNetwork((1, width, 1), "tanh"), jnp.asarray(2.0), jnp.asarray(0.5), *points)
    return metaopt.SingleTask(task)
