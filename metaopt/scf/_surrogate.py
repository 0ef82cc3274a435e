"""Cheap models of the field, solved between Fock builds."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from .._core._numbers import check_counts, number
from ._cdiis import smallest_residual
from ._history import History, check_history, combined, empty, products
from ._orbitals import commutator
from .base import AbstractAccelerator, Matrices, Signal


# Inner iterations extrapolate over so many.
_INNER = 5
# Of changes of the density that were scaled to unit length.
_RIDGE = 1e-9
# How much of the residual of the model has to be gone for its solution to be trusted.
_SOLVED = 0.5


class Surrogate(AbstractAccelerator[History]):
    r"""Solve a model of the field that knows all Fock matrices built so far, and propose its Fock matrix.

    The Fock matrix is linear in the density. Where a density $P$ differs from the newest one by a combination of
    earlier ones, the model is exact, and what is left is repulsion between populations:

    $$\tilde F(P) = F_n + \sum_i c_i (F_i - F_n) + V\Big(P - P_n - \sum_i c_i (P_i - P_n)\Big), \qquad
      c = \arg\min_c \Big\lVert P - P_n - \sum_i c_i (P_i - P_n) \Big\rVert^2$$

    $$V(D)_{ij} = a \, \delta_{ij} \sum_k (ii|kk) D_{kk}^\text{all} - b \, (ii|jj) D_{ij}$$

    It is solved from the proposal of [`metaopt.scf.CDIIS`][] by `iterations` cycles with extrapolation, each of which
    has a diagonalization but no Fock build. If that does not take half of the model's residual away, the proposal of
    CDIIS is kept.

    **Attributes:**

    - `coulomb`, `exchange`: $a$ and $b$. With exact integrals they would be one.
    - `history`: how many Fock matrices are remembered.
    - `iterations`: how many cycles the model gets.

    ??? cite "Reference"

        ```bibtex
        @article{pople1965approximate,
          title={Approximate self-consistent molecular orbital theory. {I}. {Invariant} procedures},
          author={Pople, John A. and Santry, David P. and Segal, Gerald A.},
          journal={The Journal of Chemical Physics}, volume={43}, pages={S129--S135}, year={1965}
        }
        ```
    """

    coulomb: Float[Array, ""] = eqx.field(converter=number, default=0.7)
    exchange: Float[Array, ""] = eqx.field(converter=number, default=0.7)
    history: int = eqx.field(static=True, default=8)
    iterations: int = eqx.field(static=True, default=6)

    def __check_init__(self) -> None:
        check_history(self.history)
        check_counts(iterations=self.iterations)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> History:
        del key
        return empty((params, params, params), self.history)

    def step(
        self, state: History, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[History, Matrices]:
        del value
        state = state.add((params, grads.residual, grads.density))
        return state, modelled(state, grads, self.coulomb, self.exchange, self.iterations)


def modelled(
    past: History, grads: Signal, coulomb: Float[Array, ""], exchange: Float[Array, ""], iterations: int
) -> Matrices:
    """The Fock matrix of a solved model. The history holds Fock matrices, residuals and densities, the newest
    included."""
    focks, residuals, densities = past.entries
    fock, density = focks[past.newest], grads.density
    system: Any = grads.operator.system
    plain = combined(smallest_residual(products(residuals, residuals), past.valid), focks)

    repulsion = system.interaction.monopoles()
    share = 1.0 if system.functional is None else system.functional.exact_exchange
    a, b = coulomb.astype(fock.dtype), share * exchange.astype(fock.dtype)

    def response(change: Matrices) -> Matrices:
        populations = grads.weight * jnp.sum(jnp.diagonal(change, axis1=-2, axis2=-1), axis=0)
        return a * jnp.diag(repulsion @ populations)[None] - b * repulsion[None] * change

    changes = jnp.where(past.valid[:, None, None, None], densities - density[None], 0)
    known = jnp.where(past.valid[:, None, None, None], focks - fock[None], 0)
    overlaps = products(changes, changes)
    squares = jnp.diagonal(overlaps)
    inverse = jnp.where(squares > 0, 1 / jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
    scaled = overlaps * inverse[:, None] * inverse[None]
    scaled = scaled + jnp.diag(jnp.where(squares > 0, _RIDGE, 1.0))
    # What the model would miss of what is known.
    missed = known - jax.vmap(response)(changes)

    def model(at: Matrices) -> Matrices:
        change = at - density
        weights = inverse * jnp.linalg.solve(scaled, inverse * jnp.tensordot(changes, change, 3))
        return fock + response(change) + combined(weights, missed)

    def cycle(carry: tuple[History, Matrices], _: None) -> tuple[tuple[History, Matrices], Float[Array, ""]]:
        inner, at = carry
        field = model(at)
        residual = commutator(field, at)
        inner = inner.add((field, residual))
        fields, inner_residuals = inner.entries
        best = combined(smallest_residual(products(inner_residuals, inner_residuals), inner.valid), fields)
        return (inner, system.occupy(best)), jnp.linalg.norm(residual)

    begin = (empty((fock, fock), _INNER), system.occupy(plain))
    (_, at), norms = jax.lax.scan(cycle, begin, length=iterations)
    field = model(at)
    left = jnp.linalg.norm(commutator(field, at))
    solved = (left < _SOLVED * norms[0]) & jnp.all(jnp.isfinite(field))
    return jnp.where(solved, field, plain)
