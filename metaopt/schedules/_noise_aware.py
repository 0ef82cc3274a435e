"""One algorithm for losses with noise, another one for losses without."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Scalar, ScalarLike

from .._core import AbstractAlgorithm
from .._core.arrays._numbers import COUNT, FRACTION, check_counts, number
from .._core.arrays._trees import global_norm, select
from ._common import needed


P = TypeVar("P")


class _NoiseAwareState(NamedTuple):
    """The loss and the norm of the gradient that were seen first, and whether the exact algorithm is followed."""

    noisy: PyTree
    exact: PyTree
    first: Float[Array, "2"]
    exactly: Bool[Array, ""]
    clock: Int[Array, ""]


class NoiseAware(AbstractAlgorithm[_NoiseAwareState, Any, Any]):
    r"""Find out whether the loss is a random one, and follow the algorithm for that.

    The first step stays where it is. If the second one then sees the same loss, and a gradient of the same norm, the
    loss is taken to be the same function at every step, and `exact` is followed from there; otherwise `noisy`. The
    exact one has to earn its place: if after `trial` steps the norm of the gradient is above a `share` of what it was
    at first, as for losses with kinks, `noisy` takes over. Each steps along where the other leads.

    Rules that need no tuning average over many random gradients. Where gradients are not random, one that trusts each
    of them, such as a quasi-Newton method, is faster by orders of magnitude.
    """

    noisy: AbstractAlgorithm[Any, Any, Any]
    exact: AbstractAlgorithm[Any, Any, Any]
    share: Float[Array, ""]
    trial: int = eqx.field(static=True)

    def __init__(
        self,
        noisy: AbstractAlgorithm[Any, Any, Any],
        exact: AbstractAlgorithm[Any, Any, Any],
        *,
        trial: int = 50,
        share: ScalarLike = 0.01,
    ):
        """**Arguments:**

        - `noisy`: the algorithm for minibatches and random data.
        - `exact`: the one for a loss that is the same at every step, such as a [`metaopt.schedules.Backtracking`][].
        - `trial`: after how many steps the exact one has to have converged that far.
        - `share`: how far.

        **Raises:**

        - `ValueError`: if `trial` is below 1, or `share` is not between 0 and 1.
        """
        COUNT.check(trial=trial)
        FRACTION.check(share=share)
        check_counts(trial=trial)
        self.noisy, self.exact, self.trial, self.share = noisy, exact, trial, number(share)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _NoiseAwareState:
        return _NoiseAwareState(
            self.noisy.init(params, key=key),
            self.exact.init(params, key=key),
            jnp.zeros(2),
            jnp.asarray(False),
            jnp.zeros((), jnp.int32),
        )

    def step(
        self, state: _NoiseAwareState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_NoiseAwareState, P]:
        loss = needed("NoiseAware", value)
        seen = jnp.stack([loss, global_norm(grads).astype(loss.dtype)]).astype(state.first.dtype)
        waits = state.clock == 0
        repeated = jnp.where(state.clock == 1, jnp.all(seen == state.first), state.exactly)
        first = jnp.where(waits, seen, state.first)
        failed = (state.clock == self.trial) & (seen[1] > self.share * first[1])
        noisy, by_noisy = self.noisy.step(state.noisy, params, grads, value=value)
        exact, by_exact = self.exact.step(state.exact, params, grads, value=value)
        noisy, exact = select(waits, (state.noisy, state.exact), (noisy, exact))
        new = _NoiseAwareState(noisy, exact, first, repeated & ~failed, state.clock + 1)
        return new, select(waits, params, select(new.exactly, by_exact, by_noisy))
