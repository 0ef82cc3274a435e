"""One objective below bounds on the others."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import NONNEGATIVE, REAL, number
from .._preferences import needed
from .._scalarizations import epsilon_constraint
from ..base import AbstractCombiner
from ._gramian import fitting


class EpsilonConstraint(AbstractCombiner):
    r"""Minimize one objective, with a penalty on others that are above their bounds.

    $$s(f) = f_k + \theta \sum_{i \ne k} \max(0, f_i - \epsilon_i)$$

    The penalty is exact: where $\theta$ exceeds the multipliers of the bounds, the minimizer of $s$ is that of $f_k$
    under the bounds. Needs values: the signal is [`metaopt.multiobjective.Gradients`][].

    ??? cite "Reference"

        ```bibtex
        @article{haimes1971bicriterion,
          title={On a Bicriterion Formulation of the Problems of Integrated System Identification and System
                 Optimization},
          author={Haimes, Yacov Y. and Lasdon, Leon S. and Wismer, David A.},
          journal={IEEE Transactions on Systems, Man, and Cybernetics}, year={1971}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    bounds: Float[Array, " m"]
    penalty: Float[Array, ""]
    index: int = eqx.field(static=True)

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        bounds: tuple[float, ...] | Float[Array, " m"],
        *,
        index: int = 0,
        penalty: float | Float[Array, ""] = 10.0,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm that steps on the gradient of $s$.
        - `bounds`: $\epsilon$, one for each objective; that of the minimized one is not read.
        - `index`: $k$.
        - `penalty`: $\theta$.

        **Raises:**

        - `ValueError`: if `index` is not the place of an objective.
        """
        REAL.check(bounds=bounds)
        NONNEGATIVE.check(penalty=penalty)
        self.inner, self.bounds, self.penalty = inner, number(bounds), number(penalty)
        if not 0 <= index < self.bounds.shape[0]:
            raise ValueError(f"`index` must be at least 0 and below {self.bounds.shape[0]}, but {index} was given.")
        self.index = index

    @property
    def random(self) -> bool:
        return False

    def weigh(
        self, gramian: Float[Array, "m m"], values: Float[Array, " m"] | None, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " m"]:
        del key
        values = needed(values, "EpsilonConstraint")
        bounds = fitting(gramian, self.bounds, "bounds")
        return jax.grad(epsilon_constraint)(values, bounds, self.penalty.astype(bounds.dtype), self.index)
