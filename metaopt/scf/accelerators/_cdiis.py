"""Pulay's direct inversion in the iterative subspace, on commutators."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Scalar

from ..base import AbstractAccelerator, Matrices, Signal
from ._history import History, check_history, combined, empty, products


# Of the largest eigenvalue of a matrix whose diagonal is one.
_RIDGE = 1e-13


class CDIIS(AbstractAccelerator[History]):
    r"""Extrapolate to where the residual, linearly combined, is smallest.

    $$\tilde F = \sum_i c_i F_i, \qquad c = \arg\min_{\sum_i c_i = 1} \Big\lVert \sum_i c_i R_i \Big\rVert^2$$

    over the last `history` Fock matrices $F_i$ and residuals $R_i = F_i P_i - P_i F_i$ in an orthonormal basis.

    **Attributes:**

    - `history`: how many are remembered.

    ??? cite "Reference"

        ```bibtex
        @article{pulay1982improved,
          title={Improved {SCF} convergence acceleration},
          author={Pulay, Peter},
          journal={Journal of Computational Chemistry}, volume={3}, pages={556--560}, year={1982}
        }
        ```
    """

    history: int = eqx.field(static=True, default=8)

    def __check_init__(self) -> None:
        check_history(self.history)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> History:
        del key
        return empty((params, params), self.history)

    def step(
        self, state: History, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[History, Matrices]:
        del value
        state = state.add((params, grads.residual))
        focks, residuals = state.entries
        return state, combined(smallest_residual(products(residuals, residuals), state.valid), focks)


def smallest_residual(gram: Float[Array, "places places"], valid: Bool[Array, " places"]) -> Float[Array, " places"]:
    """Coefficients that add up to one of the smallest combination of vectors with these inner products.

    Vectors are scaled to unit length first, so that what is known of small ones is not lost beside large ones.
    """
    squares = jnp.where(valid, jnp.diagonal(gram), 1.0)
    inverse = jnp.where(valid, 1 / jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    identity = jnp.eye(gram.shape[0], dtype=gram.dtype)
    scaled = jnp.where(valid[:, None] & valid[None], gram, 0) * inverse[:, None] * inverse[None]
    scaled = jnp.where(valid[:, None] | valid[None], scaled, identity) + _RIDGE * identity
    weights = inverse * jnp.linalg.solve(scaled, inverse)
    return weights / jnp.sum(weights)
