"""Accelerated iterative shrinkage-thresholding."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import number
from ..._core.arrays._trees import compute_dtype
from ..parts._common import positive_log
from ._unfolded import Matrix, check_dictionary, lipschitz, read, shrink


class _Momentum(eqx.Module):
    """The iterate before, its residual, and $t$."""

    params: Float[Array, " n"]
    residual: Float[Array, " m"]
    clock: Float[Array, ""]


class FISTA(AbstractAlgorithm[_Momentum, Float[Array, " n"], Float[Array, " m"]]):
    r"""Accelerated proximal gradient descent for
    $\min_x \tfrac12 \lVert A x - b \rVert^2 + \lambda \lVert x \rVert_1$.

    $$t_{k+1} = \frac{1 + \sqrt{1 + 4 t_k^2}}{2}, \qquad \beta_k = \frac{\max(t_k - 1, 0)}{t_{k+1}}, \qquad
      y = x_k + \beta_k (x_k - x_{k-1}), \qquad x_{k+1} = S_{\rho \lambda}\left(y - \rho A^\top (A y - b)\right)$$

    from $t_0 = 0$, so that $t_1 = 1$. The signal is the residual $r_k = A x_k - b$ at the iterate, as for
    [`metaopt.l2o.ISTA`][]; at $y$ it is $r_k + \beta_k (r_k - r_{k-1})$.

    ??? cite "Reference"

        ```bibtex
        @article{beck2009fast,
          title={A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems},
          author={Beck, Amir and Teboulle, Marc},
          journal={SIAM Journal on Imaging Sciences}, volume={2}, number={1}, year={2009}
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
        - `rate`: $\rho$, positive. By default $1 / \lVert A \rVert^2$.

        **Raises:**

        - `ValueError`: if a number is not positive, or a column of $A$ is zero or not finite.
        """
        matrix = check_dictionary(dictionary)
        self.dictionary = number(matrix)
        self.log_weight = positive_log(weight, "weight")
        self.log_rate = positive_log(1 / lipschitz(matrix) if rate is None else rate, "rate")

    def init(self, params: Float[Array, " n"], *, key: PRNGKeyArray | None = None) -> _Momentum:
        del key
        dtype = compute_dtype(params.dtype)
        return _Momentum(params.astype(dtype), jnp.zeros(self.dictionary.shape[0], dtype), jnp.zeros((), dtype))

    def step(
        self,
        state: _Momentum,
        params: Float[Array, " n"],
        grads: Float[Array, " m"],
        *,
        value: Scalar | None = None,
    ) -> tuple[_Momentum, Float[Array, " n"]]:
        del value
        x, residual = read(params, grads, self.dictionary.shape)
        rate, weight = (jnp.exp(leaf.astype(x.dtype)) for leaf in (self.log_rate, self.log_weight))
        clock = (1 + jnp.sqrt(1 + 4 * jnp.square(state.clock))) / 2
        momentum = jnp.maximum(state.clock - 1, 0) / clock
        ahead = x + momentum * (x - state.params)
        residual_ahead = residual + momentum * (residual - state.residual)
        new = shrink(ahead - rate * (residual_ahead @ self.dictionary.astype(x.dtype)), rate * weight)
        return _Momentum(x, residual, clock), new.astype(params.dtype)
