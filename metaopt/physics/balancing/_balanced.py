"""A solver whose terms are weighed by a rule."""

from typing import Any, NamedTuple

from jaxtyping import PRNGKeyArray, PyTree, Scalar

from .._objective import Objective
from ..base import AbstractBalancing, AbstractSolver


class _BalancedState(NamedTuple):
    inner: PyTree
    balancing: PyTree


class Balanced(AbstractSolver[_BalancedState, PyTree]):
    """Let a rule multiply the weights of the terms, then let an inner solver step.

    **Arguments:**

    - `inner`: a solver.
    - `balancing`: the rule.
    """

    inner: AbstractSolver[Any, Any]
    balancing: AbstractBalancing

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> _BalancedState:
        return _BalancedState(self.inner.init(params, key=key), self.balancing.init(key=key))

    def step(
        self, state: _BalancedState, params: PyTree, grads: Objective, *, value: Scalar | None = None
    ) -> tuple[_BalancedState, PyTree]:
        del value
        balancing, factors = self.balancing.weights(state.balancing, grads, params)
        signal = grads.reweighted(factors)
        inner, params = self.inner.step(state.inner, params, signal, value=signal.loss(params))
        return _BalancedState(inner, balancing), params
