"""Smooth interpolation between solved problems."""

import equinox as eqx
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Bool, Float

from ..._core.arrays._kernels import correlations
from ..._core.arrays._numbers import NONNEGATIVE, number
from ._predictor import AbstractPredictor, Weights


class KernelRidge(AbstractPredictor):
    r"""Predict by kernel ridge regression.

    $$w = (K + \lambda I)^{-1} k_*, \qquad K_{ij} = \exp(-\tfrac12 \lVert z_i - z_j \rVert^2), \qquad
      k_{*i} = \exp(-\tfrac12 \lVert z_i - z_* \rVert^2)$$

    The variance is that of any such sum if the kernel is the correlation between problems:
    $1 - 2 w^\top k_* + w^\top K w$.

    **Arguments:**

    - `ridge`: $\lambda$. Larger ones are for solutions that are not exact, or memories of problems that are nearly the
        same; it also keeps the solution of the linear system stable in single precision.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{saunders1998ridge,
          title={Ridge Regression Learning Algorithm in Dual Variables},
          author={Saunders, Craig and Gammerman, Alexander and Vovk, Volodya},
          booktitle={ICML}, year={1998}
        }
        ```
    """

    ridge: Float[Array, ""] = eqx.field(converter=number, default=1e-5)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(ridge=self.ridge)

    def weigh(
        self, features: Float[Array, "capacity d"], filled: Bool[Array, " capacity"], query: Float[Array, " d"]
    ) -> Weights:
        both = filled[:, None] & filled[None, :]
        kernel = jnp.where(both, correlations(features, features), jnp.eye(features.shape[0], dtype=features.dtype))
        toward = jnp.where(filled, correlations(features, query[None])[:, 0], 0.0)
        ridge = self.ridge.astype(features.dtype)
        factor = jsl.cho_factor(kernel + ridge * jnp.eye(features.shape[0], dtype=features.dtype))
        weights = jsl.cho_solve(factor, toward)
        variance = 1.0 - 2.0 * weights @ toward + weights @ kernel @ weights
        return Weights(weights, jnp.clip(variance, 0.0, 1.0))
