"""Learned ISTA whose matrix is not learned but computed."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core.arrays._numbers import number
from ..base import AbstractUnfolded
from ..parts._common import positive_log
from ._unfolded import (
    Matrix,
    check_dictionary,
    check_support,
    least_coherent,
    repeated,
)


class _Layers(eqx.Module):
    log_rate: Float[Array, "*layers"]
    log_threshold: Float[Array, "*layers"]


class ALISTA(AbstractUnfolded):
    r"""Analytic LISTA: only a rate and a threshold per layer are learned.

    $$x_{k+1} = S_{\theta_k}\left(x_k - \gamma_k W^\top r_k\right), \qquad r_k = A x_k - b$$

    where $W$ has the least coherence with $A$, which is known in closed form, column by column:

    $$w_i = \arg\min_w \lVert A^\top w \rVert^2 \;\text{ with }\; a_i^\top w = 1, \qquad
      w_i = \frac{(A A^\top)^+ a_i}{a_i^\top (A A^\top)^+ a_i}$$

    $W$ is a leaf, but not among those that [`metaopt.meta.train_unfolded`][] trains. The signal is the residual, as of
    `metaopt.tasks.SparseCoding(signal="residual")`. For `support` see [`metaopt.l2o.LISTACP`][].

    ??? cite "Reference"

        ```bibtex
        @inproceedings{liu2019alista,
          title={{ALISTA}: Analytic Weights Are As Good As Learned Weights in {LISTA}},
          author={Liu, Jialin and Chen, Xiaohan and Wang, Zhangyang and Yin, Wotao},
          booktitle={ICLR}, year={2019}
        }
        ```
    """

    layers: _Layers
    shared: None
    weights: Float[Array, "m n"]
    support: tuple[float, float] | None = eqx.field(static=True)

    def __init__(
        self,
        dictionary: Matrix,
        depth: int = 16,
        weight: float = 0.1,
        rate: float = 1.0,
        support: tuple[float, float] | None = None,
    ):
        r"""**Arguments:**

        - `dictionary`: $A$.
        - `depth`: how many layers.
        - `weight`: the thresholds begin as `rate * weight`; positive.
        - `rate`: where the rates $\gamma$ begin, positive.
        - `support`: the share of entries that is not shrunk, per layer and at most. By default all are.

        **Raises:**

        - `ValueError`: if a number is not positive, a share is not between 0 and 1, or a column of $A$ is zero or not
            finite.
        """
        matrix = check_dictionary(dictionary)
        self.weights = number(least_coherent(matrix))
        self.shared = None
        own = _Layers(positive_log(rate, "rate"), positive_log(rate * weight, "weight"))
        self.layers = repeated(own, depth)
        self.support = check_support(support)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weights.shape

    def move(self, own: Any, x: Float[Array, " n"], residual: Float[Array, " m"]) -> Float[Array, " n"]:
        return x - jnp.exp(own.log_rate.astype(x.dtype)) * (residual @ self.weights.astype(x.dtype))
