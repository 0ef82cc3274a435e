"""ISTA, all of whose matrices are learned."""

from typing import Any, cast

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from ..._core.arrays._numbers import number
from ..base import AbstractUnfolded
from ..parts._common import positive_log
from ._unfolded import (
    Matrix,
    check_dictionary,
    check_support,
    lipschitz,
    repeated,
)


class _Matrices(eqx.Module):
    memory: Float[Array, "*layers n n"]
    weights: Float[Array, "*layers m n"]


class _Layers(eqx.Module):
    matrices: _Matrices | None
    log_threshold: Float[Array, "*layers"]


class LISTA(AbstractUnfolded):
    r"""ISTA cut off after a few steps, with learned matrices and thresholds.

    $$x_{k+1} = S_{\theta_k}\left(V_k x_k - B_k^\top r_k\right), \qquad r_k = A x_k - b$$

    Since $b = A x_k - r_k$, this is the rule of the paper, $x_{k+1} = S_{\theta_k}(W_1 b + W_2 x_k)$, with
    $W_1 = B^\top$ and $W_2 = V - B^\top A$: what is learned are other coordinates of the same. It begins as
    [`metaopt.l2o.ISTA`][] of the same weight and rate: $V = I$, $B = \rho A$ and $\theta = \rho \lambda$. With $V$ held
    at $I$ it would be [`metaopt.l2o.LISTACP`][]. The signal is the residual, as of
    `metaopt.tasks.SparseCoding(signal="residual")`.

    With `support=(p, q)`, the largest entries, a share of $\min((k + 1) p, q)$ in layer $k$ counted from 0, are not
    shrunk.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{gregor2010learning,
          title={Learning Fast Approximations of Sparse Coding},
          author={Gregor, Karol and LeCun, Yann},
          booktitle={ICML}, year={2010}
        }
        ```
    """

    layers: _Layers
    shared: _Matrices | None
    support: tuple[float, float] | None = eqx.field(static=True)

    def __init__(
        self,
        dictionary: Matrix,
        depth: int = 16,
        weight: float = 0.1,
        rate: float | None = None,
        support: tuple[float, float] | None = None,
        tied: bool = False,
    ):
        r"""**Arguments:**

        - `dictionary`: $A$.
        - `depth`: how many layers.
        - `weight`: $\lambda$, positive.
        - `rate`: $\rho$, positive. By default $1 / \lVert A \rVert^2$.
        - `support`: the share of entries that is not shrunk, per layer and at most. By default all are.
        - `tied`: whether all layers have the same matrices.

        **Raises:**

        - `ValueError`: if a number is not positive, a share is not between 0 and 1, or a column of $A$ is zero or not
            finite.
        """
        matrix = check_dictionary(dictionary)
        rate = 1 / lipschitz(matrix) if rate is None else rate
        matrices = _Matrices(number(np.eye(matrix.shape[1])), number(rate * matrix))
        self.shared = matrices if tied else None
        self.layers = repeated(_Layers(None if tied else matrices, positive_log(rate * weight, "weight")), depth)
        self.support = check_support(support)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._matrices(self.layers).weights.shape[-2:]

    def _matrices(self, own: _Layers) -> _Matrices:
        return cast(_Matrices, self.shared if own.matrices is None else own.matrices)

    def move(self, own: Any, x: Float[Array, " n"], residual: Float[Array, " m"]) -> Float[Array, " n"]:
        matrices = self._matrices(own)
        return matrices.memory.astype(x.dtype) @ x - residual @ matrices.weights.astype(x.dtype)
