"""Any algorithm that steps on gradients, as a solver."""

from typing import Any

from jaxtyping import PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from .._objective import Objective
from ..base import AbstractSolver


class FirstOrder(AbstractSolver[PyTree, PyTree]):
    """Give an inner algorithm the gradient of the objective.

    **Arguments:**

    - `inner`: Adam, a learned optimizer, or another.
    """

    inner: AbstractAlgorithm[Any, Any, Any]

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        return self.inner.init(params, key=key)

    def step(
        self, state: PyTree, params: PyTree, grads: Objective, *, value: Scalar | None = None
    ) -> tuple[PyTree, PyTree]:
        del value
        loss, gradient = grads.gradient(params)
        return self.inner.step(state, params, gradient, value=loss)
