"""Energy DIIS."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, Scalar

from ..base import AbstractAccelerator, Matrices, Signal
from ._history import History, check_history, combined, empty, products
from ._simplex import LARGEST, minimize_on_simplex


class EDIIS(AbstractAccelerator[History]):
    r"""Interpolate to where the energy is lowest.

    $$\tilde F = \sum_i c_i F_i, \qquad c = \arg\min_{c \ge 0, \sum_i c_i = 1} \sum_i c_i E_i
          - \frac{1}{4} \sum_{ij} c_i c_j \langle D_i - D_j, F_i - F_j \rangle$$

    which is the energy of the density $\sum_i c_i D_i$, exactly so for Hartree-Fock. It goes down far from a solution,
    and is slow near one: see [`metaopt.scf.Switching`][].

    **Attributes:**

    - `history`: how many Fock matrices are remembered, at most 8.

    ??? cite "Reference"

        ```bibtex
        @article{kudin2002black,
          title={A black-box self-consistent field convergence algorithm: One step closer},
          author={Kudin, Konstantin N. and Scuseria, Gustavo E. and Canc{\`e}s, Eric},
          journal={The Journal of Chemical Physics}, volume={116}, pages={8255--8261}, year={2002}
        }
        ```
    """

    history: int = eqx.field(static=True, default=8)

    def __check_init__(self) -> None:
        check_history(self.history, most=LARGEST)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> History:
        del key
        return empty((params, params, jnp.zeros((), params.dtype)), self.history)

    def step(
        self, state: History, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[History, Matrices]:
        del value
        state = state.add((params, grads.density, grads.energy))
        focks, densities, energies = state.entries
        cross = grads.weight * products(densities, focks)
        own = jnp.diagonal(cross)
        # The inner products of the differences.
        apart = own[:, None] + own[None] - cross - cross.T
        # Total energies are large beside what matters here.
        weights = minimize_on_simplex(energies - grads.energy, -0.5 * apart, state.valid)
        return state, combined(weights, focks)
