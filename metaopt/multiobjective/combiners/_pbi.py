"""Penalty-based boundary intersection."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import NONNEGATIVE, REAL, number
from .._preferences import needed, weights_leaf
from .._scalarizations import boundary_intersection
from ..base import AbstractCombiner
from ._gramian import fitting, uniform


class PBI(AbstractCombiner):
    r"""Step along a direction from an ideal point, and be drawn to that line.

    $$s(f) = d_1 + \theta d_2, \qquad d_1 = (f - z)^\top \hat w, \qquad d_2 = \lVert f - z - d_1 \hat w \rVert, \qquad
      \hat w = w / \lVert w \rVert$$

    Needs values: the signal is [`metaopt.multiobjective.Gradients`][].

    **Arguments:**

    - `inner`: the algorithm that steps on the gradient of $s$.
    - `weights`: $w$; by default all are the same.
    - `ideal`: $z$; by default zero.
    - `penalty`: $\theta$.

    ??? cite "Reference"

        ```bibtex
        @article{zhang2007moead,
          title={{MOEA/D}: A Multiobjective Evolutionary Algorithm Based on Decomposition},
          author={Zhang, Qingfu and Li, Hui},
          journal={IEEE Transactions on Evolutionary Computation}, year={2007}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    weights: Float[Array, " m"] | None = eqx.field(converter=weights_leaf, default=None)
    ideal: Float[Array, " m"] | None = eqx.field(converter=weights_leaf, default=None)
    penalty: Float[Array, ""] = eqx.field(converter=number, default=5.0)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(penalty=self.penalty, weights=self.weights)
        REAL.check(ideal=self.ideal)

    @property
    def random(self) -> bool:
        return False

    def weigh(
        self, gramian: Float[Array, "m m"], values: Float[Array, " m"] | None, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " m"]:
        del key
        values = needed(values, "PBI")
        weights = uniform(gramian, self.weights, "weights")
        ideal = jnp.zeros_like(weights) if self.ideal is None else fitting(gramian, self.ideal, "ideal")
        return jax.grad(boundary_intersection)(values, weights, ideal, self.penalty.astype(weights.dtype))
