"""A second meta-gradient that is known: a rotated quadratic in two dimensions, with momentum and noise."""

import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from ..._core import AbstractLossTask, Learner, SingleTask
from ...l2o import LearnableSGD
from ...meta import ConstantHorizon, LogUniformHorizon, MeanLoss, MetaProblem


RATE, MOMENTUM, NOISE = 0.15, 0.7, 0.3
_TURN, _CURVATURES, _START = 0.5, (0.5, 2.0), (1.0, -0.5)


def _matrix() -> Float[np.ndarray, "2 2"]:
    c, s = math.cos(_TURN), math.sin(_TURN)
    rotation = np.asarray([[c, -s], [s, c]])
    return rotation @ np.diag(_CURVATURES) @ rotation.T


class _Bowl(AbstractLossTask[Array]):
    r"""$\frac12 x^\top A x + s \, \xi^\top x$ with $\xi \sim N(0, I)$ in each minibatch."""

    def init(self, *, key: PRNGKeyArray) -> Float[Array, "2"]:
        del key
        return jnp.asarray(_START)

    def loss(self, params: Float[Array, "2"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return 0.5 * params @ jnp.asarray(_matrix()) @ params + NOISE * jr.normal(key, (2,)) @ params

    def measure(self, params: Float[Array, "2"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return 0.5 * params @ jnp.asarray(_matrix()) @ params


def heavy_ball(horizon: ConstantHorizon | LogUniformHorizon, tasks: int) -> tuple[Learner, MetaProblem]:
    """The learner, and the mean loss of its steps."""
    return Learner(LearnableSGD(RATE, MOMENTUM)), MetaProblem(SingleTask(_Bowl()), MeanLoss(), horizon, tasks=tasks)


def _mean_loss(log_rate: complex, log_complement: complex, horizon: int) -> complex:
    """The expected mean loss after each update, by the recursions of mean and covariance, without jax."""
    matrix, unit = _matrix(), np.eye(2)
    rate, decay = np.exp(log_rate), 1 - np.exp(log_complement)
    # (u, x) <- step (u, x) + noise: u' = decay u + A x + s xi, x' = x - rate u'.
    step: Complex[np.ndarray, "4 4"] = np.block([[decay * unit, matrix], [-rate * decay * unit, unit - rate * matrix]])
    kick = NOISE * np.concatenate([unit, -rate * unit])
    mean = np.concatenate([np.zeros(2), np.asarray(_START)]).astype(complex)
    covariance, total = np.zeros((4, 4), complex), 0j
    for _ in range(horizon):
        mean, covariance = step @ mean, step @ covariance @ step.T + kick @ kick.T
        x = mean[2:]
        total += 0.5 * (x @ matrix @ x + np.trace(matrix @ covariance[2:, 2:]))
    return total / horizon


def truth(horizon: int) -> Float[np.ndarray, "2"]:
    """The derivatives of the expected mean loss by the logarithms of the rate and of one minus the momentum.

    By complex steps, which are exact to rounding.
    """
    at, small = (math.log(RATE), math.log(1 - MOMENTUM)), 1e-30
    return np.asarray(
        [
            _mean_loss(at[0] + 1j * small, at[1], horizon).imag / small,
            _mean_loss(at[0], at[1] + 1j * small, horizon).imag / small,
        ]
    )


def mean_truth(horizon: ConstantHorizon | LogUniformHorizon) -> Float[np.ndarray, "2"]:
    """The mean over horizons."""
    if isinstance(horizon, ConstantHorizon):
        return truth(horizon.longest)
    lengths = range(horizon.shortest, horizon.longest + 1)
    # The logarithm is uniform between those of the shortest and of one more than the longest, and rounded down.
    width = math.log((horizon.longest + 1) / horizon.shortest)
    return sum((math.log((h + 1) / h) / width * truth(h) for h in lengths), np.zeros(2))
