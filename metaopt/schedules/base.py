"""The abstract schedule."""

import abc
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from .._core import AbstractAlgorithm
from ._common import scaled


P = TypeVar("P")


class ScheduleState(NamedTuple):
    """The state of the inner algorithm, and how many steps were taken."""

    inner: PyTree
    clock: Int[Array, ""]


class AbstractSchedule(AbstractAlgorithm[ScheduleState, Any, Any]):
    r"""Scale the steps of an inner algorithm by a function of time alone.

    $$\theta_{t+1} = \theta_t + \phi(t) \, (\mathrm{inner}(\theta_t, g_t) - \theta_t)$$

    Around an algorithm whose state does not depend on its own steps, such as Adam, this is that algorithm with a
    learning-rate schedule.

    The proposal of the inner algorithm is read in the dtype of the parameters, so for low-precision parameters a step
    is rounded before and after it is scaled.
    """

    inner: eqx.AbstractVar[AbstractAlgorithm[Any, Any, Any]]

    @abc.abstractmethod
    def factor(self, clock: Int[Array, ""]) -> Float[Array, ""]:
        r"""$\phi(t)$, by which step `clock` (counted from zero) is scaled."""

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> ScheduleState:
        return ScheduleState(self.inner.init(params, key=key), jnp.zeros((), jnp.int32))

    def step(
        self, state: ScheduleState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[ScheduleState, P]:
        inner, proposed = self.inner.step(state.inner, params, grads, value=value)
        return ScheduleState(inner, state.clock + 1), scaled(params, proposed, self.factor(state.clock))
