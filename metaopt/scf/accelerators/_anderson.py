"""Anderson's mixing."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from ..._core.arrays._numbers import POSITIVE, number
from ..base import AbstractAccelerator, Matrices, Signal
from ._cdiis import smallest_residual
from ._history import History, check_history, combined, empty, products


class AndersonState(NamedTuple):
    """The Fock matrix that was diagonalized last, and pairs of such with those of their densities."""

    inputs: Matrices
    history: History


class Anderson(AbstractAccelerator[AndersonState]):
    r"""Extrapolate the iteration as one for a fixed point $F_\text{in} = F(D(F_\text{in}))$ of any kind.

    $$\tilde F = \sum_i c_i \left(F_{\text{in}, i} + \beta (F_i - F_{\text{in}, i})\right), \qquad
          c = \arg\min_{\sum_i c_i = 1} \Big\lVert \sum_i c_i (F_i - F_{\text{in}, i}) \Big\rVert^2$$

    It does not use the commutator. The first Fock matrix is that of the guess, which none was diagonalized for, and is
    taken as it is.

    **Attributes:**

    - `history`: how many pairs are remembered.
    - `rate`: $\beta$.

    ??? cite "Reference"

        ```bibtex
        @article{anderson1965iterative,
          title={Iterative procedures for nonlinear integral equations},
          author={Anderson, Donald G.},
          journal={Journal of the ACM}, volume={12}, pages={547--560}, year={1965}
        }
        ```
    """

    history: int = eqx.field(static=True, default=8)
    rate: Float[Array, ""] = eqx.field(converter=number, default=1.0)

    def __check_init__(self) -> None:
        POSITIVE.check(rate=self.rate)
        check_history(self.history)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> AndersonState:
        del key
        return AndersonState(jnp.zeros_like(params), empty((params, params), self.history))

    def step(
        self, state: AndersonState, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[AndersonState, Matrices]:
        del grads, value
        first = state.history.count == 0
        # Of the first, the input is not known: it is entered as what it will be.
        given = jnp.where(first, params, state.inputs)
        history = state.history.add((given, params - given))
        inputs, residuals = history.entries
        # The residual of the first one is zero by definition, but there is no reason to go back to it.
        newest = jnp.arange(self.history, dtype=history.newest.dtype) == history.newest
        known = history.valid & (newest | (jnp.sum(residuals**2, axis=(1, 2, 3)) > 0))
        weights = smallest_residual(products(residuals, residuals), known)
        proposed = combined(weights, inputs + self.rate.astype(params.dtype) * residuals)
        return AndersonState(proposed, history), proposed
