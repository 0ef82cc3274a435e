"""One output that is the step."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ..._core.arrays._numbers import NONNEGATIVE, number
from ._stateless_head import _AbstractStatelessHead


class LinearHead(_AbstractStatelessHead):
    r"""The output itself, scaled: $\theta \leftarrow \theta + \lambda o$, or $\theta + \lambda \tanh o$ if `bounded`.

    ??? cite "References"

        ```bibtex
        @inproceedings{andrychowicz2016learning,
          title={Learning to learn by gradient descent by gradient descent},
          author={Andrychowicz, Marcin and Denil, Misha and G{\'o}mez, Sergio and Hoffman, Matthew W. and
                  Pfau, David and Schaul, Tom and Shillingford, Brendan and de Freitas, Nando},
          booktitle={NeurIPS}, year={2016}
        }
        @inproceedings{lv2017learning,
          title={Learning Gradient Descent: Better Generalization and Longer Horizons},
          author={Lv, Kaifeng and Jiang, Shunhua and Li, Jian},
          booktitle={ICML}, year={2017}
        }
        ```
    """

    scale: Float[Array, ""] = eqx.field(converter=number, default=0.1)
    bounded: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(scale=self.scale)

    @property
    def outputs(self) -> int:
        return 1

    def prepare(self, param: Float[Array, "*p"], step: Int[Array, ""]) -> PyTree[Float[Array, "..."]]:
        del step
        return _Operands(self.scale.astype(param.dtype), self.bounded)

    @staticmethod
    def finish(
        seen: PyTree[Float[Array, "..."]], param: Float[Array, "*p"], outputs: Sequence[Any]
    ) -> Float[Array, "*p"]:
        (output,) = outputs
        return param + seen.scale * (jnp.tanh(output) if seen.bounded else output)


class _Operands(eqx.Module):
    scale: Float[Array, ""]
    bounded: bool = eqx.field(static=True)
