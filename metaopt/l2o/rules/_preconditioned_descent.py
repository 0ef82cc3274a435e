"""Gradient descent with a learned matrix and learned rates."""

import math
from typing import Any, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import DECAY, POSITIVE, number
from ..parts._common import CellState, finish, init_tensors, match_real, moving, widen


P = TypeVar("P")


class PreconditionedDescent(AbstractAlgorithm[CellState, Any, Any]):
    r"""Gradient descent with a learned preconditioner, and a learned rate and momentum for each step.

    $$\theta_{t+1} = \theta_t - \alpha_t P g_t + \beta_t (\theta_t - \theta_{t-1})$$

    with all parameters as one vector. After the last of the learned steps they start over. What problems of one family
    have in common goes into the learned leaves: the shape of their Hessians into $P$, their spectrum into $\alpha$ and
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
        - `size`: how many parameters there are, if a matrix is to be learned; without it $P$ is the identity, for any
            number of them.
        - `learning_rate`: what all steps begin with; or the first and the last, with a geometric sequence in between.
        - `momentum`: what all steps begin with. The matrix begins as the identity.

        **Raises:**

        - `ValueError`: for a number of steps, a size or a rate that is not positive.
        """
        POSITIVE.check(learning_rate=learning_rate)
        DECAY.check(momentum=momentum)
        if steps < 1 or (size is not None and size < 1):
            raise ValueError(f"`steps` and `size` must be at least 1, but {steps} and {size} were given.")
        first, last = learning_rate if isinstance(learning_rate, tuple) else (learning_rate, learning_rate)
        if not (first > 0 and last > 0):
            raise ValueError(f"`learning_rate` must be positive, but {learning_rate} was given.")
        self.log_rates = jnp.linspace(jnp.log(number(first)), jnp.log(number(last)), steps)
        self.momenta = jnp.full(steps, number(momentum))
        self.matrix = None if size is None else jnp.eye(size)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> CellState:
        del key
        return init_tensors(lambda param: param, params)

    def step(self, state: CellState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[CellState, P]:
        del value
        matched = match_real(params, grads)
        index = state.count % self.log_rates.shape[0]
        pairs = [widen(leaf) for leaf in matched.leaves]
        directions = self._directions([grad for _, grad in pairs])
        new = []
        for (param, _), direction, before in zip(pairs, directions, matched.pick(state.tensors), strict=True):
            rate, momentum = jnp.exp(self.log_rates[index]), self.momenta[index]
            new.append(param - rate.astype(param.dtype) * direction + momentum.astype(param.dtype) * (param - before))
        return finish(state, matched, moving(state, matched), [param for param, _ in pairs], new)

    def _directions(self, grads: list[Float[Array, "..."]]) -> list[Any]:
        if self.matrix is None or not grads:
            return grads
        sizes = [math.prod(grad.shape) for grad in grads]
        if sum(sizes) != self.matrix.shape[0]:
            raise ValueError(
                f"The matrix is for {self.matrix.shape[0]} parameters, but {sum(sizes)} have a gradient. Make a rule "
                f"of `size={sum(sizes)}`."
            )
        flat = jnp.concatenate([grad.ravel().astype(self.matrix.dtype) for grad in grads])
        product, parts, start = self.matrix @ flat, [], 0
        for grad, size in zip(grads, sizes, strict=True):
            parts.append(product[start : start + size].reshape(grad.shape).astype(grad.dtype))
            start += size
        return parts
