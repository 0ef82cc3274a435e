"""Cosine decay with warm restarts."""

from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar, ScalarLike

from .._core import AbstractAlgorithm
from .._core.arrays._numbers import COUNT, FRACTION, number
from .._core.arrays._trees import compute_dtype
from ._common import count, half_cosine, scaled


P = TypeVar("P")

# In steps: twice as many overflow 32 bits.
_LONGEST = 2**30


class _CyclicState(NamedTuple):
    """`position` counts the steps of the present cycle, which has `length` of them."""

    inner: PyTree
    position: Int[Array, ""]
    length: Int[Array, ""]


class CyclicRestarts(AbstractAlgorithm[_CyclicState, Any, Any]):
    r"""Scale the steps of an inner algorithm down along half a cosine, again and again.

    Cycle $i$ has $T_i = T_0 m^i$ steps, and at step $j$ of it

    $$\phi = \rho + (1 - \rho) \, \frac{1 + \cos (\pi j / T_i)}{2},$$

    so each cycle begins at the full step. The state of the inner algorithm goes on over restarts.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{loshchilov2017sgdr,
          title={{SGDR}: Stochastic Gradient Descent with Warm Restarts},
          author={Loshchilov, Ilya and Hutter, Frank},
          booktitle={ICLR}, year={2017}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    period: Int[Array, ""]
    growth: Int[Array, ""]
    final_fraction: Float[Array, ""]

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        period: ScalarLike = 50,
        growth: ScalarLike = 2,
        final_fraction: ScalarLike = 0.0,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm whose steps are scaled.
        - `period`: $T_0$, the steps of the first cycle.
        - `growth`: $m$, a whole number: how many times as long as the one before a cycle is.
        - `final_fraction`: $\rho$, towards which the factor falls.

        **Raises:**

        - `ValueError`: if `period` or `growth` is below 1 or `final_fraction` is not between 0 and 1.
        """
        COUNT.check(period=period, growth=growth)
        FRACTION.check(final_fraction=final_fraction)
        self.inner, self.final_fraction = inner, number(final_fraction)
        self.period, self.growth = count(period), count(growth)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _CyclicState:
        return _CyclicState(self.inner.init(params, key=key), jnp.zeros((), jnp.int32), jnp.copy(self.period))

    def step(
        self, state: _CyclicState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_CyclicState, P]:
        inner, proposed = self.inner.step(state.inner, params, grads, value=value)
        dtype = compute_dtype(self.final_fraction.dtype)
        done = state.position.astype(dtype) / state.length.astype(dtype)
        factor = half_cosine(done, self.final_fraction)
        over = state.position + 1 >= state.length
        longer = jnp.where(state.length > _LONGEST // self.growth, _LONGEST, state.length * self.growth)
        updated = _CyclicState(
            inner, jnp.where(over, 0, state.position + 1), jnp.where(over, longer, state.length).astype(jnp.int32)
        )
        return updated, scaled(params, proposed, factor)
