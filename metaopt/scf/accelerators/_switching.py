"""One accelerator far from the solution, another one near it."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from ..._core.arrays._numbers import POSITIVE, number
from ..base import AbstractAccelerator, Matrices, Signal
from ._adiis import ADIIS
from ._cdiis import CDIIS
from ._norms import largest


class Switching(AbstractAccelerator[tuple[PyTree, PyTree]]):
    r"""Mix two accelerators by the largest element of the residual.

    Above `upper` the far one alone is followed, below `lower` the near one alone, and in between

    $$\tilde F = \lambda \tilde F_\text{far} + (1 - \lambda) \tilde F_\text{near}, \qquad
          \lambda = \frac{\max |R| - \text{lower}}{\text{upper} - \text{lower}}$$

    Both see every Fock matrix.

    **Attributes:**

    - `far`: such as [`metaopt.scf.ADIIS`][] or [`metaopt.scf.EDIIS`][].
    - `near`: such as [`metaopt.scf.CDIIS`][].
    - `upper`, `lower`: where one begins and the other ends.

    ??? cite "Reference"

        ```bibtex
        @article{garza2012comparison,
          title={Comparison of self-consistent field convergence acceleration techniques},
          author={Garza, Alejandro J. and Scuseria, Gustavo E.},
          journal={The Journal of Chemical Physics}, volume={137}, pages={054110}, year={2012}
        }
        ```
    """

    far: AbstractAccelerator[Any] = ADIIS()
    near: AbstractAccelerator[Any] = CDIIS()
    upper: Float[Array, ""] = eqx.field(converter=number, default=0.1)
    lower: Float[Array, ""] = eqx.field(converter=number, default=1e-2)

    def __check_init__(self) -> None:
        POSITIVE.check(upper=self.upper, lower=self.lower)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> tuple[PyTree, PyTree]:
        return self.far.init(params, key=key), self.near.init(params, key=key)

    def step(
        self, state: tuple[PyTree, PyTree], params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[tuple[PyTree, PyTree], Matrices]:
        far_state, far = self.far.step(state[0], params, grads, value=value)
        near_state, near = self.near.step(state[1], params, grads, value=value)
        lower, upper = (x.astype(params.dtype) for x in (self.lower, self.upper))
        share = jnp.clip((largest(grads.residual) - lower) / (upper - lower), 0, 1)
        return (far_state, near_state), share * far + (1 - share) * near
