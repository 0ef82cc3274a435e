"""The largest of the weighted objectives."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import NONNEGATIVE, POSITIVE, REAL, number
from .._preferences import needed, weights_leaf
from .._scalarizations import chebyshev
from ..base import AbstractCombiner
from ._gramian import fitting, uniform


class Chebyshev(AbstractCombiner):
    r"""Step on the gradient of the largest of the weighted distances from an ideal point.

    $$s(f) = \max_i v_i + \rho \sum_i v_i, \qquad v_i = w_i (f_i - z_i)$$

    or, where a smoothing $\mu$ is given, with $\mu \log \sum_i e^{v_i / \mu}$ for the maximum. Unlike a weighted sum it
    finds points of fronts that are not convex. The augmentation $\rho$ leads away from points that are only weakly
    optimal. Needs values: the signal is [`metaopt.multiobjective.Gradients`][].

    ??? cite "Reference"

        ```bibtex
        @inproceedings{lin2024smooth,
          title={Smooth {Tchebycheff} Scalarization for Multi-Objective Optimization},
          author={Lin, Xi and Zhang, Xiaoyuan and Yang, Zhiyuan and Liu, Fei and Wang, Zhenkun and Zhang, Qingfu},
          booktitle={ICML}, year={2024}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    weights: Float[Array, " m"] | None
    ideal: Float[Array, " m"] | None
    augmentation: Float[Array, ""]
    smoothing: Float[Array, ""] | None

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        weights: tuple[float, ...] | Float[Array, " m"] | None = None,
        *,
        ideal: tuple[float, ...] | Float[Array, " m"] | None = None,
        augmentation: float | Float[Array, ""] = 0.0,
        smoothing: float | Float[Array, ""] | None = None,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm that steps on the gradient of $s$.
        - `weights`: $w$; by default all are $1 / m$.
        - `ideal`: $z$, which should be below all values; by default zero.
        - `augmentation`: $\rho$.
        - `smoothing`: $\mu$, if the maximum shall be smooth.

        **Raises:**

        - `ValueError`: if `smoothing` is not positive.
        """
        NONNEGATIVE.check(augmentation=augmentation, weights=weights)
        REAL.check(ideal=ideal)
        POSITIVE.check(smoothing=smoothing)
        if isinstance(smoothing, int | float) and not smoothing > 0:
            raise ValueError(
                f"`smoothing` must be positive, but {smoothing} was given. Leave it out for a plain maximum."
            )
        self.inner = inner
        self.weights, self.ideal = weights_leaf(weights), weights_leaf(ideal)
        self.augmentation = number(augmentation)
        self.smoothing = None if smoothing is None else number(smoothing)

    @property
    def random(self) -> bool:
        return False

    def weigh(
        self, gramian: Float[Array, "m m"], values: Float[Array, " m"] | None, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " m"]:
        del key
        values = needed(values, "Chebyshev")
        weights = uniform(gramian, self.weights, "weights")
        ideal = jnp.zeros_like(weights) if self.ideal is None else fitting(gramian, self.ideal, "ideal")
        augmentation = self.augmentation.astype(weights.dtype)
        smoothing = None if self.smoothing is None else self.smoothing.astype(weights.dtype)
        return jax.grad(chebyshev)(values, weights, ideal, augmentation, smoothing)
