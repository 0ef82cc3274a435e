"""Random least squares."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractLossTask, AbstractTaskFamily
from .._common import check_at_least, rotation


class QuadraticsTask(AbstractLossTask):
    r"""Minimize a sum of squares.

    $$f(\theta) = \lVert W \theta - y \rVert^2, \qquad \theta_0 \sim N(0, I)$$

    The minimum is zero. Deterministic; `measure` is the loss. Computed in the dtype of the task.

    **Arguments:**

    - `matrix`: $W$, square and regular.
    - `target`: $y$.
    """

    matrix: Float[Array, "n n"]
    target: Float[Array, " n"]

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        return jr.normal(key, self.target.shape, self.target.dtype)

    def loss(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.sum(jnp.square(self.matrix @ params.astype(self.matrix.dtype) - self.target))

    def measure(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)

    def minimizer(self) -> Float[Array, " n"]:
        r"""$W^{-1} y$, where the loss is zero."""
        return jnp.linalg.solve(self.matrix, self.target)


class Quadratics(AbstractTaskFamily):
    r"""Draw random least-squares problems.

    A task is to minimize $\lVert W \theta - y \rVert^2$. Without `condition`, all entries of $W$ and $y$ are drawn from
    $N(0, 1)$, as in the paper. With it,

    $$W = Q \, \mathrm{diag}(\sqrt{\lambda_1}, \dots, \sqrt{\lambda_n}) \, Q^\top, \qquad
      \lambda_i = \kappa^{-(n - i) / (n - 1)}, \qquad y = W \theta^*, \quad \theta^* \sim N(0, I)$$

    with a random rotation $Q$: the Hessian $2 W^2$ has the condition number $\kappa$, and its eigenvalues, between
    $2 / \kappa$ and $2$, are evenly spread on a logarithmic scale. All tasks share them.

    **Arguments:**

    - `dimension`: $n$.
    - `condition`: $\kappa$.
    - `levels`: how many distinct eigenvalues there are, each $n / \text{levels}$ times; by default all are. Needs
        `condition`.
    - `shared_basis`: let all tasks share one $Q$, so that they differ in $\theta^*$ only. Needs `condition`.

    **Raises:**

    - `ValueError`: if `dimension` is below 1 (below 2 with `condition`), `condition` is below 1 or missing, or
        `levels` is below 2 or does not divide `dimension`.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{andrychowicz2016learning,
            title={Learning to learn by gradient descent by gradient descent},
            author={Andrychowicz, Marcin and Denil, Misha and G{\'o}mez, Sergio and Hoffman, Matthew W. and
                    Pfau, David and Schaul, Tom and Shillingford, Brendan and de Freitas, Nando},
            booktitle={Advances in Neural Information Processing Systems},
            year={2016},
        }
        ```
    """

    dimension: int = eqx.field(static=True, default=10)
    condition: float | None = eqx.field(static=True, default=None)
    shared_basis: bool = eqx.field(static=True, default=False)
    levels: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_at_least("dimension", self.dimension, 1 if self.condition is None else 2)
        if self.condition is not None:
            check_at_least("condition", self.condition, 1)
        elif self.shared_basis:
            raise ValueError(
                "`shared_basis` needs a `condition`, but none was given: a matrix of independent entries has no basis "
                "of its own. Give a `condition`, or leave out `shared_basis`."
            )
        if self.levels is not None and (self.condition is None or self.levels < 2 or self.dimension % self.levels):
            raise ValueError(
                f"`levels={self.levels}` needs a `condition`, and must be at least 2 and divide `dimension`, "
                f"{self.dimension}."
            )

    def sample(self, *, key: PRNGKeyArray) -> QuadraticsTask:
        matrix_key, target_key = jr.split(key)
        target = jr.normal(target_key, (self.dimension,))
        if self.condition is None:
            return QuadraticsTask(jr.normal(matrix_key, (self.dimension, self.dimension)), target)
        basis = rotation(self.dimension, key=jr.key(0) if self.shared_basis else matrix_key)
        levels = self.dimension if self.levels is None else self.levels
        eigenvalues = np.repeat(np.geomspace(1 / self.condition, 1, levels), self.dimension // levels)
        roots = jnp.asarray(np.sqrt(eigenvalues), basis.dtype)
        matrix = (basis * roots[None, :]) @ basis.T
        return QuadraticsTask(matrix, matrix @ target)
