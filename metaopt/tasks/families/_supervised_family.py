"""Any network on the data of generated tasks."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from ..._core import AbstractTaskFamily
from .._common import Split
from ..networks._networks import AbstractNetwork
from ._generated import Data, Generated
from ._supervised import Criterion, SupervisedTask


class Supervised(AbstractTaskFamily):
    r"""Supervised tasks of a network of your choice, on one kind of data.

    What a task is to learn is drawn as that of a [`metaopt.tasks.Generated`][] family with the same options: the names
    of the classes, the function, the scales of inputs and of the first weights.

    ```python
    family = Supervised(ResidualNetwork(side=8, channels=(8, 16), outputs=10), data="digits")
    ```

    **Arguments:**

    - `network`: the network; its inputs and outputs are as many as the data have.
    - `data`, `criterion`, `batch_size`, `condition`, `start_scale`, `split`: as of [`metaopt.tasks.Generated`][].

    **Raises:**

    - `ValueError`: if these do not go together, or the network does not fit the data.
    - `ImportError`: if the data needs a package that is missing.
    """

    network: AbstractNetwork = eqx.field(static=True)
    data: Data = eqx.field(static=True, default="digits")
    criterion: Criterion = eqx.field(static=True, default="cross_entropy")
    batch_size: int = eqx.field(static=True, default=32)
    condition: float = eqx.field(static=True, default=1.0)
    start_scale: float = eqx.field(static=True, default=1.0)
    split: Split = eqx.field(static=True, default="train")

    def __check_init__(self) -> None:
        source = eqx.filter_eval_shape(lambda: self._like().draw_source(key=jr.key(0)))
        name, inputs = type(self.network).__name__, source.inputs
        try:
            params = eqx.filter_eval_shape(lambda: self.network.init(key=jr.key(0)))
            rows = jax.ShapeDtypeStruct((2, inputs), jnp.result_type(float))
            outputs = eqx.filter_eval_shape(self.network.apply, params, rows).shape[-1]
        except Exception as error:
            raise ValueError(
                f"`{name}` cannot read the {inputs} numbers that an example of `data={self.data!r}` has"
                f"{_as_square(inputs)}: {error}"
            ) from error
        if outputs != source.outputs:
            raise ValueError(
                f"`{name}` has {outputs} outputs, but `data={self.data!r}` needs {source.outputs}. Give it as many."
            )

    @property
    def kind(self) -> str:
        """What kinds of families there are for people to see, such as `ResidualNetwork digits`."""
        return f"{type(self.network).__name__} {self.data}"

    @property
    def label(self) -> str:
        """The same."""
        return self.kind

    def _like(self) -> Generated:
        return Generated(
            data=self.data,
            criterion=self.criterion,
            batch_size=self.batch_size,
            condition=self.condition,
            start_scale=self.start_scale,
            split=self.split,
        )

    def sample(self, *, key: PRNGKeyArray) -> SupervisedTask:
        source_key, scale_key = jr.split(key)
        like = self._like()
        source, scale = like.draw_source(key=source_key), like.draw_start_scale(key=scale_key)
        return SupervisedTask(self.network, source, scale, self.criterion, self.batch_size)


def _as_square(inputs: int) -> str:
    side = math.isqrt(inputs)
    return f" (images of {side} x {side} pixels)" if side > 2 and side * side == inputs else ""
