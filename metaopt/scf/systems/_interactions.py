"""Coulomb and exchange matrices from integrals over pairs of functions."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...backend import XLA, AbstractBackend
from ...backend._pairs import doubled, functions, pack, pairs, positions, squares, unpack
from ..base import AbstractInteraction
from ._cholesky import leading


class PairPacked(AbstractInteraction):
    """All integrals, as two matrices over pairs of functions: a Fock build is one product of the second one with a
    packed density where shells are closed, and two products where they are open.

    - `direct`: $(ij|kl)$.
    - `closed`: $2 (ij|kl) - ((ik|jl) + (il|jk)) / 2$.
    - `backend`: whose kernel contracts them.
    """

    direct: Float[Array, "pairs pairs"]
    closed: Float[Array, "pairs pairs"]
    backend: AbstractBackend = eqx.field(static=True, default_factory=XLA)

    def coulomb(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        return self.backend.contract_pairs(self.direct, density)

    def exchange(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        return 2 * self.coulomb(density) - self.backend.contract_pairs(self.closed, density)

    def closed_shells(self, density: Float[Array, "n n"], share: float) -> Float[Array, "n n"]:
        if share == 0:
            return 2 * self.coulomb(density)
        both = self.backend.contract_pairs(self.closed, density)
        return both if share == 1 else 2 * (1 - share) * self.coulomb(density) + share * both

    def leading(self, share: float) -> Float[Array, "few pairs"]:
        return _leading(jnp.diagonal(self.direct), lambda place: self.direct[place], share)


class DensityFitted(AbstractInteraction):
    r"""Integrals as a sum of products, $(ij|kl) \approx \sum_P B^P_{ij} B^P_{kl}$.

    - `factors`: $B$, with pairs packed.
    - `backend`: whose kernel contracts them.

    ??? cite "Reference"

        ```bibtex
        @article{whitten1973coulombic,
          title={Coulombic potential energy integrals and approximations},
          author={Whitten, Jerry L.},
          journal={The Journal of Chemical Physics}, volume={58}, pages={4496--4501}, year={1973}
        }
        ```
    """

    factors: Float[Array, "auxiliary pairs"]
    backend: AbstractBackend = eqx.field(static=True, default_factory=XLA)

    def coulomb(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        weights = self.factors @ (pack(density) * doubled(density.shape[-1]))
        return unpack(weights @ self.factors)

    def exchange(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        return self.backend.exchange_of_factors(self.factors, density)

    def closed_shells(self, density: Float[Array, "n n"], share: float) -> Float[Array, "n n"]:
        repulsion = 2 * self.coulomb(density)
        return repulsion if share == 0 else repulsion - share * self.exchange(density)

    def leading(self, share: float) -> Float[Array, "few pairs"]:
        diagonal = jnp.sum(self.factors**2, axis=0)
        return _leading(diagonal, lambda place: self.factors[:, place] @ self.factors, share)


def _leading(
    diagonal: Float[Array, " pairs"], column: Callable[[Int[Array, ""]], Float[Array, " pairs"]], share: float
) -> Float[Array, "few pairs"]:
    own = squares(diagonal.size)
    count = min(math.ceil(share * own.size), diagonal.size)
    # Those that a system was padded with repel nothing.
    limit = jnp.ceil(share * jnp.sum(diagonal[own] > 0, dtype=diagonal.dtype))
    return leading(diagonal, column, count, limit)


def crossed(direct: Float[np.ndarray, "pairs pairs"]) -> Float[np.ndarray, "pairs pairs"]:
    """The matrix of exchange from that of repulsion, both over pairs."""
    n = functions(direct.shape[0])
    assert n is not None
    place = positions(n)
    found = np.empty_like(direct)
    rows, columns = np.tril_indices(n)
    for i in range(n):
        # [k, j, l] of (ik|jl), for all j up to i.
        block = direct[place[i]][:, place[: i + 1]]
        both = block.transpose(1, 0, 2) + block.transpose(1, 2, 0)
        found[place[i, : i + 1]] = 0.5 * both[:, rows, columns]
    return found


def unfold(repulsion: Float[np.ndarray, "..."], n: int) -> Float[np.ndarray, "pairs pairs"]:
    """Integrals over pairs from any of the usual forms: `[n, n, n, n]`, over pairs, or packed once more."""
    size = pairs(n)
    if repulsion.shape == (n,) * 4:
        rows, columns = np.tril_indices(n)
        return np.ascontiguousarray(repulsion[rows, columns][:, rows, columns])
    if repulsion.shape == (size, size):
        return repulsion
    if repulsion.shape == (pairs(size),):
        return repulsion[positions(size)]
    raise ValueError(
        f"Two-electron integrals of {n} functions have shape {(n,) * 4}, {(size, size)} over pairs i >= j, or "
        f"{(pairs(size),)} over pairs of pairs, but {repulsion.shape} was given."
    )


def unpacked(repulsion: Float[Array, "geometries packed"], n: int) -> PairPacked:
    """The interactions of many geometries, stacked, from integrals whose pairs of pairs are packed."""
    rows, columns = np.tril_indices(n)
    place, pair = positions(n), positions(pairs(n))
    first = pair[place[rows[:, None], rows[None]], place[columns[:, None], columns[None]]]
    second = pair[place[rows[:, None], columns[None]], place[columns[:, None], rows[None]]]
    return _gathered(repulsion, pair, first, second)


@jax.jit
def _gathered(packed: Float[Array, "geometries packed"], pair: Array, first: Array, second: Array) -> PairPacked:
    def one(x: Float[Array, " packed"]) -> PairPacked:
        direct, a, b = (x.at[index].get(mode="promise_in_bounds") for index in (pair, first, second))
        return PairPacked(direct, 2 * direct - 0.5 * (a + b))

    return jax.lax.map(one, packed)


def bytes_needed(n: int, auxiliary: int | None) -> float:
    """What the integrals of `n` functions take in memory."""
    size = float(pairs(n))
    return 8 * (2 * size * size if auxiliary is None else auxiliary * size)


def check_size(n: int, auxiliary: int | None, limit: float) -> None:
    """Refuse integrals that do not fit, before they are made.

    **Raises:**

    - `ValueError`: with the estimate.
    """
    needed = bytes_needed(n, auxiliary)
    if needed > limit:
        advice = "use a smaller basis" if auxiliary is not None else "use `density_fit=True`, use a smaller basis"
        raise ValueError(
            f"The integrals of {n} basis functions would take {needed / 2**30:.3g} GiB, but at most "
            f"{limit / 2**30:.3g} GiB are allowed. Raise `max_gib`, {advice}, or a smaller molecule."
        )


def interaction(repulsion: Float[np.ndarray, "..."], n: int, fitted: bool) -> AbstractInteraction:
    """Integrals as they are kept on the device."""
    if fitted:
        if repulsion.ndim != 2 or repulsion.shape[1] != pairs(n):
            raise ValueError(
                f"Factors of density fitting for {n} functions have shape [auxiliary, {pairs(n)}], but "
                f"{repulsion.shape} was given."
            )
        return DensityFitted(jnp.asarray(repulsion))
    direct = unfold(repulsion, n)
    return PairPacked(jnp.asarray(direct), jnp.asarray(2 * direct - crossed(direct)))
