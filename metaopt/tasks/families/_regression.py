"""Few-shot regression of functions of one number."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractLossTask
from .._common import mean_squared_error
from ..networks._networks import AbstractNetwork, Layers


class AbstractRegressionTask(AbstractLossTask):
    """Fit a network to a function from a few of its points.

    The loss is the mean squared error on the support points, all of them in every step; `measure` is the mean squared
    error on the query points. Both are deterministic.
    """

    network: eqx.AbstractVar[AbstractNetwork]
    """From one input to one output."""

    support: eqx.AbstractVar[Float[Array, " shots"]]
    """The points to fit."""

    query: eqx.AbstractVar[Float[Array, " queries"]]
    """The points to report on."""

    @abc.abstractmethod
    def target(self, points: Float[Array, " n"]) -> Float[Array, " n"]:
        """The function that is to be learned."""

    def init(self, *, key: PRNGKeyArray) -> Layers:
        return self.network.init(key=key)

    def loss(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return self._error(params, self.support)

    def measure(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return self._error(params, self.query)

    def outputs(self, params: Layers) -> Float[Array, " queries"]:
        """What the network says about the query points."""
        return self.network.apply(params, self.query[:, None])[:, 0]

    def _error(self, params: Layers, points: Float[Array, " n"]) -> Float[Array, ""]:
        return mean_squared_error(self.network.apply(params, points[:, None]), self.target(points)[:, None])
