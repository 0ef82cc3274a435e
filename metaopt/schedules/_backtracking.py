"""Shorter steps from where the loss was still falling."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Scalar, ScalarLike

from .._core import AbstractAlgorithm
from .._core.arrays._numbers import FRACTION, INSIDE, check_counts, number
from .._core.arrays._trees import compute_dtype, match, select, trainable
from ._common import needed
from ._polyak import descent


P = TypeVar("P")


class _BacktrackingState(NamedTuple):
    """Where the loss fell enough last: the state of the inner algorithm there, the loss, what was proposed, by how much
    that lowers the loss to first order, and what is taken of it."""

    inner: PyTree
    point: PyTree
    proposed: PyTree
    loss: Float[Array, ""]
    fall: Float[Array, ""]
    scale: Float[Array, ""]
    rejected: Int[Array, ""]
    started: Bool[Array, ""]


class Backtracking(AbstractAlgorithm[_BacktrackingState, Any, Any]):
    r"""Go back, and take a shorter step, where the loss did not fall enough.

    From the last accepted point $\theta$, with the proposed step $d$ of the inner algorithm, $\theta + c^k d$ is tried
    for $k = 0, 1, \dots$ in one step each, until

    $$f(\theta + c^k d) \le f(\theta) - \sigma c^k \max(0, -\langle g, d \rangle)$$

    (Armijo), or `attempts` have failed. Then the inner algorithm steps from there; it sees accepted points alone, and
    begins anew where it leads uphill. No further evaluations are needed, in contrast to
    [`metaopt.schedules.LineSearch`][]: the next step has the loss. It is for losses without noise. Around
    [`optax.lbfgs`](https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.lbfgs) without a line search of
    its own, it is a quasi-Newton method.

    ??? cite "Reference"

        ```bibtex
        @article{armijo1966minimization,
          title={Minimization of functions having {Lipschitz} continuous first partial derivatives},
          author={Armijo, Larry},
          journal={Pacific Journal of Mathematics}, volume={16}, pages={1--3}, year={1966}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    shrinkage: Float[Array, ""]
    slope: Float[Array, ""]
    attempts: int = eqx.field(static=True)

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        shrinkage: ScalarLike = 0.25,
        slope: ScalarLike = 1e-4,
        attempts: int = 10,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm whose steps are shortened.
        - `shrinkage`: $c$.
        - `slope`: $\sigma$.
        - `attempts`: how often a step is shortened at most.

        **Raises:**

        - `ValueError`: if `shrinkage` or `slope` is not between 0 and 1, or `attempts` is below 1.
        """
        INSIDE.check(shrinkage=shrinkage)
        FRACTION.check(slope=slope)
        check_counts(attempts=attempts)
        self.inner, self.attempts = inner, attempts
        self.shrinkage, self.slope = number(shrinkage), number(slope)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _BacktrackingState:
        point, dtype = trainable(params), self.slope.dtype
        return _BacktrackingState(
            inner=self.inner.init(params, key=key),
            point=point,
            proposed=point,
            loss=jnp.zeros((), dtype),
            fall=jnp.zeros((), dtype),
            scale=jnp.ones((), dtype),
            rejected=jnp.zeros((), jnp.int32),
            started=jnp.asarray(False),
        )

    def step(
        self, state: _BacktrackingState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_BacktrackingState, P]:
        loss = needed("Backtracking", value).astype(state.loss.dtype)
        enough = loss <= state.loss - self.slope * state.scale * jnp.maximum(state.fall, 0)
        accepted = enough | ~state.started | (state.rejected >= self.attempts)
        inner, proposed = self.inner.step(state.inner, params, grads, value=value)
        # Curvature of the wrong sign, or an old momentum, can lead uphill, where no step is short enough.
        uphill = ~(descent(params, proposed, grads) > 0)
        anew = self.inner.step(self.inner.init(params), params, grads, value=value)
        inner, proposed = select(uphill, anew, (inner, proposed))
        new = _BacktrackingState(
            inner=inner,
            point=trainable(params),
            proposed=trainable(proposed),
            loss=loss,
            fall=descent(params, proposed, grads).astype(loss.dtype),
            scale=jnp.ones_like(state.scale),
            rejected=jnp.zeros_like(state.rejected),
            started=jnp.asarray(True),
        )
        again = eqx.tree_at(lambda s: (s.scale, s.rejected), state, (state.scale * self.shrinkage, state.rejected + 1))
        state = select(accepted, new, again)
        whole = match(params, grads)
        points, ends = whole.pick(state.point), whole.pick(state.proposed)
        return state, whole.rebuild([_between(a, b, state.scale) for a, b in zip(points, ends, strict=True)])


def _between(start: Array, end: Array, share: Float[Array, ""]) -> Array:
    dtype = compute_dtype(start.dtype)
    begin = start.astype(dtype)
    moved = begin + share.astype(jnp.finfo(dtype).dtype) * (end.astype(dtype) - begin)
    # What is taken as a whole is taken as it is, without a rounding.
    return jnp.where(share == 1, end, moved.astype(start.dtype))
