"""A fixed weight for each objective."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import REAL
from .._preferences import weights_leaf
from ..base import AbstractCombiner
from ._gramian import uniform


class WeightedSum(AbstractCombiner):
    r"""Step on a weighted sum of the gradients, $g = \sum_i w_i g_i$.

    Finds points of the convex parts of a Pareto front only.

    **Arguments:**

    - `inner`: the algorithm that steps on the sum.
    - `weights`: $w$; by default all are $1 / m$.
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    weights: Float[Array, " m"] | None = eqx.field(converter=weights_leaf, default=None)

    def __check_init__(self) -> None:
        REAL.check(weights=self.weights)

    @property
    def random(self) -> bool:
        return False

    def weigh(
        self, gramian: Float[Array, "m m"], values: Float[Array, " m"] | None, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " m"]:
        del values, key
        return uniform(gramian, self.weights, "weights")
