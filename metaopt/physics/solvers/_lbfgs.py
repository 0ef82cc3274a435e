"""L-BFGS with a line search, by optax."""

from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import PRNGKeyArray, PyTree, Scalar

from ..._core.arrays._numbers import check_counts, usual_promotion
from ..._core.arrays._trees import trainable
from .._objective import Objective
from ..base import AbstractSolver


class LBFGS(AbstractSolver[PyTree, PyTree]):
    """The limited-memory method of Broyden, Fletcher, Goldfarb and Shanno with a zoom line search, by optax.

    **Arguments:**

    - `memory`: how many pairs are remembered.
    - `searches`: how many values a line search may take.

    ??? cite "Reference"

        ```bibtex
        @article{liu1989limited,
            title={On the limited memory {BFGS} method for large scale optimization},
            author={Liu, Dong C. and Nocedal, Jorge},
            journal={Mathematical Programming},
            volume={45},
            pages={503--528},
            year={1989},
        }
        ```
    """

    memory: int = eqx.field(static=True, default=20)
    searches: int = eqx.field(static=True, default=20)

    def __check_init__(self) -> None:
        check_counts(memory=self.memory, searches=self.searches)

    def _transformation(self) -> Any:
        search = optax.scale_by_zoom_linesearch(max_linesearch_steps=self.searches, initial_guess_strategy="one")
        return optax.lbfgs(memory_size=self.memory, linesearch=search)

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        del key
        # optax itself does not trace under strict promotion.
        with usual_promotion():
            return self._transformation().init(trainable(params))

    def step(
        self, state: PyTree, params: PyTree, grads: Objective, *, value: Scalar | None = None
    ) -> tuple[PyTree, PyTree]:
        del value
        dynamic, static = eqx.partition(params, eqx.is_inexact_array)

        def loss(dynamic: PyTree) -> Any:
            return grads.loss(eqx.combine(dynamic, static))

        start, gradient = jax.value_and_grad(loss)(dynamic)
        with usual_promotion():
            updates, state = self._transformation().update(
                gradient, state, dynamic, value=start, grad=gradient, value_fn=loss
            )
            moved = optax.apply_updates(dynamic, updates)
        return state, eqx.combine(moved, static)
