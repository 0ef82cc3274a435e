"""Learners that stay near where they began."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
from jaxtyping import Array, Float, Inexact, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import NONNEGATIVE, number
from ..._core.arrays._trees import compute_dtype, match, trainable


P = TypeVar("P")


class _DecayToStartState(NamedTuple):
    inner: PyTree
    start: PyTree


class DecayToStart(AbstractAlgorithm[_DecayToStartState, Any, Any]):
    r"""Pull parameters back to where they began, around any algorithm.

    $$\theta' = \mathrm{inner}(\theta, g) - \lambda (\theta - \theta_0)$$

    As the outer algorithm of a learner that begins as Adam ([`metaopt.l2o.AdamHead`][], or one made so by
    [`metaopt.meta.warm_start`][]), this is a regularizer of meta-training: depart from Adam where it pays. Decoupled
    from the gradient, so it means the same with every inner algorithm.

    **Arguments:**

    - `inner`: the algorithm.
    - `rate`: $\lambda$ per step.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{li2018explicit,
          title={Explicit Inductive Bias for Transfer Learning with Convolutional Networks},
          author={Li, Xuhong and Grandvalet, Yves and Davoine, Franck},
          booktitle={ICML}, year={2018}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    rate: Float[Array, ""] = eqx.field(converter=number, default=1e-3)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(rate=self.rate)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _DecayToStartState:
        return _DecayToStartState(self.inner.init(params, key=key), trainable(params))

    def step(
        self, state: _DecayToStartState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_DecayToStartState, P]:
        inner, new = self.inner.step(state.inner, params, grads, value=value)
        matched = match(params, grads)

        def pull(
            new: Inexact[Array, "*shape"], old: Inexact[Array, "*shape"], start: Inexact[Array, "*shape"]
        ) -> Inexact[Array, "*shape"]:
            dtype = compute_dtype(old.dtype)
            back = self.rate.astype(dtype) * (old.astype(dtype) - start.astype(dtype))
            return (new.astype(dtype) - back).astype(old.dtype)

        triples = zip(matched.pick(new), matched.leaves, matched.pick(state.start), strict=True)
        pulled = [pull(proposed, leaf.param, start) for proposed, leaf, start in triples]
        return _DecayToStartState(inner, state.start), matched.put(new, pulled)
