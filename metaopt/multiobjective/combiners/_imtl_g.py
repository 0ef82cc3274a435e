"""Impartial multi-task learning."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractAlgorithm
from ..base import AbstractCombiner
from ._gramian import normalized


class IMTLG(AbstractCombiner):
    r"""Step on the combination that has the same projection on all gradients.

    $$g = J^\top w, \qquad w = \frac{G^+ d}{1^\top G^+ d}, \qquad d_i = \lVert g_i \rVert$$

    Weights may be negative. They are zero where $1^\top G^+ d$ is, as for opposite gradients.

    **Arguments:**

    - `inner`: the algorithm that steps on $g$.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{liu2021towards,
          title={Towards Impartial Multi-task Learning},
          author={Liu, Liyang and Li, Yi and Kuang, Zhanghui and Xue, Jing-Hao and Chen, Yimin and Yang, Wenming and
                  Liao, Qingmin and Zhang, Wayne},
          booktitle={ICLR}, year={2021}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]

    @property
    def random(self) -> bool:
        return False

    def weigh(
        self, gramian: Float[Array, "m m"], values: Float[Array, " m"] | None, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " m"]:
        del values, key
        eps = float(jnp.finfo(gramian.dtype).eps)
        matrix = normalized(gramian)[0]
        norms = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), 0))
        solved = jnp.linalg.pinv(matrix, rtol=4 * gramian.shape[0] * eps, hermitian=True) @ norms
        total = jnp.sum(solved)
        balanced = jnp.abs(total) < 1e4 * eps
        return jnp.where(balanced, 0, solved / jnp.where(balanced, 1, total))
