"""Parts that learned update rules are composed of."""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from .._core import AbstractAlgorithm
from .sparse._unfolded import LayerState, layer, read, selected, shrink_outside


class AbstractHead(eqx.Module):
    """How the outputs of a network that sees one parameter become the change of this parameter."""

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """How many outputs of the network it wants, per parameter."""

    @property
    @abc.abstractmethod
    def signal_count(self) -> int:
        """How many signals it offers to the network as features, per parameter."""

    @property
    @abc.abstractmethod
    def output_scale(self) -> float:
        """The scale of the network's last layer when it is drawn."""

    @abc.abstractmethod
    def init(self, param: Float[Array, "*p"]) -> PyTree:
        """Make the state that belongs to one tensor."""

    @abc.abstractmethod
    def prepare(self, param: Float[Array, "*p"], step: Int[Array, ""]) -> PyTree[Float[Array, "..."]]:
        """What it has to say about a whole tensor: scalars.

        **Arguments:**

        - `param`: in the dtype that is computed in.
        - `step`: how many steps were taken before this one.
        """

    @staticmethod
    @abc.abstractmethod
    def observe(
        state: PyTree, operands: PyTree[Float[Array, "..."]], grad: Float[Array, "*p"]
    ) -> tuple[PyTree, PyTree[Float[Array, "..."]]]:
        """The new state of a tensor, and what it sees then: elementwise, of what was prepared and the gradient. The
        leaves of both have the axes of the tensor last, or are scalars."""

    @staticmethod
    @abc.abstractmethod
    def signals(seen: PyTree[Float[Array, "..."]]) -> list[Float[Array, "..."]]:
        """What it offers to the network as features: elementwise, of what it sees."""

    @staticmethod
    @abc.abstractmethod
    def finish(
        seen: PyTree[Float[Array, "..."]], param: Float[Array, "*p"], outputs: Sequence[Any]
    ) -> Float[Array, "*p"]:
        """Make the new parameters: elementwise, of what it sees, the parameters and the network's outputs."""


class AbstractClock(eqx.Module):
    """Features of the time that has passed; all parameters see the same."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """How many features there are."""

    @abc.abstractmethod
    def __call__(self, step: Int[Array, ""], dtype: Any) -> Float[Array, " size"]:
        """The features when `step` steps were taken before this one."""


class AbstractUnfolded(AbstractAlgorithm[LayerState, Array, Array]):
    """An iterative algorithm with learned numbers for each of its first steps, which are then called layers.

    A layer moves, and shrinks the result outside of the selected support. Past its depth the last layer is taken again.
    [`metaopt.meta.train_unfolded`][] trains one layer after the other.
    """

    layers: eqx.AbstractVar[Any]
    """What each layer has of its own: arrays with one entry per layer on the leading axis, `log_threshold` for one."""

    shared: eqx.AbstractVar[PyTree]
    """What is learned and shared by all layers."""

    support: eqx.AbstractVar[tuple[float, float] | None]
    """The share of entries that is not shrunk, per layer and at most."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """That of the dictionary."""

    @abc.abstractmethod
    def move(self, own: Any, x: Float[Array, " n"], residual: Float[Array, " m"]) -> Float[Array, " n"]:
        """Where a layer goes before it shrinks.

        **Arguments:**

        - `own`: the entry of `layers`.
        - `x`, `residual`: in the dtype that is computed in.
        """

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return jtu.tree_leaves(self.layers)[0].shape[0]

    def init(self, params: Float[Array, " n"], *, key: PRNGKeyArray | None = None) -> LayerState:
        del params, key
        return LayerState(jnp.zeros((), jnp.int32))

    def step(
        self,
        state: LayerState,
        params: Float[Array, " n"],
        grads: Float[Array, " m"],
        *,
        value: Scalar | None = None,
    ) -> tuple[LayerState, Float[Array, " n"]]:
        del value
        own = layer(self.layers, state.count)
        x, residual = read(params, grads, self.shape)
        threshold = jnp.exp(own.log_threshold.astype(x.dtype))
        moved = self.move(own, x, residual)
        new = shrink_outside(moved, threshold, *selected(self.support, state.count, x.size))
        return LayerState(state.count + 1), new.astype(params.dtype)
