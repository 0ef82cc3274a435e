"""Mixing of densities by as much as lowers the energy most."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Scalar

from ..._core.arrays._numbers import DECAY, number
from ..base import AbstractAccelerator, Matrices, Signal


class OptimalDampingState(NamedTuple):
    """The mixed Fock matrix and density, and whether there are any yet."""

    fock: Matrices
    density: Matrices
    started: Bool[Array, ""]


class OptimalDamping(AbstractAccelerator[OptimalDampingState]):
    r"""Go to the lowest energy on the way to each new density.

    Between the mixed density $\bar D$ and the new one the energy is quadratic,

    $$E(\lambda) = E(0) + \lambda \langle \bar F, D - \bar D \rangle
          + \frac{\lambda^2}{2} \langle F - \bar F, D - \bar D \rangle$$

    and $\lambda$ is its minimum in $[\text{least}, 1]$. Without a `least`, the energy goes down in every cycle.

    **Attributes:**

    - `least`: the smallest part of the way to go.

    ??? cite "Reference"

        ```bibtex
        @article{cances2000can,
          title={Can we outperform the {DIIS} approach for electronic structure calculations?},
          author={Canc{\`e}s, Eric and Le Bris, Claude},
          journal={International Journal of Quantum Chemistry}, volume={79}, pages={82--90}, year={2000}
        }
        ```
    """

    least: Float[Array, ""] = eqx.field(converter=number, default=0.0)

    def __check_init__(self) -> None:
        DECAY.check(least=self.least)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> OptimalDampingState:
        del key
        return OptimalDampingState(jnp.zeros_like(params), jnp.zeros_like(params), jnp.asarray(False))

    def step(
        self, state: OptimalDampingState, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[OptimalDampingState, Matrices]:
        del value
        way, change = grads.density - state.density, params - state.fock
        slope, curvature = jnp.sum(state.fock * way), jnp.sum(change * way)
        inside = (curvature > 0) & (-slope < curvature)
        part = jnp.where(inside, -slope / jnp.where(inside, curvature, 1.0), 1.0)
        part = jnp.where(state.started, jnp.clip(part, self.least.astype(part.dtype), 1.0), 1.0)
        fock, density = state.fock + part * change, state.density + part * way
        return OptimalDampingState(fock, density, jnp.asarray(True)), fock
