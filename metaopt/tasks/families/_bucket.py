"""Families whose parameters have the same shapes, in one."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._core import AbstractLossTask, AbstractTaskFamily
from .._common import activation_function
from ..data._sources import AbstractSource, Targets
from ..networks._networks import AbstractNetwork, ConvolutionalNetwork, DenseNetwork, Layers
from ._generated import Generated
from ._supervised import Criterion, example_losses


# tanh(h) with h = bx + cx^3 makes all of these: px tanh(h) + q x (1 + tanh(h)) / 2, of which the rectifier is a limit.
# A table of four numbers costs less than a branch for each, which XLA would run all of where tasks are batched.
_FORMS = {
    "tanh": (1.0, 0.0, 1.0, 0.0),
    "silu": (0.0, 0.5, 0.5, 0.0),
    "gelu": (0.0, 0.5, math.sqrt(2 / math.pi), 0.044715 * math.sqrt(2 / math.pi)),
    "relu": (0.0, 0.0, 0.0, 0.0),
}
# Where examples are long sequences or images a step costs in proportion to the batch; then batches may be padded up to
# these sizes, by four at most. Dense networks cost little per example, beside what a learned rule costs per parameter.
_PADDED = (1, 4, 16, 64, 256)


def shape_of(family: Generated) -> tuple[Any, ...]:
    """What families that one program serves have in common."""
    batch = next((size for size in _PADDED if size >= family.batch_size), family.batch_size)
    # Of images, a rectifier costs half of what a smooth activation does.
    kept = () if family.architecture == "convolutional" else ("relu",)
    smooth = family.activation in _FORMS and family.activation != "relu"
    alike = dataclasses.replace(
        family,
        batch_size=1 if family.architecture == "dense" else batch,
        activation="tanh" if smooth or family.activation in kept else family.activation,
        criterion=_criteria(family)[0],
    )
    return tuple(getattr(alike, field.name) for field in dataclasses.fields(alike))


def _criteria(family: Generated) -> tuple[Criterion, ...]:
    """The losses that fit what the network is to predict: class numbers, or vectors."""
    if family.data in ("digit_images", "waves"):
        return ("squared_error", "huber")
    return ("cross_entropy", "squared_error", "huber")


class Bucket(AbstractTaskFamily):
    r"""Generated families whose parameters have the same shapes: one compiled program serves all of them.

    A task is of family $i$ with probability $w_i / \sum_j w_j$, drawn when the task is. Its parameters, its loss and
    its gradients are those of that family: what differs is numbers, which the program reads. Batches are as long as the
    longest one, and rows past the family's own `batch_size` have the weight zero.

    **Arguments:**

    - `families`: [`metaopt.tasks.Generated`][] families that differ in `activation` (out of relu, tanh, gelu and silu),
        `criterion` and `batch_size`.
    - `weights`: $w$; by default all the same.

    **Raises:**

    - `ValueError`: if there is no family, if they differ in anything else, or if the weights are not positive numbers,
        one for each.
    """

    like: Generated = eqx.field(static=True)
    activations: tuple[str, ...] = eqx.field(static=True)
    criteria: tuple[Criterion, ...] = eqx.field(static=True)
    cumulated: Float[Array, " families"]
    activation: Int[Array, " families"]
    criterion: Int[Array, " families"]
    batch_size: Int[Array, " families"]

    def __init__(self, families: tuple[Generated, ...], weights: tuple[float, ...] | None = None):
        if not families:
            raise ValueError("`families` is empty; a bucket needs at least one.")
        weights = (1.0,) * len(families) if weights is None else weights
        if len(weights) != len(families) or not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"`weights` must be {len(families)} positive numbers, but {weights} was given.")
        for family in families:
            if shape_of(family) != shape_of(families[0]):
                raise ValueError(
                    f"Families of one bucket may differ in activation, criterion and batch size, but {families[0]} "
                    f"and {family} differ in what programs depend on. Sort them with "
                    "`metaopt.tasks.generate(..., buckets=True)`, or make a mixture of several buckets."
                )
        self.activations = tuple(sorted({family.activation for family in families}))
        self.criteria = tuple(sorted({family.criterion for family in families}))
        longest = max(family.batch_size for family in families)
        # What is in the table below says nothing here, so that programs can be shared.
        self.like = dataclasses.replace(
            families[0], batch_size=longest, activation=self.activations[0], criterion=self.criteria[0]
        )
        self.cumulated = jnp.asarray(np.cumsum(np.asarray(weights) / sum(weights)), jnp.result_type(float))
        self.activation = jnp.asarray([self.activations.index(family.activation) for family in families])
        self.criterion = jnp.asarray([self.criteria.index(family.criterion) for family in families])
        self.batch_size = jnp.asarray([family.batch_size for family in families])

    @property
    def kind(self) -> str:
        """What kinds of families there are for people to see, such as `dense digits`."""
        return f"{self.like.architecture} {self.like.data}"

    @property
    def label(self) -> str:
        """What people see of it, such as `dense digits 32x1`."""
        return f"{self.kind} {self.like.width}x{self.like.depth}"

    def member(self, index: int) -> Generated:
        """One of the families, by itself."""
        return dataclasses.replace(
            self.like,
            activation=self.activations[int(self.activation[index])],
            criterion=self.criteria[int(self.criterion[index])],
            batch_size=int(self.batch_size[index]),
        )

    def sample(self, *, key: PRNGKeyArray) -> "BucketTask":
        family_key, source_key, scale_key = jr.split(key, 3)
        drawn = jr.uniform(family_key, (), self.cumulated.dtype)
        index = jnp.minimum(jnp.sum(self.cumulated <= drawn), self.cumulated.shape[0] - 1)
        source = self.like.draw_source(key=source_key)
        forms = jnp.asarray([_FORMS.get(name, _FORMS["relu"]) for name in self.activations])
        return BucketTask(
            self.like.network(source),
            source,
            self.like.draw_start_scale(key=scale_key),
            forms[self.activation[index]],
            self.criterion[index],
            self.batch_size[index],
            self.activations,
            self.criteria,
            self.like.batch_size,
        )


class BucketTask(AbstractLossTask):
    r"""A task of one of the families of a [`metaopt.tasks.Bucket`][].

    $$\ell(\theta) = \frac1b \sum_{i \le b} c(f_\theta(x_i), y_i)$$

    as that of a [`metaopt.tasks.SupervisedTask`][], where $b$, $c$ and the $\sigma$ of $f$ are numbers.

    **Arguments:**

    - `network`, `source`, `start_scale`: as there.
    - `form`: four numbers that make $\sigma$.
    - `criterion`: which of `criteria` is $c$.
    - `counted`: $b$.
    - `activations`, `criteria`: what there is to choose from.
    - `batch_size`: how many examples are drawn.
    """

    network: AbstractNetwork
    source: AbstractSource
    start_scale: Float[Array, ""]
    form: Float[Array, "4"]
    criterion: Int[Array, ""]
    counted: Int[Array, ""]
    activations: tuple[str, ...] = eqx.field(static=True)
    criteria: tuple[Criterion, ...] = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def init(self, *, key: PRNGKeyArray) -> Layers:
        return jtu.tree_map(lambda w: w * self.start_scale.astype(w.dtype), self.network.init(key=key))

    def loss(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        losses = self._losses(params, *self.source.batch(self.batch_size, key=key))
        counted = jnp.arange(self.batch_size) < self.counted
        return jnp.sum(jnp.where(counted, losses, 0)) / self.counted.astype(losses.dtype)

    def measure(self, params: Layers, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.mean(self._losses(params, *self.source.measured()))

    def _losses(self, params: Layers, inputs: Float[Array, "n inputs"], targets: Targets) -> Float[Array, " n"]:
        if isinstance(self.network, DenseNetwork | ConvolutionalNetwork):
            outputs = self.network.apply(params, inputs, activation=self._activation())
        else:
            outputs = self.network.apply(params, inputs)
        losses = [example_losses(criterion, outputs, targets) for criterion in self.criteria]
        return losses[0] if len(losses) == 1 else jnp.select([self.criterion == i for i in range(len(losses))], losses)

    def _activation(self) -> Callable[[Array], Array]:
        if len(self.activations) == 1:
            return activation_function(self.activations[0])  # pyright: ignore[reportArgumentType]

        def varied(x: Array) -> Array:
            linear, gate, slope, cubic = self.form.astype(x.dtype)
            bent = jnp.tanh(x * (slope + cubic * x * x))
            smooth = linear * bent + gate * x * (1 + bent)
            return jnp.where(slope > 0, smooth, jax.nn.relu(x)) if "relu" in self.activations else smooth

        return varied
