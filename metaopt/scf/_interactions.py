"""Coulomb and exchange matrices from integrals over pairs of functions."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .base import AbstractInteraction


def pairs(n: int) -> int:
    """The number of pairs of `n` functions."""
    return n * (n + 1) // 2


def functions(pairs: int) -> int | None:
    """The number of functions that have so many pairs, if there is one."""
    n = (math.isqrt(8 * pairs + 1) - 1) // 2
    return n if n * (n + 1) // 2 == pairs else None


def positions(n: int) -> np.ndarray:
    """Where in a packed vector each element of a symmetric matrix is found."""
    found = np.zeros((n, n), np.int32)
    rows, columns = np.tril_indices(n)
    found[rows, columns] = found[columns, rows] = np.arange(rows.size)
    return found


def pack(matrix: Float[Array, "*batch n n"]) -> Float[Array, "*batch pairs"]:
    rows, columns = np.tril_indices(matrix.shape[-1])
    return matrix[..., rows, columns]


def unpack(packed: Float[Array, "*batch pairs"]) -> Float[Array, "*batch n n"]:
    n = functions(packed.shape[-1])
    assert n is not None
    return packed[..., positions(n)]


def _squares(pairs: int) -> np.ndarray:
    """Where in a packed vector the diagonal of a matrix is found."""
    n = functions(pairs)
    assert n is not None
    return np.cumsum(np.arange(1, n + 1)) - 1


def _doubled(n: int) -> np.ndarray:
    """How often an element of the lower triangle stands in the whole matrix."""
    rows, columns = np.tril_indices(n)
    return np.where(rows == columns, 1.0, 2.0)


class PairPacked(AbstractInteraction):
    """All integrals, as two matrices over pairs of functions: a Fock build is two products with packed densities.

    - `direct`: $(ij|kl)$.
    - `crossed`: $((ik|jl) + (il|jk)) / 2$.
    """

    direct: Float[Array, "pairs pairs"]
    crossed: Float[Array, "pairs pairs"]

    def coulomb(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        return unpack(self.direct @ (pack(density) * _doubled(density.shape[-1])))

    def exchange(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        return unpack(self.crossed @ (pack(density) * _doubled(density.shape[-1])))

    def monopoles(self) -> Float[Array, "n n"]:
        squares = _squares(self.direct.shape[-1])
        return self.direct[squares[:, None], squares[None]]


class DensityFitted(AbstractInteraction):
    r"""Integrals as a sum of products, $(ij|kl) \approx \sum_P B^P_{ij} B^P_{kl}$.

    - `factors`: $B$, with pairs packed.

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

    def coulomb(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        weights = self.factors @ (pack(density) * _doubled(density.shape[-1]))
        return unpack(weights @ self.factors)

    def exchange(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        full = unpack(self.factors)
        half = full @ density
        return jnp.einsum("pik,pjk->ij", half, full)

    def monopoles(self) -> Float[Array, "n n"]:
        own = self.factors[:, _squares(self.factors.shape[-1])]
        return own.T @ own


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
    return PairPacked(jnp.asarray(direct), jnp.asarray(crossed(direct)))
