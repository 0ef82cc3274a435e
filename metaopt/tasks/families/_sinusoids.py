"""Few-shot regression of sine waves."""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractTaskFamily
from .._common import check_at_least, check_sizes
from ..networks._networks import AbstractNetwork, DenseNetwork
from ._regression import AbstractRegressionTask


class SinusoidsTask(AbstractRegressionTask):
    r"""Fit a network to a sine wave from a few points.

    The wave is $x \mapsto A \sin(x - \varphi)$. The loss is the mean squared error on the support points, all of them
    in every step; `measure` is the mean squared error on the query points.

    **Arguments:**

    - `network`: from one input to one output.
    - `amplitude`, `phase`: $A$ and $\varphi$.
    - `support`: the points to fit.
    - `query`: the points to report on.
    """

    network: AbstractNetwork
    amplitude: Float[Array, ""]
    phase: Float[Array, ""]
    support: Float[Array, " shots"]
    query: Float[Array, " queries"]

    def target(self, points: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.amplitude * jnp.sin(points - self.phase)


class Sinusoids(AbstractTaskFamily):
    r"""Draw sine waves to fit from a few points.

    $$A \sim U[0.1, 5], \qquad \varphi \sim U[0, \pi], \qquad x \sim U[-5, 5]$$

    See [`metaopt.tasks.SinusoidsTask`][] for $A$, $\varphi$, $x$ and the loss. The network is a multilayer
    perceptron with rectifiers.

    **Arguments:**

    - `shots`: how many points there are to fit.
    - `queries`: how many other points `measure` reports on.
    - `hidden`: hidden units per layer.

    **Raises:**

    - `ValueError`: if `shots` or `queries` is below 1.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{finn2017model,
            title={Model-agnostic meta-learning for fast adaptation of deep networks},
            author={Finn, Chelsea and Abbeel, Pieter and Levine, Sergey},
            booktitle={International Conference on Machine Learning},
            year={2017},
        }
        ```
    """

    shots: int = eqx.field(static=True, default=10)
    queries: int = eqx.field(static=True, default=100)
    hidden: tuple[int, ...] = eqx.field(static=True, default=(40, 40))

    def __check_init__(self) -> None:
        check_at_least("shots", self.shots, 1)
        check_at_least("queries", self.queries, 1)
        check_sizes("hidden", self.hidden)

    def sample(self, *, key: PRNGKeyArray) -> SinusoidsTask:
        amplitude_key, phase_key, support_key, query_key = jr.split(key, 4)
        return SinusoidsTask(
            DenseNetwork((1, *self.hidden, 1), "relu"),
            jr.uniform(amplitude_key, minval=0.1, maxval=5.0),
            jr.uniform(phase_key, minval=0.0, maxval=math.pi),
            jr.uniform(support_key, (self.shots,), minval=-5.0, maxval=5.0),
            jr.uniform(query_key, (self.queries,), minval=-5.0, maxval=5.0),
        )
