"""Gradient descent with a rate for each parameter."""

from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import REAL
from ..._core.arrays._trees import compute_dtype, is_none, match, trainable


P = TypeVar("P")


def _rates(tree: Any) -> PyTree:
    return jtu.tree_map(lambda x: x if eqx.is_array(x) else jnp.asarray(x, jnp.result_type(float)), tree)


class PerParameterSGD(AbstractAlgorithm[None, Any, Any]):
    r"""Gradient descent whose rates are leaves to be learned: one for each parameter, tensor, or all.

    $$\theta \leftarrow \theta - \alpha \odot g$$

    **Arguments:**

    - `rates`: $\alpha$, a prefix of the parameters: a number for all, or the structure of the parameters with numbers
        or arrays in it. See `like`.

    ??? cite "Reference"

        ```bibtex
        @article{li2017meta,
          title={Meta-{SGD}: Learning to Learn Quickly for Few-Shot Learning},
          author={Li, Zhenguo and Zhou, Fengwei and Chen, Fei and Li, Hang},
          journal={arXiv:1707.09835}, year={2017}
        }
        ```
    """

    rates: float | PyTree = eqx.field(converter=_rates, default=0.01)

    def __check_init__(self) -> None:
        REAL.check(rates=self.rates)

    @staticmethod
    def like(params: PyTree, rate: float = 0.01) -> "PerParameterSGD":
        """One rate for each parameter, all alike to begin with."""
        return PerParameterSGD(
            jtu.tree_map(lambda p: jnp.full(p.shape, rate, compute_dtype(p.dtype)), trainable(params))
        )

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> None:
        del params, key

    def step(self, state: None, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[None, P]:
        del value
        matched = match(params, grads)

        def spread(rate: Any, part: PyTree) -> PyTree:
            return jtu.tree_map(lambda _: rate, part, is_leaf=is_none)

        full = jtu.tree_map(spread, self.rates, params, is_leaf=is_none)
        new = []
        for leaf, rate in zip(matched.leaves, matched.pick(full), strict=True):
            dtype = compute_dtype(leaf.param.dtype)
            stepped = leaf.param.astype(dtype) - rate.astype(jnp.finfo(dtype).dtype) * leaf.grad.astype(dtype)
            new.append(stepped.astype(leaf.param.dtype))
        return state, matched.rebuild(new)
