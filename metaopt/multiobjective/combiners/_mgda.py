"""The shortest convex combination of gradients."""

from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractAlgorithm
from .._orthant import minimize_on_simplex
from ..base import AbstractCombiner
from ._gramian import normalized


class MGDA(AbstractCombiner):
    r"""Multiple-gradient descent: step on the shortest vector in the convex hull of the gradients.

    $$g = J^\top w, \qquad w = \arg\min_{w \ge 0, \, 1^\top w = 1} \lVert J^\top w \rVert^2$$

    No objective grows to first order along $-g$, and $g = 0$ just where the point is Pareto stationary.

    **Arguments:**

    - `inner`: the algorithm that steps on $g$.

    ??? cite "Reference"

        ```bibtex
        @article{desideri2012multiple,
          title={Multiple-gradient descent algorithm ({MGDA}) for multiobjective optimization},
          author={D{\'e}sid{\'e}ri, Jean-Antoine},
          journal={Comptes Rendus Mathematique}, year={2012}
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
        return minimize_on_simplex(normalized(gramian)[0])
