"""Gradient descent with a learned matrix and learned rates."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, Scalar

from .._core import AbstractAlgorithm
from ._common import number


class _State(eqx.Module):
    step: Int[Array, ""]
    previous: Float[Array, " n"]


class PreconditionedDescent(AbstractAlgorithm[_State, Float[Array, " n"], Float[Array, " n"]]):
    r"""Gradient descent with a learned preconditioner and a learned rate and momentum for each step.

    $$\theta_{t+1} = \theta_t - \alpha_t P g_t + \beta_t (\theta_t - \theta_{t-1})$$

    for one vector of parameters. After the last of the learned steps they start over. What problems of one family have
    in common goes into the learned leaves: the shape of their Hessians into $P$, and their spectrum into $\alpha$ and
    $\beta$. If all Hessians have the eigenvalues $\lambda_1, \dots, \lambda_K$, the rates $1 / \lambda_k$ end at the
    minimum after $K$ steps, whatever the eigenvectors are.

    The learned leaves are $\log \alpha$, $\beta$ and $P$.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{park2019meta,
          title={Meta-Curvature},
          author={Park, Eunbyung and Oliva, Junier B.},
          booktitle={NeurIPS}, year={2019}
        }
        ```
    """

    log_rates: Float[Array, " steps"]
    momenta: Float[Array, " steps"]
    matrix: Float[Array, "n n"] | None

    def __init__(
        self,
        steps: int = 10,
        *,
        size: int | None = None,
        learning_rate: float | tuple[float, float] = 0.1,
        momentum: float = 0.0,
    ):
        """**Arguments:**

        - `steps`: how many rates there are.
        - `size`: of the vector, if a matrix is to be learned; without it $P$ is the identity, for vectors of any size.
        - `learning_rate`: what all steps begin with; or the first and the last, with a geometric sequence in between.
        - `momentum`: what all steps begin with. The matrix begins as the identity.

        **Raises:**

        - `ValueError`: for a number of steps, a size or a rate that is not positive.
        """
        if steps < 1 or (size is not None and size < 1):
            raise ValueError(f"`steps` and `size` must be at least 1, but {steps} and {size} were given.")
        first, last = learning_rate if isinstance(learning_rate, tuple) else (learning_rate, learning_rate)
        if not (first > 0 and last > 0):
            raise ValueError(f"`learning_rate` must be positive, but {learning_rate} was given.")
        self.log_rates = jnp.linspace(jnp.log(number(first)), jnp.log(number(last)), steps)
        self.momenta = jnp.full(steps, number(momentum))
        self.matrix = None if size is None else jnp.eye(size)

    def init(self, params: Float[Array, " n"], *, key: PRNGKeyArray | None = None) -> _State:
        del key
        if self.matrix is not None and params.shape[0] != self.matrix.shape[0]:
            raise ValueError(
                f"The matrix is for {self.matrix.shape[0]} parameters, but there are {params.shape[0]}. Make a rule of "
                f"`size={params.shape[0]}`."
            )
        return _State(jnp.zeros((), jnp.int32), params)

    def step(
        self,
        state: _State,
        params: Float[Array, " n"],
        grads: Float[Array, " n"],
        *,
        value: Scalar | None = None,
    ) -> tuple[_State, Float[Array, " n"]]:
        del value
        index = state.step % self.log_rates.shape[0]
        direction = grads if self.matrix is None else self.matrix.astype(params.dtype) @ grads
        rate, momentum = jnp.exp(self.log_rates[index]), self.momenta[index]
        new = params - rate.astype(params.dtype) * direction + momentum.astype(params.dtype) * (params - state.previous)
        return _State(state.step + 1, params), new
