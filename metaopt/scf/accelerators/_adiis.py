"""Augmented Roothaan-Hall energy DIIS."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, Scalar

from ..base import AbstractAccelerator, Matrices, Signal
from ._history import History, check_history, combined, empty, products
from ._simplex import LARGEST, minimize_on_simplex


class ADIIS(AbstractAccelerator[History]):
    r"""Interpolate to where a model of the energy around the newest density is lowest.

    $$\tilde F = \sum_i c_i F_i, \qquad c = \arg\min_{c \ge 0, \sum_i c_i = 1}
          \sum_i c_i \langle D_i - D_n, F_n \rangle
          + \frac{1}{2} \sum_{ij} c_i c_j \langle D_i - D_n, F_j - F_n \rangle$$

    **Attributes:**

    - `history`: how many Fock matrices are remembered, at most 8.

    ??? cite "Reference"

        ```bibtex
        @article{hu2010accelerating,
          title={Accelerating self-consistent field convergence with the augmented {Roothaan--Hall} energy function},
          author={Hu, Xiangqian and Yang, Weitao},
          journal={The Journal of Chemical Physics}, volume={132}, pages={054109}, year={2010}
        }
        ```
    """

    history: int = eqx.field(static=True, default=8)

    def __check_init__(self) -> None:
        check_history(self.history, most=LARGEST)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> History:
        del key
        return empty((params, params), self.history)

    def step(
        self, state: History, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[History, Matrices]:
        del value
        state = state.add((params, grads.density))
        focks, densities = state.entries
        away, changes = densities - grads.density[None], focks - params[None]
        linear = jnp.tensordot(away, params, 3)
        cross = products(away, changes)
        weights = minimize_on_simplex(linear, 0.5 * (cross + cross.T), state.valid)
        return state, combined(weights, focks)
