"""Iterative shrinkage-thresholding."""

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import number
from ..parts._common import positive_log
from ._unfolded import Matrix, check_dictionary, lipschitz, read, shrink


class ISTA(AbstractAlgorithm[None, Float[Array, " n"], Float[Array, " m"]]):
    r"""Proximal gradient descent for $\min_x \tfrac12 \lVert A x - b \rVert^2 + \lambda \lVert x \rVert_1$.

    $$x \leftarrow S_{\rho \lambda}\left(x - \rho A^\top r\right), \qquad r = A x - b, \qquad
      S_\theta(x) = \mathrm{sign}(x) \max(|x| - \theta, 0)$$

    The signal is the residual $r$, as of `metaopt.tasks.SparseCoding(signal="residual")`. The leaves are $A$,
    $\log \lambda$ and $\log \rho$.

    ??? cite "Reference"

        ```bibtex
        @article{daubechies2004iterative,
          title={An iterative thresholding algorithm for linear inverse problems with a sparsity constraint},
          author={Daubechies, Ingrid and Defrise, Michel and De Mol, Christine},
          journal={Communications on Pure and Applied Mathematics}, volume={57}, number={11}, year={2004}
        }
        ```
    """

    dictionary: Float[Array, "m n"]
    log_weight: Float[Array, ""]
    log_rate: Float[Array, ""]

    def __init__(self, dictionary: Matrix, weight: float = 0.1, rate: float | None = None):
        r"""**Arguments:**

        - `dictionary`: $A$.
        - `weight`: $\lambda$, positive.
        - `rate`: $\rho$, positive. By default $1 / \lVert A \rVert^2$, the largest for which descent is certain.

        **Raises:**

        - `ValueError`: if a number is not positive, or a column of $A$ is zero or not finite.
        """
        matrix = check_dictionary(dictionary)
        self.dictionary = number(matrix)
        self.log_weight = positive_log(weight, "weight")
        self.log_rate = positive_log(1 / lipschitz(matrix) if rate is None else rate, "rate")

    def init(self, params: Float[Array, " n"], *, key: PRNGKeyArray | None = None) -> None:
        del params, key

    def step(
        self,
        state: None,
        params: Float[Array, " n"],
        grads: Float[Array, " m"],
        *,
        value: Scalar | None = None,
    ) -> tuple[None, Float[Array, " n"]]:
        del value
        x, residual = read(params, grads, self.dictionary.shape)
        rate, weight = (jnp.exp(leaf.astype(x.dtype)) for leaf in (self.log_rate, self.log_weight))
        new = shrink(x - rate * (residual @ self.dictionary.astype(x.dtype)), rate * weight)
        return state, new.astype(params.dtype)
