"""Small networks as plain pytrees: tuples of layers with arrays `w` and `b`."""

import abc
import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ._common import Activation, activation_function, check_choice, check_sizes


Layers = tuple[dict[str, Float[Array, "..."]], ...]


class AbstractNetwork(eqx.Module):
    """A function from parameters and inputs to outputs. It has no leaves: the parameters are the task's."""

    @abc.abstractmethod
    def init(self, *, key: PRNGKeyArray) -> Layers:
        r"""Draw weights from $N(0, 1 / \text{fan-in})$ and set biases to zero."""

    @abc.abstractmethod
    def apply(self, params: Layers, inputs: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        """The outputs, computed in the dtype of the parameters."""


class DenseNetwork(AbstractNetwork):
    r"""A multilayer perceptron: $h_{l+1} = \sigma(h_l W_l + b_l)$, without $\sigma$ after the last layer.

    **Arguments:**

    - `sizes`: inputs, hidden units and outputs.
    - `activation`: $\sigma$.
    """

    sizes: tuple[int, ...] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True, default="relu")

    def __check_init__(self) -> None:
        check_sizes("sizes", self.sizes, fewest=2)
        check_choice("activation", self.activation, Activation)

    def init(self, *, key: PRNGKeyArray) -> Layers:
        return draw_layers(list(pairwise(self.sizes)), key=key)

    def apply(self, params: Layers, inputs: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        activation = activation_function(self.activation)
        *hidden, last = params
        values = inputs
        for layer in hidden:
            values = activation(affine(layer, values))
        return affine(last, values)


class ConvolutionalNetwork(AbstractNetwork):
    r"""Convolutions of 3 x 3 pixels with stride 2, each followed by $\sigma$, and one dense layer.

    **Arguments:**

    - `side`: the side of the square one-channel images, which come as flat rows.
    - `channels`: output channels of each convolution. Each halves the side, rounding up.
    - `outputs`: the size of the output.
    - `activation`: $\sigma$.
    """

    side: int = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True, default="relu")

    def __check_init__(self) -> None:
        check_sizes("channels", self.channels, fewest=1)
        check_sizes("(side, outputs)", (self.side, self.outputs))
        check_choice("activation", self.activation, Activation)

    def init(self, *, key: PRNGKeyArray) -> Layers:
        kernels = [(3, 3, *pair) for pair in pairwise((1, *self.channels))]
        side = self.side
        for _ in kernels:
            side = _halved(side)
        return draw_layers([*kernels, (side * side * self.channels[-1], self.outputs)], key=key)

    def apply(self, params: Layers, inputs: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        activation = activation_function(self.activation)
        *hidden, last = params
        values = inputs.reshape(-1, self.side, self.side, 1)
        for layer in hidden:
            values = activation(_convolve(layer, values))
        return affine(last, values.reshape(values.shape[0], -1))


def draw_layers(shapes: Sequence[tuple[int, ...]], *, key: PRNGKeyArray) -> Layers:
    # One draw for all layers, cut up: every random draw is a program of its own to compile.
    sizes = [math.prod(shape) for shape in shapes]
    flat = jr.normal(key, (sum(sizes),))
    layers = []
    for shape, end in zip(shapes, accumulate(sizes), strict=True):
        weights = flat[end - math.prod(shape) : end].reshape(shape)
        bias = jnp.zeros(shape[-1:], weights.dtype)
        layers.append({"b": bias, "w": weights / math.sqrt(math.prod(shape[:-1]))})
    return tuple(layers)


def affine(layer: dict[str, Any], values: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
    return values.astype(layer["w"].dtype) @ layer["w"] + layer["b"][None, :]


def _halved(side: int) -> int:
    return -(-side // 2)


def _convolve(layer: dict[str, Any], images: Float[Array, "n side side inputs"]) -> Float[Array, "n half half outputs"]:
    # A product with the matrix of patches: where every task has a kernel of its own, a batched convolution would be a
    # grouped one, which XLA does not turn into matrix products.
    n, side, _, inputs = images.shape
    half = _halved(side)
    padding = max(2 * (half - 1) + 3 - side, 0)
    around = (padding // 2, padding - padding // 2)
    padded = jnp.pad(images, ((0, 0), around, around, (0, 0)))
    starts = [slice(start, start + 2 * half - 1, 2) for start in range(3)]
    patches = jnp.concatenate([padded[:, down, across] for down in starts for across in starts], axis=-1)
    kernel = {"b": layer["b"], "w": layer["w"].reshape(9 * inputs, -1)}
    return affine(kernel, patches.reshape(n * half * half, 9 * inputs)).reshape(n, half, half, -1)
