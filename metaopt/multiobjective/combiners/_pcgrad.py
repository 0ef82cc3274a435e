"""Gradient surgery."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._core import AbstractAlgorithm
from ..base import AbstractCombiner


def operate(gramian: Float[Array, "m m"], orders: Int[Array, "m m"]) -> Float[Array, " m"]:
    r"""The weights after each gradient $i$ met the others in the order of row $i$."""
    m = gramian.shape[0]

    def meet(weights: Float[Array, " m"], other: Int[Array, ""], own: Int[Array, ""]) -> Float[Array, " m"]:
        product, square = gramian[other] @ weights, gramian[other, other]
        conflict = (product < 0) & (other != own) & (square > 0)
        return weights.at[other].add(jnp.where(conflict, -product / jnp.where(square > 0, square, 1), 0))

    def one(own: Int[Array, ""], order: Int[Array, " m"]) -> Float[Array, " m"]:
        start = jnp.zeros(m, gramian.dtype).at[own].set(1)
        return jax.lax.scan(lambda w, other: (meet(w, other, own), None), start, order)[0]

    return jnp.sum(jax.vmap(one)(jnp.arange(m), orders), axis=0)


class PCGrad(AbstractCombiner):
    r"""Project each gradient off those that it conflicts with, one after the other in random order, and add them up.

    $$g_i \leftarrow g_i - \frac{\min(0, g_i^\top g_j)}{\lVert g_j \rVert^2} g_j, \qquad g = \sum_i g_i$$

    **Arguments:**

    - `inner`: the algorithm that steps on $g$.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{yu2020gradient,
          title={Gradient Surgery for Multi-Task Learning},
          author={Yu, Tianhe and Kumar, Saurabh and Gupta, Abhishek and Levine, Sergey and Hausman, Karol and
                  Finn, Chelsea},
          booktitle={NeurIPS}, year={2020}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]

    @property
    def random(self) -> bool:
        return True

    def weigh(
        self, gramian: Float[Array, "m m"], values: Float[Array, " m"] | None, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " m"]:
        del values
        m = gramian.shape[0]
        keys = jr.split(jr.key(0) if key is None else key, m)
        return operate(gramian, jax.vmap(lambda k: jr.permutation(k, m))(keys))
