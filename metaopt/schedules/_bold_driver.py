"""Longer steps while the loss falls fast enough, and shorter ones where it does not."""

from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar, ScalarLike

from .._core import AbstractAlgorithm
from .._core.arrays._numbers import COUNT, GROWTH, LIMIT, NONNEGATIVE, POSITIVE, SHARE, number
from ._common import Window, count, needed, scaled


P = TypeVar("P")


class _BoldDriverState(NamedTuple):
    inner: PyTree
    scale: Float[Array, ""]
    previous: Float[Array, ""]
    window: Window


class BoldDriver(AbstractAlgorithm[_BoldDriverState, Any, Any]):
    r"""Judge the progress of the loss now and then, and adapt the length of the steps to it.

    Every $k$ steps the average loss $\bar v_n$ over these is compared with that over the $k$ steps before:

    $$s \leftarrow \mathrm{clip}\left(s \cdot \begin{cases} u & \bar v_n < \bar v_{n-1} - \epsilon \,
      |\bar v_{n-1}| \\ d & \text{otherwise} \end{cases}, \; s_{\min}, \; s_{\max}\right)$$

    and steps are scaled by $s$, which starts at 1. The comparison is made before the step that sees the last loss of
    the $k$. A loss that is not finite counts as no progress.

    ??? cite "Reference"

        ```bibtex
        @article{vogl1988accelerating,
          title={Accelerating the convergence of the back-propagation method},
          author={Vogl, Thomas P and Mangis, J K and Rigler, A K and Zink, W T and Alkon, D L},
          journal={Biological Cybernetics}, volume={59}, pages={257--263}, year={1988}
        }
        @article{battiti1989accelerated,
          title={Accelerated backpropagation learning: two optimization methods},
          author={Battiti, Roberto},
          journal={Complex Systems}, volume={3}, pages={331--342}, year={1989}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    growth: Float[Array, ""]
    reduction: Float[Array, ""]
    threshold: Float[Array, ""]
    minimum: Float[Array, ""]
    maximum: Float[Array, ""]
    frequency: Int[Array, ""]

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        frequency: ScalarLike = 10,
        threshold: ScalarLike = 0.01,
        growth: ScalarLike = 1.05,
        reduction: ScalarLike = 0.5,
        minimum: ScalarLike = 1e-4,
        maximum: ScalarLike = 10.0,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm whose steps are scaled.
        - `frequency`: $k$, after how many steps the length is adapted.
        - `threshold`: $\epsilon$, the relative progress that is wanted in that time.
        - `growth`: $u$, what rewards it.
        - `reduction`: $d$, what follows if it is missing.
        - `minimum`: $s_{\min}$.
        - `maximum`: $s_{\max}$.

        **Raises:**

        - `ValueError`: if `frequency` is below 1 or a factor is not positive.
        """
        COUNT.check(frequency=frequency)
        NONNEGATIVE.check(threshold=threshold)
        GROWTH.check(growth=growth)
        SHARE.check(reduction=reduction)
        POSITIVE.check(minimum=minimum)
        LIMIT.check(maximum=maximum)
        self.inner, self.frequency = inner, count(frequency)
        self.threshold = number(threshold)
        self.growth, self.reduction = number(growth), number(reduction)
        self.minimum, self.maximum = number(minimum), number(maximum)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _BoldDriverState:
        dtype = self.growth.dtype
        return _BoldDriverState(
            inner=self.inner.init(params, key=key),
            scale=jnp.ones((), dtype),
            previous=jnp.full((), jnp.inf, dtype),
            window=Window.empty(dtype),
        )

    def step(
        self, state: _BoldDriverState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_BoldDriverState, P]:
        window, due, average = state.window.add(needed("BoldDriver", value), self.frequency)
        inner, proposed = self.inner.step(state.inner, params, grads, value=value)
        first = jnp.isinf(state.previous)
        before = jnp.where(first, 0, state.previous)
        progress = average < before - self.threshold * jnp.abs(before)
        change = jnp.where(progress, self.growth, self.reduction)
        adapted = jnp.clip(state.scale * change, self.minimum, self.maximum)
        scale = jnp.where(due & ~first, adapted, state.scale)
        updated = _BoldDriverState(
            inner=inner,
            scale=scale,
            # What is no number is not compared with, so that one bad loss is not held against all that follow.
            previous=jnp.where(due, jnp.where(jnp.isfinite(average), average, jnp.inf), state.previous),
            window=window,
        )
        return updated, scaled(params, proposed, scale)
