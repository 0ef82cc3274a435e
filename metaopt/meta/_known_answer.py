"""A meta-gradient that is known in closed form, for tests of estimators."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from .._core import AbstractLossTask, Learner, SingleTask
from ._horizons import ConstantHorizon
from ._objectives import MeanLoss
from .base import AbstractEstimator, MetaProblem


class _Parabola(AbstractLossTask[Array]):
    """f(x) = x^2 / 2 from x = 1: gradient descent at rate a gives x_t = (1 - a)^t."""

    def init(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.ones(())

    def loss(self, params: Float[Array, ""], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return 0.5 * params**2

    def measure(self, params: Float[Array, ""], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)


def known_problem(horizon: int, tasks: int) -> MetaProblem:
    """The mean loss on that parabola."""
    return MetaProblem(SingleTask(_Parabola()), MeanLoss(), ConstantHorizon(horizon), tasks=tasks)


def truth(rate: float, horizon: int) -> float:
    """The derivative of the mean loss after each of the updates with respect to log a."""
    t = np.arange(1, horizon + 1)
    return float(np.mean(-rate * t * (1 - rate) ** (2 * t - 1)))


def estimates(
    estimator: AbstractEstimator,
    learner: Learner,
    problem: MetaProblem,
    *,
    skipped: int,
    count: int,
    keys: Key[Array, " replicates"],
) -> Float[np.ndarray, "replicates count"]:
    """Meta-gradients of the first leaf one after the other, after some that are not counted, for each key."""
    return all_estimates(estimator, learner, problem, skipped=skipped, count=count, keys=keys)[..., 0]


def all_estimates(
    estimator: AbstractEstimator,
    learner: Learner,
    problem: MetaProblem,
    *,
    skipped: int,
    count: int,
    keys: Key[Array, " replicates"],
) -> Float[np.ndarray, "replicates count leaves"]:
    """The same of all leaves, which are numbers."""

    def run(key: PRNGKeyArray) -> Array:
        start, key = jr.split(key)
        dynamic, static = eqx.partition(estimator.init(learner, problem, key=start), eqx.is_array)

        def body(dynamic: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Array]:
            state, estimate = estimator.estimate(eqx.combine(dynamic, static), learner, problem, key=key)
            return eqx.filter(state, eqx.is_array), jnp.stack(jtu.tree_leaves(estimate.grads))

        return jax.lax.scan(body, dynamic, jr.split(key, skipped + count))[1][skipped:]

    return np.asarray(jax.jit(jax.vmap(run))(keys), np.float64)
