"""An accelerator that has to earn its place."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from ..._core.arrays._numbers import POSITIVE, check_counts, number
from ..._core.arrays._trees import all_finite, select, spoiled
from ..base import AbstractAccelerator, Matrices, Signal
from ._cdiis import CDIIS


class GuardedState(NamedTuple):
    """The smallest residual so far, how long the fallback is in charge yet, and how often it was called."""

    inner: PyTree
    fallback: PyTree
    smallest: Float[Array, ""]
    left: Int[Array, ""]
    calls: Int[Array, ""]


class Guarded(AbstractAccelerator[GuardedState]):
    r"""Follow an inner accelerator, and another one for a while when the residual grows.

    The fallback is in charge for `patience` cycles where $\lVert R \rVert > \text{growth} \cdot \min \lVert R \rVert$,
    or where the inner one proposes a number that is not finite. Both see every Fock matrix, but keep no number that is
    not finite; where neither proposal is finite, the Fock matrix is returned as it is.

    **Attributes:**

    - `inner`: the accelerator, such as a learned one.
    - `fallback`: what to trust.
    - `growth`: how much larger than the smallest so far a residual may be.
    - `patience`: for how many cycles the fallback is in charge.
    """

    inner: AbstractAccelerator[Any]
    fallback: AbstractAccelerator[Any] = CDIIS()
    growth: Float[Array, ""] = eqx.field(converter=number, default=2.0)
    patience: int = eqx.field(static=True, default=4)

    def __check_init__(self) -> None:
        POSITIVE.check(growth=self.growth)
        check_counts(patience=self.patience)

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> GuardedState:
        inner, fallback = self.inner.init(params, key=key), self.fallback.init(params, key=key)
        zero = jnp.zeros((), jnp.int32)
        return GuardedState(inner, fallback, jnp.asarray(jnp.inf, params.dtype), zero, zero)

    def step(
        self, state: GuardedState, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[GuardedState, Matrices]:
        inner, proposed = self.inner.step(state.inner, params, grads, value=value)
        fallback, safe = self.fallback.step(state.fallback, params, grads, value=value)
        norm = jnp.linalg.norm(grads.residual)
        seen = jnp.isfinite(norm)
        worse = ~seen | (norm > self.growth.astype(norm.dtype) * state.smallest) | ~all_finite(proposed)
        left = jnp.where(worse, self.patience, jnp.maximum(state.left - 1, 0)).astype(jnp.int32)
        calls = state.calls + (worse & (state.left == 0)).astype(jnp.int32)
        smallest = jnp.where(seen, jnp.minimum(norm, state.smallest), state.smallest)
        inner = select(seen & ~spoiled(state.inner, inner), inner, state.inner)
        fallback = select(seen & ~spoiled(state.fallback, fallback), fallback, state.fallback)
        chosen = jnp.where(left > 0, safe, proposed)
        return GuardedState(inner, fallback, smallest, left, calls), jnp.where(all_finite(chosen), chosen, params)
