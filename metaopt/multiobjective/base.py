"""What combiners are, and the signal that they take."""

import abc
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from .._core import AbstractAlgorithm
from .combiners import _gramian


P = TypeVar("P")


class CombinerState(NamedTuple):
    """The state of the inner algorithm, and the key of combiners that draw random numbers."""

    inner: PyTree
    key: PRNGKeyArray | None


class AbstractCombiner(AbstractAlgorithm[CombinerState, Any, Any]):
    r"""Make one gradient of many and let the inner algorithm step on it.

    $$G = J J^\top, \qquad w = \mathrm{weigh}(G, f), \qquad
      s, \theta \leftarrow \mathrm{inner.step}(s, \theta, J^\top w)$$

    The rows of $J$ are the gradients of the $m$ objectives. They come stacked on a leading axis: as a tree like the
    parameters, or as [`metaopt.multiobjective.Gradients`][], with the values $f$ beside them. All that a rule knows of
    the gradients is their $m \times m$ Gramian, so a step passes over the parameters twice, whatever their number, and
    sharded gradients stay where they are.
    """

    inner: eqx.AbstractVar[AbstractAlgorithm[Any, Any, Any]]

    @property
    @abc.abstractmethod
    def random(self) -> bool:
        """Whether the weights are drawn, so that the state holds a key."""

    @abc.abstractmethod
    def weigh(
        self, gramian: Float[Array, "m m"], values: Float[Array, " m"] | None, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " m"]:
        """The weights of the gradients in their sum.

        **Arguments:**

        - `gramian`: the inner products of the gradients.
        - `values`: the objectives, if the signal has them.
        - `key`: fresh for each step; given if `random` is true.

        **Returns:**

        One weight for each objective.
        """

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> CombinerState:
        own = None
        if self.random:
            key, own = jr.split(jr.key(0) if key is None else key)
        return CombinerState(self.inner.init(params, key=key), own)

    def step(
        self, state: CombinerState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[CombinerState, P]:
        signal = _gramian.unpack(grads)
        matched, stacked = _gramian.match_stacked(params, signal.gradients)
        key, own = (None, None) if state.key is None else jr.split(state.key)
        if stacked:
            matrix = _gramian.gramian(stacked)
            values = None if signal.values is None else _gramian.fitting(matrix, signal.values, "values")
            combined = _gramian.combine(self.weigh(matrix, values, key=key), stacked)
        else:
            combined = []
        direction = _gramian.put_nothing_else(params, matched, combined)
        inner, params = self.inner.step(state.inner, params, direction, value=value)
        return CombinerState(inner, own), params
