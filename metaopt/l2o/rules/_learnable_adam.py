"""Adam with learnable hyperparameters."""

from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import POSITIVE
from ..parts._common import (
    CellState,
    complement,
    correction,
    finish,
    init_tensors,
    log_complement,
    match_real,
    moving,
    positive_log,
    widen,
)


P = TypeVar("P")


class Moments(NamedTuple):
    """Averages of a gradient and of its square."""

    first: Float[Array, "*p"]
    second: Float[Array, "*p"]


class LearnableAdam(AbstractAlgorithm[CellState, Any, Any]):
    r"""Adam, whose hyperparameters are made to be learned.

    $$m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad
      \theta \leftarrow \theta - e^\rho \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + e^\epsilon}$$

    The learned leaves are $\rho$, $\log(1 - \beta_1)$, $\log(1 - \beta_2)$ and $\epsilon$: a change by 0.01 is mild
    wherever they are.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{kingma2015adam,
          title={Adam: A Method for Stochastic Optimization},
          author={Kingma, Diederik P. and Ba, Jimmy},
          booktitle={ICLR}, year={2015}
        }
        ```
    """

    log_rate: Float[Array, ""]
    first_decay: Float[Array, ""]
    second_decay: Float[Array, ""]
    log_epsilon: Float[Array, ""]

    def __init__(self, rate: float = 1e-3, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8):
        """**Arguments:**

        - `rate`: $e^\\rho$, positive.
        - `b1`, `b2`: the decays, at least 0 and less than 1.
        - `epsilon`: $e^\\epsilon$, positive.
        """
        POSITIVE.check(rate=rate, epsilon=epsilon)
        self.log_rate = positive_log(rate, "rate")
        self.first_decay = log_complement(b1, "b1")
        self.second_decay = log_complement(b2, "b2")
        self.log_epsilon = positive_log(epsilon, "epsilon")

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> CellState:
        del key
        return init_tensors(lambda p: Moments(jnp.zeros_like(p), jnp.zeros_like(p)), params)

    def step(self, state: CellState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[CellState, P]:
        del value
        matched = match_real(params, grads)
        tensors, new = [], []
        for leaf, old in zip(matched.leaves, matched.pick(state.tensors), strict=True):
            param, grad = widen(leaf)
            moments, direction = self.direction(old, grad, state.count)
            tensors.append(moments)
            new.append(param - jnp.exp(self.log_rate.astype(param.dtype)) * direction)
        return finish(state, matched, moving(state, matched), tensors, new)

    def direction(
        self, old: Moments, grad: Float[Array, "*p"], step: Int[Array, ""]
    ) -> tuple[Moments, Float[Array, "*p"]]:
        """The new moments of a tensor, and what is subtracted from it before that is scaled by the rate."""
        fresh_first, fresh_second = complement(self.first_decay, grad), complement(self.second_decay, grad)
        first = old.first + fresh_first * (grad - old.first)
        second = old.second + fresh_second * (jnp.square(grad) - old.second)
        root = safe_sqrt(second * correction(fresh_second, step))
        epsilon = jnp.exp(self.log_epsilon.astype(grad.dtype))
        return Moments(first, second), correction(fresh_first, step) * first / (root + epsilon)


def safe_sqrt(x: Float[Array, "*p"]) -> Float[Array, "*p"]:
    """The square root, with derivative zero at zero instead of infinity."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
