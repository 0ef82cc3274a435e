"""One solver after another."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

from ..._core.arrays._numbers import check_counts
from ..._core.arrays._trees import select
from .._objective import Objective
from ..base import AbstractSolver


class _StagedState(NamedTuple):
    clock: Int[Array, ""]
    first: PyTree
    second: PyTree


class Staged(AbstractSolver[_StagedState, PyTree]):
    """Let one solver take the first steps and another the rest: Adam and then L-BFGS or Gauss-Newton, say.

    **Arguments:**

    - `first`, `second`: the solvers.
    - `switch`: how many steps the first one takes.
    """

    first: AbstractSolver[Any, Any]
    second: AbstractSolver[Any, Any]
    switch: int = eqx.field(static=True, default=1000)

    def __check_init__(self) -> None:
        check_counts(switch=self.switch)

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> _StagedState:
        zero = jnp.zeros((), jnp.int32)
        return _StagedState(zero, self.first.init(params, key=key), self.second.init(params, key=key))

    def step(
        self, state: _StagedState, params: PyTree, grads: Objective, *, value: Scalar | None = None
    ) -> tuple[_StagedState, PyTree]:
        dynamic, static = eqx.partition((state, params), eqx.is_array)

        def early(dynamic: PyTree) -> PyTree:
            state, params = eqx.combine(dynamic, static)
            first, params = self.first.step(state.first, params, grads, value=value)
            return eqx.filter((_StagedState(state.clock + 1, first, state.second), params), eqx.is_array)

        def late(dynamic: PyTree) -> PyTree:
            state, params = eqx.combine(dynamic, static)
            # What the second solver knows of the parameters dates from before the first: it starts anew.
            second = select(state.clock == self.switch, self.second.init(params), state.second)
            second, params = self.second.step(second, params, grads, value=value)
            return eqx.filter((_StagedState(state.clock + 1, state.first, second), params), eqx.is_array)

        moved = jax.lax.cond(state.clock < self.switch, early, late, dynamic)
        return eqx.combine(moved, static)
