"""Steps as long as the loss along them allows."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar, ScalarLike

from .._core import AbstractAlgorithm
from .._core.arrays._numbers import FRACTION, INSIDE, check_counts, number
from .._core.arrays._trees import match, trainable
from ._common import needed


P = TypeVar("P")


class _LineSearchState(NamedTuple):
    inner: PyTree
    search: PyTree


class LineSearch(AbstractAlgorithm[_LineSearchState, Any, Any]):
    r"""Shorten the step of an inner algorithm until the loss falls enough along it.

    With the proposed step $d_t$, the rate is the first of $\eta, c \eta, c^2 \eta, \dots$ at which

    $$f(\theta_t + \eta d_t) \le f(\theta_t) + \sigma \, \eta \, \langle g_t, d_t \rangle$$

    (Armijo), where the search starts at the rate of the step before, lengthened a little, but at most the full step.
    This is [`optax.scale_by_backtracking_linesearch`](https://optax.readthedocs.io/en/latest/api/transformations.html).

    An algorithm sees gradients and losses alone, so this one has the function that it searches along. Each step
    evaluates it at least once more.

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
    objective: Callable[[Any], Float[Array, ""]]
    shrinkage: Float[Array, ""]
    slope: Float[Array, ""]
    attempts: int = eqx.field(static=True)

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        objective: Callable[[Any], Float[Array, ""]],
        shrinkage: ScalarLike = 0.5,
        slope: ScalarLike = 1e-4,
        attempts: int = 20,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm whose steps are scaled. Its step is the longest that is tried.
        - `objective`: the loss as a function of the parameters; the one whose gradients the steps are given.
        - `shrinkage`: $c$.
        - `slope`: $\sigma$.
        - `attempts`: how often a step is shortened at most.

        **Raises:**

        - `ValueError`: if `shrinkage` or `slope` is not between 0 and 1, or `attempts` is below 1.
        """
        INSIDE.check(shrinkage=shrinkage)
        FRACTION.check(slope=slope)
        check_counts(attempts=attempts)
        self.inner, self.objective, self.attempts = inner, objective, attempts
        self.shrinkage, self.slope = number(shrinkage), number(slope)

    def _search(self) -> optax.GradientTransformationExtraArgs:
        return optax.scale_by_backtracking_linesearch(
            self.attempts, slope_rtol=self.slope, decrease_factor=self.shrinkage, increase_factor=1.5
        )

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _LineSearchState:
        return _LineSearchState(self.inner.init(params, key=key), self._search().init(trainable(params)))

    def step(
        self, state: _LineSearchState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_LineSearchState, P]:
        needed("LineSearch", value)
        inner, proposed = self.inner.step(state.inner, params, grads, value=value)
        mutable, fixed = eqx.partition(params, eqx.is_inexact_array)
        matched = match(mutable, grads)
        zeros = [jnp.zeros_like(leaf.param) for leaf in match(mutable, mutable).leaves]
        empty = match(mutable, mutable).put(mutable, zeros)
        direction = matched.put(
            empty, [new - leaf.param for leaf, new in zip(matched.leaves, matched.pick(proposed), strict=True)]
        )
        with jax.numpy_dtype_promotion("standard"):
            updates, search = self._search().update(
                direction,
                state.search,
                mutable,
                value=value,
                grad=matched.put(empty, [leaf.grad for leaf in matched.leaves]),
                value_fn=lambda p: self.objective(eqx.combine(p, fixed)),
            )
        whole = match(params, grads)
        moved = [leaf.param + update for leaf, update in zip(whole.leaves, whole.pick(updates), strict=True)]
        return _LineSearchState(inner, search), whole.rebuild(moved)
