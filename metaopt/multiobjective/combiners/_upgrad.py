"""Unconflicting projections of gradients."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import NONNEGATIVE, number
from .._orthant import minimize_on_orthant
from .._preferences import weights_leaf
from ..base import AbstractCombiner
from ._gramian import normalized, uniform


class UPGrad(AbstractCombiner):
    r"""Step on the sum of the gradients after each is projected onto the cone where no objective grows.

    $$g = \sum_i p_i \, \pi(g_i), \qquad \pi(u) = \arg\min_{v : J v \ge 0} \lVert v - u \rVert^2$$

    Each projection is a combination of gradients whose weights are $\arg\min_{v \ge e_i} v^\top G v$. The Gramian is
    divided by its trace, and a ridge is added.

    **Arguments:**

    - `inner`: the algorithm that steps on $g$.
    - `preference`: $p$; by default all are $1 / m$.
    - `ridge`: what is added to the diagonal.

    ??? cite "Reference"

        ```bibtex
        @article{quinton2024jacobian,
          title={{Jacobian} Descent for Multi-Objective Optimization},
          author={Quinton, Pierre and Rey, Val{\'e}rian},
          journal={arXiv preprint arXiv:2406.16232}, year={2024}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    preference: Float[Array, " m"] | None = eqx.field(converter=weights_leaf, default=None)
    ridge: Float[Array, ""] = eqx.field(converter=number, default=1e-4)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(ridge=self.ridge, preference=self.preference)

    @property
    def random(self) -> bool:
        return False

    def weigh(
        self, gramian: Float[Array, "m m"], values: Float[Array, " m"] | None, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " m"]:
        del values, key
        preference = uniform(gramian, self.preference, "preference")
        eye = jnp.eye(gramian.shape[0], dtype=gramian.dtype)
        ridged = normalized(gramian)[0] + self.ridge.astype(gramian.dtype) * eye
        # With v = e_i + x the bounds are those of the orthant.
        added = jax.vmap(lambda column: minimize_on_orthant(ridged, -column))(ridged)
        return preference @ (eye + added)
