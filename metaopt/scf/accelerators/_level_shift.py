"""Virtual orbitals, raised."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from ..._core.arrays._numbers import NONNEGATIVE, number
from ..base import AbstractAccelerator, Matrices, Signal


class LevelShift(AbstractAccelerator[PyTree]):
    r"""Raise the virtual orbitals of what an inner accelerator proposes, so that orbitals rotate less.

    $$\tilde F \leftarrow \tilde F + \sigma (1 - P)$$

    **Attributes:**

    - `inner`: the accelerator.
    - `shift`: $\sigma$, in hartree.

    ??? cite "Reference"

        ```bibtex
        @article{saunders1973level,
          title={A ``level-shifting'' method for converging closed shell {Hartree--Fock} wave functions},
          author={Saunders, Victor R. and Hillier, Ian H.},
          journal={International Journal of Quantum Chemistry}, volume={7}, pages={699--705}, year={1973}
        }
        ```
    """

    inner: AbstractAccelerator[Any]
    shift: Float[Array, ""] = eqx.field(converter=number, default=0.25)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(shift=self.shift)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> PyTree:
        return self.inner.init(params, key=key)

    def step(
        self, state: PyTree, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[PyTree, Matrices]:
        state, proposed = self.inner.step(state, params, grads, value=value)
        identity = jnp.eye(params.shape[-1], dtype=params.dtype)
        return state, proposed + self.shift.astype(params.dtype) * (identity[None] - grads.density)
