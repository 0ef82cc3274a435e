"""Smaller steps between the Fock matrices that are diagonalized."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Scalar

from ..._core.arrays._numbers import DECAY, number
from ..base import AbstractAccelerator, Matrices, Signal


class DampingState(NamedTuple):
    """The Fock matrix that was diagonalized last, and whether there is one yet."""

    inner: PyTree
    last: Matrices
    started: Bool[Array, ""]


class Damping(AbstractAccelerator[DampingState]):
    r"""Mix what an inner accelerator proposes with what was diagonalized before.

    $$\tilde F_{t + 1} = (1 - d) \, \mathrm{inner}(F_t) + d \, \tilde F_t$$

    **Attributes:**

    - `inner`: the accelerator.
    - `factor`: $d$.

    ??? cite "Reference"

        ```bibtex
        @article{zerner1979dynamical,
          title={A dynamical damping scheme for converging molecular {SCF} calculations},
          author={Zerner, Michael C. and Hehenberger, Michael},
          journal={Chemical Physics Letters}, volume={62}, pages={550--554}, year={1979}
        }
        ```
    """

    inner: AbstractAccelerator[Any]
    factor: Float[Array, ""] = eqx.field(converter=number, default=0.3)

    def __check_init__(self) -> None:
        DECAY.check(factor=self.factor)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> DampingState:
        return DampingState(self.inner.init(params, key=key), jnp.zeros_like(params), jnp.asarray(False))

    def step(
        self, state: DampingState, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[DampingState, Matrices]:
        inner, proposed = self.inner.step(state.inner, params, grads, value=value)
        factor = jnp.where(state.started, self.factor.astype(params.dtype), 0.0)
        damped = proposed + factor * (state.last - proposed)
        return DampingState(inner, damped, jnp.asarray(True)), damped
