"""Cheap models of the field, solved between Fock builds."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from ..._core.arrays._numbers import POSITIVE, REAL, check_counts, number
from ..base import AbstractAccelerator, Matrices, Signal
from ..systems._interactions import DensityFitted
from ..systems._orbitals import commutator
from ._cdiis import smallest_residual
from ._history import History, check_history, combined, empty, products
from ._switching import Switching


# Inner iterations extrapolate over so many.
_INNER = 6
# Of changes of the density that were scaled to unit length.
_RIDGE = 1e-9
# Halfway, in angles, to where an electron has moved to another orbital.
REACH = 1.0
# How much of the residual of the model has to be gone for its solution to be trusted.
_SOLVED = 0.5


class Surrogate(AbstractAccelerator[tuple[PyTree, History]]):
    r"""Solve a model of the field that knows all Fock matrices built so far, and propose its Fock matrix.

    The Fock matrix is linear in the density. Where a density $P$ differs from the newest one by a combination of
    earlier ones, the model is exact, and for what is left there are few factors of the repulsion:

    $$\tilde F(P) = F_n + \sum_i c_i (F_i - F_n) + V\Big(P - P_n - \sum_i c_i (P_i - P_n)\Big), \qquad
      c = \arg\min_c \Big\lVert P - P_n - \sum_i c_i (P_i - P_n) \Big\rVert^2$$

    $$V(D) = \sum_p a \, B^p \, \mathrm{tr}(B^p D^\text{all}) - b \, B^p D B^p, \qquad
      (ij|kl) \approx \sum_p B^p_{ij} B^p_{kl}$$

    The factors are the first ones of a pivoted Cholesky decomposition of the integrals, `vectors` for each function.
    It is solved from the proposal of the base by `iterations` cycles with extrapolation, each of which has a
    diagonalization but no Fock build. If that does not take half of the model's residual away, or its density is
    further than `reach` from that of the base (the norm of the difference; an electron that moves to another orbital
    counts $\sqrt 2$), the proposal of the base is kept: which of several solutions is found is left to the base.

    What it costs: decomposing reads one column of integrals for each factor, with one vector for each of $n$ functions
    about $4 / n$ of all that there are, once. A cycle is a Fock build with as few factors, where density fitting has
    three to six times more. So it is for where Fock builds are what costs, such as integrals that are computed anew for
    each. Where all integrals of a small molecule are in memory, a cycle takes as long as a Fock build.

    **Attributes:**

    - `base`: whose proposals the model is solved from; by default [`metaopt.scf.Switching`][] from ADIIS to CDIIS.
    - `coulomb`, `exchange`: $a$ and $b$. With all factors they would be one.
    - `reach`: how far from the base the model is followed.
    - `history`: how many Fock matrices are remembered.
    - `iterations`: how many cycles the model gets.
    - `vectors`: how many factors there are for each function.

    ??? cite "Reference"

        ```bibtex
        @article{beebe1977simplifications,
          title={Simplifications in the generation and transformation of two-electron integrals in molecular
                 calculations},
          author={Beebe, Nelson H. F. and Linderberg, Jan},
          journal={International Journal of Quantum Chemistry}, volume={12}, pages={683--705}, year={1977}
        }
        ```
    """

    base: AbstractAccelerator[Any] = eqx.field(default_factory=Switching)
    coulomb: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    exchange: Float[Array, ""] = eqx.field(converter=number, default=1.0)
    reach: Float[Array, ""] = eqx.field(converter=number, default=REACH)
    history: int = eqx.field(static=True, default=8)
    iterations: int = eqx.field(static=True, default=8)
    vectors: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        REAL.check(coulomb=self.coulomb, exchange=self.exchange)
        POSITIVE.check(reach=self.reach, vectors=self.vectors)
        check_history(self.history)
        check_counts(iterations=self.iterations)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> tuple[PyTree, History]:
        return self.base.init(params, key=key), empty((params, params, params), self.history)

    def step(
        self, state: tuple[PyTree, History], params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[tuple[PyTree, History], Matrices]:
        base, plain = self.base.step(state[0], params, grads, value=value)
        past = state[1].add((params, grads.residual, grads.density))
        model = modelled(past, grads, plain, self.coulomb, self.exchange, self.reach, self.iterations, self.vectors)
        return (base, past), model


def modelled(
    past: History,
    grads: Signal,
    plain: Matrices,
    coulomb: Float[Array, ""],
    exchange: Float[Array, ""],
    reach: Float[Array, ""],
    iterations: int,
    vectors: float,
) -> Matrices:
    """The Fock matrix of a solved model, or what was proposed. The history holds Fock matrices, residuals and
    densities, the newest included."""
    focks, _, densities = past.entries
    fock, density = focks[past.newest], grads.density
    operator: Any = grads.operator
    system = operator.system
    few = DensityFitted(system.interaction.leading(vectors))
    share = 1.0 if system.functional is None else system.functional.exact_exchange
    a, b = coulomb.astype(fock.dtype), share * exchange.astype(fock.dtype)

    def response(change: Matrices) -> Matrices:
        moved = operator.out_of(change)
        repulsion = few.coulomb(grads.weight * jnp.sum(moved, axis=0))[None]
        return operator.into(a * repulsion - b * jax.vmap(few.exchange)(moved))

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

    start = system.occupy(plain)
    begin = (empty((fock, fock), _INNER), start)
    (_, at), norms = jax.lax.scan(cycle, begin, length=iterations)
    field = model(at)
    left = jnp.linalg.norm(commutator(field, at))
    near = jnp.linalg.norm(at - start) < reach.astype(fock.dtype)
    solved = (left < _SOLVED * norms[0]) & near & jnp.all(jnp.isfinite(field))
    return jnp.where(solved, field, plain)
