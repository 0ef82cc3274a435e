"""Linear mixing of densities."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Scalar

from ..._core.arrays._numbers import POSITIVE, number
from ..base import AbstractAccelerator, Matrices, Signal


class MixingState(NamedTuple):
    """The mixed Fock matrix, and whether there is one yet."""

    mixed: Matrices
    started: Bool[Array, ""]


class Mixing(AbstractAccelerator[MixingState]):
    r"""Go a fixed part of the way to each new density.

    $$\bar D \leftarrow (1 - \beta) \bar D + \beta D, \qquad \tilde F = F(\bar D)$$

    As the Fock matrix is linear in the density, the Fock matrices are mixed, and none is built.

    **Attributes:**

    - `rate`: $\beta$.

    ??? cite "Reference"

        ```bibtex
        @article{hartree1928wave,
          title={The wave mechanics of an atom with a non-{Coulomb} central field. {Part II}},
          author={Hartree, Douglas R.},
          journal={Mathematical Proceedings of the Cambridge Philosophical Society}, volume={24}, pages={111--132},
          year={1928}
        }
        ```
    """

    rate: Float[Array, ""] = eqx.field(converter=number, default=0.5)

    def __check_init__(self) -> None:
        POSITIVE.check(rate=self.rate)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> MixingState:
        del key
        return MixingState(jnp.zeros_like(params), jnp.asarray(False))

    def step(
        self, state: MixingState, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[MixingState, Matrices]:
        del grads, value
        rate = jnp.where(state.started, self.rate.astype(params.dtype), 1.0)
        mixed = state.mixed + rate * (params - state.mixed)
        return MixingState(mixed, jnp.asarray(True)), mixed
