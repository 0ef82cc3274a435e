"""The published way from two outputs to a step."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ..._core.arrays._numbers import NONNEGATIVE, number
from ._stateless_head import _AbstractStatelessHead


class PlainHead(_AbstractStatelessHead):
    r"""A direction and the logarithm of a magnitude.

    $$\theta \leftarrow \theta - \lambda_d\, d \exp(\lambda_e e)$$

    ??? cite "Reference"

        ```bibtex
        @inproceedings{metz2019understanding,
          title={Understanding and correcting pathologies in the training of learned optimizers},
          author={Metz, Luke and Maheswaranathan, Niru and Nixon, Jeremy and Freeman, C. Daniel and
                  Sohl-Dickstein, Jascha},
          booktitle={ICML}, year={2019}
        }
        ```
    """

    direction_scale: Float[Array, ""] = eqx.field(converter=number, default=1e-3)
    magnitude_scale: Float[Array, ""] = eqx.field(converter=number, default=1e-3)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(direction_scale=self.direction_scale, magnitude_scale=self.magnitude_scale)

    @property
    def outputs(self) -> int:
        return 2

    def prepare(self, param: Float[Array, "*p"], step: Int[Array, ""]) -> PyTree[Float[Array, "..."]]:
        del step
        return self.direction_scale.astype(param.dtype), self.magnitude_scale.astype(param.dtype)

    @staticmethod
    def finish(
        seen: PyTree[Float[Array, "..."]], param: Float[Array, "*p"], outputs: Sequence[Any]
    ) -> Float[Array, "*p"]:
        direction_scale, magnitude_scale = seen
        direction, magnitude = outputs
        return param - direction * jnp.exp(magnitude * magnitude_scale) * direction_scale
