"""Exponential decay of the step size."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, ScalarLike

from .._core import AbstractAlgorithm
from .._core.arrays._numbers import COUNT, FRACTION, POSITIVE, number
from .._core.arrays._trees import compute_dtype
from ._common import count
from .base import AbstractSchedule


class Exponential(AbstractSchedule):
    r"""Scale the steps of an inner algorithm down exponentially.

    $$\phi(t) = \max\left(\rho, \, d^{\, t / T}\right)$$

    or, in stairs, with $\lfloor t / T \rfloor$ instead of $t / T$: then step $T$ is the first that is scaled down.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{li2020exponential,
          title={An Exponential Learning Rate Schedule for Deep Learning},
          author={Li, Zhiyuan and Arora, Sanjeev},
          booktitle={ICLR}, year={2020}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    decay: Float[Array, ""]
    period: Int[Array, ""]
    minimum: Float[Array, ""]
    stairs: bool = eqx.field(static=True)

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        decay: ScalarLike = 0.5,
        period: ScalarLike = 100,
        minimum: ScalarLike = 0.0,
        stairs: bool = False,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm whose steps are scaled.
        - `decay`: $d$, by what the factor is multiplied in each period.
        - `period`: $T$, in steps.
        - `minimum`: $\rho$, below which the factor does not fall.
        - `stairs`: whether the factor falls at the end of each period only.

        **Raises:**

        - `ValueError`: if `decay` is not positive, `period` is below 1 or `minimum` is not between 0 and 1.
        """
        POSITIVE.check(decay=decay)
        COUNT.check(period=period)
        FRACTION.check(minimum=minimum)
        self.inner, self.stairs = inner, stairs
        self.decay, self.period, self.minimum = number(decay), count(period), number(minimum)

    def factor(self, clock: Int[Array, ""]) -> Float[Array, ""]:
        dtype = compute_dtype(self.decay.dtype)
        if self.stairs:
            periods = (clock // self.period).astype(dtype)
        else:
            periods = clock.astype(dtype) / self.period.astype(dtype)
        return jnp.maximum(self.decay.astype(dtype) ** periods, self.minimum.astype(dtype))
