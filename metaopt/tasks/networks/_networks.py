"""Small networks as plain pytrees: tuples of layers with arrays `w` and `b`, and `scale` where they normalize."""

import abc
import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core.arrays._trees import compute_dtype
from .._common import Activation, activation_function, check_choice, check_sizes


Layers = tuple[dict[str, Float[Array, "..."]], ...]
Normalization = Literal["none", "batch", "layer"]


class AbstractNetwork(eqx.Module):
    """A function from parameters and inputs to outputs. It has no leaves: the parameters are the task's."""

    @abc.abstractmethod
    def init(self, *, key: PRNGKeyArray) -> Layers:
        r"""Draw weights from $N(0, 1 / \text{fan-in})$ and set biases to zero."""

    @abc.abstractmethod
    def apply(self, params: Layers, inputs: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        """The outputs, computed in the dtype of the parameters."""


class DenseNetwork(AbstractNetwork):
    r"""A multilayer perceptron: $h_{l+1} = \sigma(N(h_l W_l) \odot g_l + b_l)$, without $\sigma$, $N$ and $g$ in the
    last layer.

    $N$ subtracts a mean and divides by a standard deviation: `"layer"` takes them over the units of each example,
    `"batch"` over the examples of the current batch. There are no running averages: an algorithm sees and adapts every
    number that the output depends on. Without normalization there are neither $N$ nor $g$.

    **Arguments:**

    - `sizes`: inputs, hidden units and outputs.
    - `activation`: $\sigma$.
    - `normalization`: $N$.
    """

    sizes: tuple[int, ...] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True, default="relu")
    normalization: Normalization = eqx.field(static=True, default="none")

    def __check_init__(self) -> None:
        check_sizes("sizes", self.sizes, fewest=2)
        check_choice("activation", self.activation, Activation)
        check_choice("normalization", self.normalization, Normalization)

    def init(self, *, key: PRNGKeyArray) -> Layers:
        return draw_layers(list(pairwise(self.sizes)), scaled=self.normalization != "none", key=key)

    def apply(
        self,
        params: Layers,
        inputs: Float[Array, "n inputs"],
        *,
        counted: int | None = None,
        activation: Callable[[Array], Array] | None = None,
    ) -> Float[Array, "n outputs"]:
        """The outputs.

        Means of the batch are taken over its first `counted` rows, by default over all. An `activation` that is given
        is used in place of the network's own.
        """
        return affine(params[-1], self.features(params, inputs, counted=counted, activation=activation))

    def features(
        self,
        params: Layers,
        inputs: Float[Array, "n inputs"],
        *,
        counted: int | None = None,
        activation: Callable[[Array], Array] | None = None,
    ) -> Float[Array, "n features"]:
        """What the last layer reads."""
        activation = activation_function(self.activation) if activation is None else activation
        values = inputs
        for layer in params[:-1]:
            values = activation(_normalized(layer, values, self.normalization, counted))
        return values.astype(params[-1]["w"].dtype)


class ConvolutionalNetwork(AbstractNetwork):
    r"""Convolutions of 3 x 3 pixels with stride 2, each followed by $\sigma$, and one dense layer.

    Between a convolution and $\sigma$ there may be a normalization, as in [`metaopt.tasks.DenseNetwork`][]: `"layer"`
    over the pixels and channels of each example, `"batch"` over the pixels and examples of the current batch.

    **Arguments:**

    - `side`: the side of the square one-channel images, which come as flat rows.
    - `channels`: output channels of each convolution. Each halves the side, rounding up.
    - `outputs`: the size of the output.
    - `activation`: $\sigma$.
    - `normalization`: whether and how to normalize.
    """

    side: int = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True, default="relu")
    normalization: Normalization = eqx.field(static=True, default="none")

    def __check_init__(self) -> None:
        check_sizes("channels", self.channels, fewest=1)
        check_sizes("(side, outputs)", (self.side, self.outputs))
        check_choice("activation", self.activation, Activation)
        check_choice("normalization", self.normalization, Normalization)

    def init(self, *, key: PRNGKeyArray) -> Layers:
        kernels = [(3, 3, *pair) for pair in pairwise((1, *self.channels))]
        side = self.side
        for _ in kernels:
            side = _halved(side)
        scaled = self.normalization != "none"
        return draw_layers([*kernels, (side * side * self.channels[-1], self.outputs)], scaled=scaled, key=key)

    def apply(
        self,
        params: Layers,
        inputs: Float[Array, "n inputs"],
        *,
        counted: int | None = None,
        activation: Callable[[Array], Array] | None = None,
    ) -> Float[Array, "n outputs"]:
        """The outputs.

        Means of the batch are taken over its first `counted` rows, by default over all. An `activation` that is given
        is used in place of the network's own.
        """
        return affine(params[-1], self.features(params, inputs, counted=counted, activation=activation))

    def features(
        self,
        params: Layers,
        inputs: Float[Array, "n inputs"],
        *,
        counted: int | None = None,
        activation: Callable[[Array], Array] | None = None,
    ) -> Float[Array, "n features"]:
        """What the last layer reads."""
        activation = activation_function(self.activation) if activation is None else activation
        values = inputs.reshape(-1, self.side, self.side, 1)
        for layer in params[:-1]:
            values = activation(_convolve(layer, values, self.normalization, counted))
        return values.reshape(values.shape[0], -1).astype(params[-1]["w"].dtype)


def draw_layers(shapes: Sequence[tuple[int, ...]], *, scaled: bool = False, key: PRNGKeyArray) -> Layers:
    """Draw layers of these shapes; if `scaled`, all but the last have a `scale` of one."""
    # One draw for all layers, cut up: every random draw is a program of its own to compile.
    sizes = [math.prod(shape) for shape in shapes]
    flat = jr.normal(key, (sum(sizes),))
    layers = []
    for shape, end in zip(shapes, accumulate(sizes), strict=True):
        weights = flat[end - math.prod(shape) : end].reshape(shape)
        bias = jnp.zeros(shape[-1:], weights.dtype)
        layers.append({"b": bias, "w": weights / math.sqrt(math.prod(shape[:-1]))})
    if scaled:
        layers[:-1] = [layer | {"scale": jnp.ones_like(layer["b"])} for layer in layers[:-1]]
    return tuple(layers)


def affine(layer: dict[str, Any], values: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
    return values.astype(layer["w"].dtype) @ layer["w"] + layer["b"][None, :]


def _normalized(
    layer: dict[str, Any],
    values: Float[Array, "n inputs"],
    normalization: Normalization,
    counted: int | None,
    rows: int = 1,
) -> Float[Array, "n outputs"]:
    """An affine map, normalized before its bias is added. An example has `rows` rows."""
    if normalization == "none":
        return affine(layer, values)
    values = values.astype(layer["w"].dtype) @ layer["w"]
    wide = values.astype(compute_dtype(values.dtype))
    if normalization == "batch":
        seen, axes = wide[None, : None if counted is None else counted * rows], (1,)
    else:
        wide = wide.reshape(-1, rows, values.shape[-1])
        seen, axes = wide, (1, 2)
    mean = jnp.mean(seen, axis=axes, keepdims=True)
    variance = jnp.mean(jnp.square(seen - mean), axis=axes, keepdims=True)
    normal = ((wide.reshape(-1, *wide.shape[-2:]) - mean) * jax.lax.rsqrt(variance + 1e-5)).astype(values.dtype)
    return normal.reshape(values.shape) * layer["scale"][None, :] + layer["b"][None, :]


def _halved(side: int) -> int:
    return -(-side // 2)


def _convolve(
    layer: dict[str, Any], images: Float[Array, "n side side inputs"], normalization: Normalization, counted: int | None
) -> Float[Array, "n half half outputs"]:
    # A product with the matrix of patches: where every task has a kernel of its own, a batched convolution would be a
    # grouped one, which XLA does not turn into matrix products.
    n, side, _, inputs = images.shape
    half = _halved(side)
    padding = max(2 * (half - 1) + 3 - side, 0)
    around = (padding // 2, padding - padding // 2)
    padded = jnp.pad(images, ((0, 0), around, around, (0, 0)))
    starts = [slice(start, start + 2 * half - 1, 2) for start in range(3)]
    patches = jnp.concatenate([padded[:, down, across] for down in starts for across in starts], axis=-1)
    kernel = layer | {"w": layer["w"].reshape(9 * inputs, -1)}
    flat = patches.reshape(n * half * half, 9 * inputs)
    return _normalized(kernel, flat, normalization, counted, half * half).reshape(n, half, half, -1)
