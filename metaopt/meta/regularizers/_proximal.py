"""Inner problems that stay near where they start."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import NONNEGATIVE, number
from ..._core.arrays._trees import add_up, compute_dtype, match, pulled, trainable


P = TypeVar("P")


class _ProximalState(NamedTuple):
    inner: PyTree
    start: PyTree


class Proximal(AbstractAlgorithm[_ProximalState, Any, Any]):
    r"""Minimize the loss and the squared distance from the start together, with any algorithm.

    $$g \leftarrow g + \lambda (\theta - \theta_0), \qquad
      v \leftarrow v + \tfrac{\lambda}{2} \lVert \theta - \theta_0 \rVert^2$$

    The minimum then depends on the start, however many steps are taken: it is the inner problem of
    [`metaopt.fewshot.IMAML`][], and what [`metaopt.meta.Implicit`][] differentiates.

    **Arguments:**

    - `inner`: the algorithm.
    - `strength`: $\lambda$.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{rajeswaran2019meta,
          title={Meta-Learning with Implicit Gradients},
          author={Rajeswaran, Aravind and Finn, Chelsea and Kakade, Sham and Levine, Sergey},
          booktitle={NeurIPS}, year={2019}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    strength: Float[Array, ""] = eqx.field(converter=number, default=1.0)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(strength=self.strength)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _ProximalState:
        return _ProximalState(self.inner.init(params, key=key), trainable(params))

    def step(
        self, state: _ProximalState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_ProximalState, P]:
        if value is not None:
            value = value + self._distance(params, state.start, grads).astype(value.dtype)
        inner, new = self.inner.step(state.inner, params, self.pull(params, state.start, grads), value=value)
        return _ProximalState(inner, state.start), new

    def pull(self, params: PyTree, start: PyTree, grads: PyTree) -> PyTree:
        """The gradient of the loss and the distance together."""
        return pulled(params, grads, start, self.strength)

    def _distance(self, params: PyTree, start: PyTree, grads: PyTree) -> Float[Array, ""]:
        matched = match(params, grads)

        def one(param: Inexact[Array, "*shape"], start: Inexact[Array, "*shape"]) -> Float[Array, ""]:
            dtype = compute_dtype(param.dtype)
            return jnp.sum(jnp.square(jnp.abs(param.astype(dtype) - start.astype(dtype))))

        total = add_up([one(leaf.param, s) for leaf, s in zip(matched.leaves, matched.pick(start), strict=True)])
        return 0.5 * self.strength.astype(total.dtype) * total
