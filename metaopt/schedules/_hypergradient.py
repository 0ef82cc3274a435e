"""The step size as a parameter that descends, too."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar, ScalarLike

from .._core import AbstractAlgorithm
from .._core.arrays._numbers import POSITIVE, number
from .._core.arrays._trees import add_up, compute_dtype, global_norm, match, trainable
from ._common import scaled


P = TypeVar("P")


class _HypergradientState(NamedTuple):
    """`direction` is the step that the inner algorithm proposed last."""

    inner: PyTree
    scale: Float[Array, ""]
    direction: PyTree


class Hypergradient(AbstractAlgorithm[_HypergradientState, Any, Any]):
    r"""Scale the steps of an inner algorithm by a number that follows its own gradient.

    With $\theta_{t+1} = \theta_t + s_t d_t$, the derivative of the next loss by $s_t$ is
    $\langle g_{t+1}, d_t \rangle$. The additive rule descends along it, the multiplicative one along its normalized
    form, which needs no knowledge of scales:

    $$s_t = s_{t-1} - \beta \, \langle g_t, d_{t-1} \rangle, \qquad
      s_t = s_{t-1} \left(1 - \beta \, \frac{\langle g_t, d_{t-1} \rangle}
                                            {\lVert g_t \rVert \lVert d_{t-1} \rVert}\right)$$

    with $s_0 = 1$. Around gradient descent and Adam these are the algorithms SGD-HD and Adam-HD of the paper. The state
    holds one step more than that of the inner algorithm.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{baydin2018online,
          title={Online Learning Rate Adaptation with Hypergradient Descent},
          author={Baydin, Atilim Gunes and Cornish, Robert and Martinez Rubio, David
                  and Schmidt, Mark and Wood, Frank},
          booktitle={ICLR}, year={2018}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    rate: Float[Array, ""]
    minimum: Float[Array, ""]
    multiplicative: bool = eqx.field(static=True)

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        rate: ScalarLike = 0.02,
        multiplicative: bool = True,
        minimum: ScalarLike = 1e-4,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm whose steps are scaled.
        - `rate`: $\beta$.
        - `multiplicative`: which of the two rules.
        - `minimum`: below which $s$ does not fall.

        **Raises:**

        - `ValueError`: if `rate` or `minimum` is not positive.
        """
        POSITIVE.check(rate=rate, minimum=minimum)
        self.inner, self.multiplicative = inner, multiplicative
        self.rate, self.minimum = number(rate), number(minimum)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _HypergradientState:
        zeros = trainable(params)
        matched = match(zeros, zeros)
        return _HypergradientState(
            inner=self.inner.init(params, key=key),
            scale=jnp.ones((), self.rate.dtype),
            direction=matched.put(zeros, [_wide(jnp.zeros_like(leaf.param)) for leaf in matched.leaves]),
        )

    def step(
        self, state: _HypergradientState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_HypergradientState, P]:
        inner, proposed = self.inner.step(state.inner, params, grads, value=value)
        matched = match(params, grads)
        before = matched.pick(state.direction)
        products = [
            jnp.sum(jnp.real(jnp.conj(_wide(leaf.grad)) * old))
            for leaf, old in zip(matched.leaves, before, strict=True)
        ]
        slope = add_up(products)
        if self.multiplicative:
            norms = global_norm([leaf.grad for leaf in matched.leaves]) * global_norm(before)
            change = (
                state.scale * slope.astype(self.rate.dtype) / jnp.where(norms > 0, norms, 1).astype(self.rate.dtype)
            )
        else:
            change = slope.astype(self.rate.dtype)
        scale = jnp.maximum(state.scale - self.rate * change, self.minimum)
        steps = [
            _wide(new) - _wide(leaf.param) for leaf, new in zip(matched.leaves, matched.pick(proposed), strict=True)
        ]
        updated = _HypergradientState(inner, scale, matched.put(state.direction, steps))
        return updated, scaled(params, proposed, scale)


def _wide(x: Array) -> Array:
    return x.astype(compute_dtype(x.dtype))
