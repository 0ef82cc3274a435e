"""Steps as long as the distance to a known lowest loss allows."""

from typing import Any, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar, ScalarLike

from .._core import AbstractAlgorithm
from .._core.arrays._numbers import LIMIT, REAL, number
from .._core.arrays._trees import add_up, compute_dtype, match
from ._common import needed, scaled


P = TypeVar("P")


class Polyak(AbstractAlgorithm[Any, Any, Any]):
    r"""Scale the step of an inner algorithm to where the loss would be lowest if it were linear.

    With the proposed step $d_t$ of the inner algorithm,

    $$\theta_{t+1} = \theta_t + \gamma_t d_t, \qquad
      \gamma_t = \mathrm{clip}\left(\frac{f(\theta_t) - f_\ast}{-\langle g_t, d_t \rangle}, 0, \gamma_{\max}\right)$$

    and $\gamma_t = 0$ if $d_t$ does not lead downhill, or the loss is not finite. Around gradient descent with rate 1,
    $d = -g$, this is Polyak's rule, and with the maximum the stochastic one. $f_\ast$ must not be above the lowest
    loss; for networks that can fit their data it is 0.

    ??? cite "Reference"

        ```bibtex
        @book{polyak1987introduction,
          title={Introduction to Optimization},
          author={Polyak, Boris T},
          publisher={Optimization Software}, year={1987}
        }
        @inproceedings{loizou2021stochastic,
          title={Stochastic {Polyak} Step-size for {SGD}: An Adaptive Learning Rate for Fast Convergence},
          author={Loizou, Nicolas and Vaswani, Sharan and Laradji, Issam and Lacoste-Julien, Simon},
          booktitle={AISTATS}, year={2021}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    lowest: Float[Array, ""]
    maximum: Float[Array, ""]

    def __init__(self, inner: AbstractAlgorithm[Any, Any, Any], lowest: ScalarLike = 0.0, maximum: ScalarLike = 10.0):
        r"""**Arguments:**

        - `inner`: the algorithm whose steps are scaled.
        - `lowest`: $f_\ast$, the lowest loss there is, or a bound below it.
        - `maximum`: $\gamma_{\max}$.

        **Raises:**

        - `ValueError`: if `maximum` is not positive.
        """
        REAL.check(lowest=lowest)
        LIMIT.check(maximum=maximum)
        self.inner, self.lowest, self.maximum = inner, number(lowest), number(maximum)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> Any:
        return self.inner.init(params, key=key)

    def step(self, state: Any, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[Any, P]:
        loss = needed("Polyak", value).astype(self.lowest.dtype)
        state, proposed = self.inner.step(state, params, grads, value=value)
        fall = descent(params, proposed, grads).astype(loss.dtype)
        downhill = (fall > 0) & jnp.isfinite(loss)
        ratio = (loss - self.lowest) / jnp.where(downhill, fall, 1)
        return state, scaled(params, proposed, jnp.where(downhill, jnp.clip(ratio, 0, self.maximum), 0))


def descent(params: PyTree, proposed: PyTree, grads: PyTree) -> Float[Array, ""]:
    r"""$-\langle g, d \rangle$, by how much the loss falls along a step to first order."""
    matched = match(params, grads)
    products = []
    for leaf, new in zip(matched.leaves, matched.pick(proposed), strict=True):
        dtype = compute_dtype(leaf.param.dtype)
        step = leaf.param.astype(dtype) - new.astype(dtype)
        products.append(jnp.sum(jnp.real(jnp.conj(leaf.grad.astype(dtype)) * step)))
    return add_up(products)
