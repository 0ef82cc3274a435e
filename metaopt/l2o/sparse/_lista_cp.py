"""ISTA with a learned matrix in the place of the transposed dictionary."""

from typing import Any, cast

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
    lipschitz,
    repeated,
)


class _Layers(eqx.Module):
    weights: Float[Array, "*layers m n"] | None
    log_rate: Float[Array, "*layers"]
    log_threshold: Float[Array, "*layers"]


class LISTACP(AbstractUnfolded):
    r"""Learned ISTA with coupled weights, and with support selection if asked for.

    $$x_{k+1} = S_{\theta_k}\left(x_k - \gamma_k W_k^\top r_k\right), \qquad r_k = A x_k - b$$

    The two matrices of [`metaopt.l2o.LISTA`][] must be coupled like this if the layers are to converge to $x^*$. It
    begins as [`metaopt.l2o.ISTA`][]: $W = A$, $\gamma = \rho$ and $\theta = \rho \lambda$. The signal is the residual,
    as of `metaopt.tasks.SparseCoding(signal="residual")`.

    With `support=(p, q)`, the largest entries, a share of $\min((k + 1) p, q)$ in layer $k$ counted from 0, are not
    shrunk, which removes the bias: LISTA-CPSS. The paper takes 0.012 and about 0.13 where a tenth of the entries is
    not zero.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{chen2018theoretical,
          title={Theoretical Linear Convergence of Unfolded {ISTA} and Its Practical Weights and Thresholds},
          author={Chen, Xiaohan and Liu, Jialin and Wang, Zhangyang and Yin, Wotao},
          booktitle={NeurIPS}, year={2018}
        }
        ```
    """

    layers: _Layers
    shared: Float[Array, "m n"] | None
    support: tuple[float, float] | None = eqx.field(static=True)

    def __init__(
        self,
        dictionary: Matrix,
        depth: int = 16,
        weight: float = 0.1,
        rate: float | None = None,
        support: tuple[float, float] | None = None,
        tied: bool = False,
        analytic: bool = False,
    ):
        r"""**Arguments:**

        - `dictionary`: $A$.
        - `depth`: how many layers.
        - `weight`: $\lambda$, positive.
        - `rate`: $\rho$, positive. By default $1 / \lVert A \rVert^2$.
        - `support`: the share of entries that is not shrunk, per layer and at most. By default all are.
        - `tied`: whether all layers have the same $W$.
        - `analytic`: whether $W$ begins as that of [`metaopt.l2o.ALISTA`][] instead of $A$. With `rate=1` that is much
            closer to where training ends.

        **Raises:**

        - `ValueError`: if a number is not positive, a share is not between 0 and 1, or a column of $A$ is zero or not
            finite.
        """
        matrix = check_dictionary(dictionary)
        rate = 1 / lipschitz(matrix) if rate is None else rate
        weights = number(least_coherent(matrix) if analytic else matrix)
        self.shared = weights if tied else None
        own = _Layers(None if tied else weights, positive_log(rate, "rate"), positive_log(rate * weight, "weight"))
        self.layers = repeated(own, depth)
        self.support = check_support(support)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._weights(self.layers).shape[-2:]

    def _weights(self, own: _Layers) -> Array:
        return cast(Array, self.shared if own.weights is None else own.weights)

    def move(self, own: Any, x: Float[Array, " n"], residual: Float[Array, " m"]) -> Float[Array, " n"]:
        return x - jnp.exp(own.log_rate.astype(x.dtype)) * (residual @ self._weights(own).astype(x.dtype))
