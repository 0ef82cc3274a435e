"""Gradient descent with learnable hyperparameters."""

from typing import Any, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import DECAY, POSITIVE
from ..parts._common import (
    CellState,
    complement,
    finish,
    init_tensors,
    log_complement,
    match_real,
    moving,
    positive_log,
    widen,
)


P = TypeVar("P")


class LearnableSGD(AbstractAlgorithm[CellState, Any, Any]):
    r"""Gradient descent, with momentum if asked for, whose hyperparameters are made to be learned.

    $$u \leftarrow \beta u + g, \qquad \theta \leftarrow \theta - e^\rho u$$

    The learned leaves are $\rho$ and $\log(1 - \beta)$: a change by 0.01 is mild wherever they are.

    ??? cite "Reference"

        ```bibtex
        @article{polyak1964some,
          title={Some methods of speeding up the convergence of iteration methods},
          author={Polyak, Boris T.},
          journal={USSR Computational Mathematics and Mathematical Physics}, volume={4}, number={5}, year={1964}
        }
        ```
    """

    log_rate: Float[Array, ""]
    momentum_decay: Float[Array, ""] | None

    def __init__(self, rate: float = 0.01, momentum: float | None = None):
        """**Arguments:**

        - `rate`: $e^\\rho$, positive.
        - `momentum`: $\\beta$, at least 0 and less than 1. `None` is plain gradient descent without a state.
        """
        POSITIVE.check(rate=rate)
        DECAY.check(momentum=momentum)
        self.log_rate = positive_log(rate, "rate")
        self.momentum_decay = None if momentum is None else log_complement(momentum, "momentum")

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> CellState:
        del key
        return init_tensors(lambda p: None if self.momentum_decay is None else jnp.zeros_like(p), params)

    def step(self, state: CellState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[CellState, P]:
        del value
        matched = match_real(params, grads)
        tensors, new = [], []
        for leaf, old in zip(matched.leaves, matched.pick(state.tensors), strict=True):
            param, update = widen(leaf)
            if self.momentum_decay is not None:
                update = update + (1 - complement(self.momentum_decay, param)) * old
            tensors.append(None if self.momentum_decay is None else update)
            new.append(param - jnp.exp(self.log_rate.astype(param.dtype)) * update)
        return finish(state, matched, moving(state, matched), tensors, new)
