"""Any network on any source of examples."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractLossTask
from ..._core.arrays._trees import compute_dtype
from .._common import check_at_least, check_choice, cross_entropies
from ..data._sources import AbstractSource, Targets
from ..networks._networks import AbstractNetwork, Layers


Criterion = Literal["cross_entropy", "squared_error", "huber"]


class SupervisedTask(AbstractLossTask):
    r"""Train a network on minibatches of a source of examples.

    $$\ell(\theta) = \frac1B \sum_{i \in \text{batch}} c(f_\theta(x_i), y_i)$$

    where $c$ is the cross-entropy (for class numbers), the mean square of the errors, or Huber's function of them. A
    class number is a vector with a one to the latter two. `measure` is the same mean over the source's fixed examples.

    **Arguments:**

    - `network`: $f$.
    - `source`: the examples.
    - `criterion`: $c$.
    - `batch_size`: $B$.
    - `start_scale`: a factor of the weights that the network draws.

    **Raises:**

    - `ValueError`: if `batch_size` is below 1, or vectors shall be classified.
    """

    network: AbstractNetwork
    source: AbstractSource
    start_scale: Float[Array, ""]
    criterion: Criterion = eqx.field(static=True, default="cross_entropy")
    batch_size: int = eqx.field(static=True, default=32)

    def __check_init__(self) -> None:
        check_at_least("batch_size", self.batch_size, 1)
        check_choice("criterion", self.criterion, Criterion)

    def init(self, *, key: PRNGKeyArray) -> Layers:
        return jtu.tree_map(lambda w: w * self.start_scale.astype(w.dtype), self.network.init(key=key))

    def loss(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self._error(params, *self.source.batch(self.batch_size, key=key))

    def measure(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return self._error(params, *self.source.measured())

    def _error(self, params: Layers, inputs: Float[Array, "n inputs"], targets: Targets) -> Float[Array, ""]:
        return jnp.mean(example_losses(self.criterion, self.network.apply(params, inputs), targets))


def example_losses(criterion: Criterion, outputs: Float[Array, "n outputs"], targets: Targets) -> Float[Array, " n"]:
    """The loss of each example, in at least 32 bits."""
    labels = jnp.issubdtype(targets.dtype, jnp.integer)
    if criterion == "cross_entropy":
        if not labels:
            raise ValueError("`cross_entropy` needs class numbers, but the source has vectors as targets.")
        return cross_entropies(outputs, targets)
    wanted = jax.nn.one_hot(targets, outputs.shape[1], dtype=outputs.dtype) if labels else targets
    errors = (outputs - wanted.astype(outputs.dtype)).astype(compute_dtype(outputs.dtype))
    if criterion == "squared_error":
        return jnp.mean(jnp.square(errors), axis=1)
    small = jnp.clip(jnp.abs(errors), 0, 1)
    return jnp.mean(small * (jnp.abs(errors) - 0.5 * small), axis=1)
