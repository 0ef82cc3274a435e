"""Classification of a data set, up to a renaming of the classes."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._core import AbstractLossTask
from .._common import check_at_least, cross_entropy, draw_indices, rows
from ..data._dataset import Dataset
from ..networks._networks import AbstractNetwork, Layers


class ClassificationTask(AbstractLossTask):
    r"""Train a network to classify, by minibatches that are drawn with replacement.

    $$\ell(\theta) = \frac1B \sum_{i \in \text{batch}} -\log \mathrm{softmax}(f_\theta(x_i))_{\pi(y_i)}$$

    `measure` is the same mean over the whole data set.

    **Arguments:**

    - `network`: $f$.
    - `data`: a [`metaopt.tasks.Dataset`][] with rows `inputs` and integer `labels` below the number of classes.
    - `permutation`: $\pi$, the new name of each class.
    - `batch_size`: $B$.

    **Raises:**

    - `ValueError`: if the data set has no such arrays, or `batch_size` is below 1.
    """

    network: AbstractNetwork
    data: Dataset = eqx.field(static=True)
    permutation: Int[Array, " classes"]
    batch_size: int = eqx.field(static=True, default=32)

    def __check_init__(self) -> None:
        check_at_least("batch_size", self.batch_size, 1)
        if not {"inputs", "labels"} <= set(self.data):
            raise ValueError(f"The data set must have arrays `inputs` and `labels`, but {self.data!r} was given.")

    def init(self, *, key: PRNGKeyArray) -> Layers:
        return self.network.init(key=key)

    def loss(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        inputs, labels = jnp.asarray(self.data["inputs"]), jnp.asarray(self.data["labels"])
        batch = draw_indices(inputs.shape[0], self.batch_size, key=key)
        logits = self.network.apply(params, rows(inputs, batch))
        return cross_entropy(logits, rows(self.permutation, rows(labels, batch)))

    def measure(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        logits, labels = self._all(params)
        return cross_entropy(logits, labels)

    def accuracy(self, params: Layers) -> Float[Array, ""]:
        """The share of the data set that is classified correctly."""
        logits, labels = self._all(params)
        return jnp.mean(jnp.argmax(logits, axis=1) == labels)

    def _all(self, params: Layers) -> tuple[Float[Array, "n classes"], Int[Array, " n"]]:
        logits = self.network.apply(params, jnp.asarray(self.data["inputs"]))
        return logits, rows(self.permutation, jnp.asarray(self.data["labels"]))


def name_classes(classes: int, permute: bool, *, key: PRNGKeyArray) -> Int[Array, "{classes}"]:
    """A random permutation of the classes, or the identity."""
    numbers = jnp.arange(classes, dtype=jnp.int32)
    if not permute:
        return numbers
    # Ranks of random numbers by comparing all pairs: a few classes are not worth compiling a sort.
    drawn = jr.bits(key, (classes,), jnp.uint32)
    tied = (drawn[None, :] == drawn[:, None]) & (numbers[None, :] < numbers[:, None])
    return jnp.sum((drawn[None, :] < drawn[:, None]) | tied, axis=1, dtype=jnp.int32)
