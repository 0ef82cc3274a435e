"""Behavior added by wrapping an inner algorithm."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int, PRNGKeyArray, PyTree, Scalar

from ._algorithm import AbstractAlgorithm
from ._numbers import LIMIT, NONNEGATIVE, number
from ._trees import all_finite, compute_dtype, global_norm, map_arrays, match, select, spoiled


class ClipByGlobalNorm(AbstractAlgorithm[PyTree, PyTree, PyTree]):
    r"""Scale the gradient down to a maximal global norm before the inner algorithm sees it.

    $$g \leftarrow g \cdot \min\left(1, \frac{c}{\lVert g \rVert}\right)$$

    ??? cite "Reference"

        ```bibtex
        @inproceedings{pascanu2013difficulty,
          title={On the difficulty of training recurrent neural networks},
          author={Pascanu, Razvan and Mikolov, Tomas and Bengio, Yoshua},
          booktitle={ICML}, year={2013}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    max_norm: Float[Array, ""] = eqx.field(converter=number, default=1.0)

    def __check_init__(self) -> None:
        LIMIT.check(max_norm=self.max_norm)

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        return self.inner.init(params, key=key)

    def step(
        self, state: PyTree, params: PyTree, grads: PyTree, *, value: Scalar | None = None
    ) -> tuple[PyTree, PyTree]:
        norm = global_norm(grads)
        limit = self.max_norm.astype(norm.dtype)
        # The inner `where` keeps the derivative finite where nothing is clipped.
        scale = jnp.where(norm > limit, limit / jnp.where(norm > limit, norm, 1.0), 1.0)
        clipped = map_arrays(
            lambda g: (g.astype(compute_dtype(g.dtype)) * scale.astype(compute_dtype(g.dtype))).astype(g.dtype), grads
        )
        return self.inner.step(state, params, clipped, value=value)


class WeightDecay(AbstractAlgorithm[PyTree, PyTree, PyTree]):
    r"""Decoupled weight decay around any algorithm.

    $$\theta' = \mathrm{inner}(\theta, g) - \lambda \theta$$

    ??? cite "Reference"

        ```bibtex
        @inproceedings{loshchilov2019decoupled,
          title={Decoupled Weight Decay Regularization},
          author={Loshchilov, Ilya and Hutter, Frank},
          booktitle={ICLR}, year={2019}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    rate: Float[Array, ""] = eqx.field(converter=number, default=1e-4)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(rate=self.rate)

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        return self.inner.init(params, key=key)

    def step(
        self, state: PyTree, params: PyTree, grads: PyTree, *, value: Scalar | None = None
    ) -> tuple[PyTree, PyTree]:
        state, new = self.inner.step(state, params, grads, value=value)
        matched = match(params, grads)

        def decay(proposed: Inexact[Array, "*shape"], param: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
            dtype = compute_dtype(param.dtype)
            return (proposed.astype(dtype) - self.rate.astype(dtype) * param.astype(dtype)).astype(param.dtype)

        pairs = zip(matched.pick(new), matched.leaves, strict=True)
        return state, matched.put(new, [decay(proposed, leaf.param) for proposed, leaf in pairs])


class _SkipState(NamedTuple):
    inner: PyTree
    skipped: Int[Array, ""]


class SkipNonFinite(AbstractAlgorithm[PyTree, PyTree, PyTree]):
    """Leave state and parameters alone when the signal or the proposed step is not finite, and count it.

    The state's `skipped` is the number of steps that were left out so far.
    """

    inner: AbstractAlgorithm[Any, Any, Any]

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> _SkipState:
        return _SkipState(self.inner.init(params, key=key), jnp.zeros((), jnp.int32))

    def step(
        self, state: _SkipState, params: PyTree, grads: PyTree, *, value: Scalar | None = None
    ) -> tuple[_SkipState, PyTree]:
        inner, new = self.inner.step(state.inner, params, grads, value=value)
        good = all_finite(grads) & ~spoiled(params, new)
        skipped = state.skipped + jnp.where(good, 0, 1).astype(jnp.int32)
        return _SkipState(select(good, inner, state.inner), skipped), select(good, new, params)
