"""Multi-objective combiners as solvers."""

from typing import Any

from jaxtyping import PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from .._objective import Objective
from ..base import AbstractSolver


class Combined(AbstractSolver[PyTree, PyTree]):
    """Give an inner algorithm the gradients of the terms, stacked on a leading axis.

    **Arguments:**

    - `inner`: an algorithm whose signal is stacked gradients, such as a multi-objective combiner.
    """

    inner: AbstractAlgorithm[Any, Any, Any]

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        return self.inner.init(params, key=key)

    def step(
        self, state: PyTree, params: PyTree, grads: Objective, *, value: Scalar | None = None
    ) -> tuple[PyTree, PyTree]:
        return self.inner.step(state, params, grads.stacked(params)[1], value=value)
