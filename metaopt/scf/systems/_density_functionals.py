"""Density functionals, and the grid on which their energy is summed."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base import AbstractFunctional, Field, Matrices
from ._functionals import SPARSE, b88, lyp, pbe_correlation, pbe_exchange, slater, vwn5, vwn_rpa


class LDA(AbstractFunctional):
    """The local density approximation: exchange of Slater, correlation of Vosko, Wilk and Nusair (fit V).

    ??? cite "Reference"

        ```bibtex
        @article{vosko1980accurate,
          title={Accurate spin-dependent electron liquid correlation energies for local spin density calculations},
          author={Vosko, Seymour H. and Wilk, Leslie and Nusair, Marwan},
          journal={Canadian Journal of Physics}, volume={58}, pages={1200--1211}, year={1980}
        }
        ```
    """

    @property
    def exact_exchange(self) -> float:
        return 0.0

    def energy(self, up: Field, down: Field, up_slope: Field, down_slope: Field, slope: Field) -> Field:
        del up_slope, down_slope, slope
        return slater(up, down) + vwn5(up, down)


class PBE(AbstractFunctional):
    """The generalized gradient approximation of Perdew, Burke and Ernzerhof.

    ??? cite "Reference"

        ```bibtex
        @article{perdew1996generalized,
          title={Generalized gradient approximation made simple},
          author={Perdew, John P. and Burke, Kieron and Ernzerhof, Matthias},
          journal={Physical Review Letters}, volume={77}, pages={3865--3868}, year={1996}
        }
        ```
    """

    @property
    def exact_exchange(self) -> float:
        return 0.0

    def energy(self, up: Field, down: Field, up_slope: Field, down_slope: Field, slope: Field) -> Field:
        return pbe_exchange(up, down, up_slope, down_slope) + pbe_correlation(up, down, slope)


class B3LYP(AbstractFunctional):
    """The hybrid of Becke, Lee, Yang and Parr, with 20% of exact exchange, and the correlation of the uniform gas from
    the random phase approximation.

    ??? cite "Reference"

        ```bibtex
        @article{stephens1994ab,
          title={Ab initio calculation of vibrational absorption and circular dichroism spectra using density functional
            force fields},
          author={Stephens, Philip J. and Devlin, Frank J. and Chabalowski, Cary F. and Frisch, Michael J.},
          journal={The Journal of Physical Chemistry}, volume={98}, pages={11623--11627}, year={1994}
        }
        ```
    """

    @property
    def exact_exchange(self) -> float:
        return 0.2

    def energy(self, up: Field, down: Field, up_slope: Field, down_slope: Field, slope: Field) -> Field:
        exchange = 0.08 * slater(up, down) + 0.72 * b88(up, down, up_slope, down_slope)
        return exchange + 0.19 * vwn_rpa(up, down) + 0.81 * lyp(up, down, up_slope, down_slope, slope)


class Grid(eqx.Module):
    """Points in space.

    - `weights`: the volume of each.
    - `orbitals`: the basis functions there, and their three derivatives.
    """

    weights: Float[Array, " points"]
    orbitals: Float[Array, "4 points n"]

    def energy(self, functional: AbstractFunctional, density: Matrices) -> Float[Array, ""]:
        """The energy of densities of each spin, of one electron per orbital; of one if both are the same."""
        values, slopes = self.orbitals[0], self.orbitals[1:]
        spins = []
        for each in density:
            half = values @ each
            spins.append((jnp.sum(half * values, axis=1), 2 * jnp.einsum("gn,xgn->xg", half, slopes)))
        (up, up_gradient), (down, down_gradient) = spins[0], spins[-1]
        square = lambda x: jnp.sum(x * x, axis=0)  # noqa: E731
        fields = up, down, square(up_gradient), square(down_gradient), square(up_gradient + down_gradient)
        # What is computed where there is nothing must be finite, and so must its derivatives.
        there = up + down > SPARSE
        safe = jnp.where(there, up, 1.0), jnp.where(there, down, 1.0), *(jnp.where(there, x, 0.0) for x in fields[2:])
        floor = tuple(jnp.maximum(x, 1e-20) for x in safe[:2])
        found = functional.energy(*floor, *safe[2:])
        return jnp.sum(jnp.where(there, found * self.weights, 0.0))
