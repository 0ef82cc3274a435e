"""Random weights."""

from typing import Any

import jax
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractAlgorithm
from ..base import AbstractCombiner


class RandomWeighting(AbstractCombiner):
    r"""Step on a sum with fresh random weights, $w = \mathrm{softmax}(z)$ with $z \sim N(0, I)$.

    **Arguments:**

    - `inner`: the algorithm that steps on the sum.

    ??? cite "Reference"

        ```bibtex
        @article{lin2022reasonable,
          title={Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning},
          author={Lin, Baijiong and Ye, Feiyang and Zhang, Yu and Tsang, Ivor W.},
          journal={Transactions on Machine Learning Research}, year={2022}
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
        drawn = jr.normal(jr.key(0) if key is None else key, gramian.shape[:1], gramian.dtype)
        return jax.nn.softmax(drawn)
