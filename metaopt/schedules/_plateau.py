"""Smaller steps where the loss has stopped to fall."""

from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar, ScalarLike

from .._core import AbstractAlgorithm
from .._core.arrays._numbers import COUNT, FRACTION, SHARE, WHOLE, number
from ._common import Window, count, needed, scaled


P = TypeVar("P")


class _PlateauState(NamedTuple):
    """`bad` windows brought nothing, and `rest` are left of the cooldown."""

    inner: PyTree
    scale: Float[Array, ""]
    best: Float[Array, ""]
    window: Window
    bad: Int[Array, ""]
    rest: Int[Array, ""]


class Plateau(AbstractAlgorithm[_PlateauState, Any, Any]):
    r"""Scale the steps of an inner algorithm down each time the loss has not improved for a while.

    The loss is averaged over windows of $w$ steps. A window improves if its average is below $(1 - \epsilon)$ times
    the best one so far. After more than $p$ windows in a row that did not, the factor is multiplied by $d$, but not
    below $\rho$, and $c$ windows of cooldown follow, which are not counted. This repeats with each plateau.

    The loss that a step is given counts for that step already. A loss that is not finite improves nothing.

    ??? cite "Reference"

        Known by the name that PyTorch gave it, `ReduceLROnPlateau`; described as common practice in

        ```bibtex
        @incollection{bengio2012practical,
          title={Practical Recommendations for Gradient-Based Training of Deep Architectures},
          author={Bengio, Yoshua},
          booktitle={Neural Networks: Tricks of the Trade}, year={2012}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    reduction: Float[Array, ""]
    threshold: Float[Array, ""]
    minimum: Float[Array, ""]
    patience: Int[Array, ""]
    cooldown: Int[Array, ""]
    window: Int[Array, ""]

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        reduction: ScalarLike = 0.5,
        patience: ScalarLike = 10,
        cooldown: ScalarLike = 0,
        minimum: ScalarLike = 0.0,
        threshold: ScalarLike = 1e-4,
        window: ScalarLike = 1,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm whose steps are scaled.
        - `reduction`: $d$, by what the factor is multiplied.
        - `patience`: $p$, how many windows without an improvement are borne.
        - `cooldown`: $c$, how many windows after a reduction are not counted.
        - `minimum`: $\rho$, below which the factor does not fall.
        - `threshold`: $\epsilon$, the relative improvement that counts as one.
        - `window`: $w$; more than 1 for minibatch losses.

        **Raises:**

        - `ValueError`: if a fraction is not between 0 and 1, `patience` or `cooldown` is negative, or `window` is
            below 1.
        """
        SHARE.check(reduction=reduction)
        WHOLE.check(patience=patience, cooldown=cooldown)
        COUNT.check(window=window)
        FRACTION.check(minimum=minimum, threshold=threshold)
        self.inner = inner
        self.reduction, self.minimum, self.threshold = number(reduction), number(minimum), number(threshold)
        self.patience, self.cooldown = count(patience), count(cooldown)
        self.window = count(window)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _PlateauState:
        dtype = self.reduction.dtype
        none = jnp.zeros((), jnp.int32)
        return _PlateauState(
            inner=self.inner.init(params, key=key),
            scale=jnp.ones((), dtype),
            best=jnp.full((), jnp.finfo(dtype).max),
            window=Window.empty(dtype),
            bad=none,
            rest=jnp.copy(none),
        )

    def step(
        self, state: _PlateauState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_PlateauState, P]:
        window, due, average = state.window.add(needed("Plateau", value), self.window)
        inner, proposed = self.inner.step(state.inner, params, grads, value=value)
        # Relative to the size, so that it is an improvement for losses below zero, too.
        better = (average < state.best - self.threshold * jnp.abs(state.best)) & jnp.isfinite(average)
        resting = state.rest > 0
        bad = jnp.where(better | resting, 0, state.bad + 1)
        reduce = due & (bad > self.patience)
        lower = jnp.maximum(state.scale * self.reduction, jnp.minimum(self.minimum, state.scale))
        scale = jnp.where(reduce, lower, state.scale)
        rest = jnp.where(reduce, self.cooldown, jnp.maximum(state.rest - 1, 0))
        updated = _PlateauState(
            inner=inner,
            scale=scale,
            best=jnp.where(due & better, average, state.best),
            window=window,
            bad=jnp.where(due, jnp.where(reduce, 0, bad), state.bad),
            rest=jnp.where(due, rest, state.rest),
        )
        return updated, scaled(params, proposed, scale)
