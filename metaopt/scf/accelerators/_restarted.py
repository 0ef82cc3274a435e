"""A fresh start where things get worse."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from ..._core.arrays._numbers import POSITIVE, number
from ..._core.arrays._trees import select
from ..base import AbstractAccelerator, Matrices, Signal


class RestartedState(NamedTuple):
    """The smallest residual since the last start, and how often there was one."""

    inner: PyTree
    smallest: Float[Array, ""]
    restarts: Int[Array, ""]


class Restarted(AbstractAccelerator[RestartedState]):
    r"""Let an inner accelerator forget all it knows when the residual grows.

    It starts anew, from the newest Fock matrix, where $\lVert R \rVert > \text{growth} \cdot \min \lVert R \rVert$, the
    minimum being that since the last start.

    **Attributes:**

    - `inner`: the accelerator.
    - `growth`: how much larger than the smallest a residual may be.

    ??? cite "Reference"

        ```bibtex
        @article{chupin2021convergence,
          title={Convergence analysis of adaptive {DIIS} algorithms with application to electronic ground state
            calculations},
          author={Chupin, Maxime and Dupuy, Mi-Song and Legendre, Guillaume and S{\'e}r{\'e}, {\'E}ric},
          journal={ESAIM: Mathematical Modelling and Numerical Analysis}, volume={55}, pages={2785--2825}, year={2021}
        }
        ```
    """

    inner: AbstractAccelerator[Any]
    growth: Float[Array, ""] = eqx.field(converter=number, default=10.0)

    def __check_init__(self) -> None:
        POSITIVE.check(growth=self.growth)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> RestartedState:
        inner = self.inner.init(params, key=key)
        return RestartedState(inner, jnp.asarray(jnp.inf, params.dtype), jnp.zeros((), jnp.int32))

    def step(
        self, state: RestartedState, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[RestartedState, Matrices]:
        norm = jnp.linalg.norm(grads.residual)
        worse = norm > self.growth.astype(norm.dtype) * state.smallest
        fresh = self.inner.init(params)
        inner, proposed = self.inner.step(select(worse, fresh, state.inner), params, grads, value=value)
        smallest = jnp.where(worse, norm, jnp.minimum(norm, state.smallest))
        return RestartedState(inner, smallest, state.restarts + worse.astype(jnp.int32)), proposed
