"""Networks for small images, as published ones are built: residual convolutions, transformers on patches, mixers."""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core.arrays._trees import compute_dtype
from .._common import Activation, activation_function, check_choice, check_sizes
from ._networks import AbstractNetwork, Layers, affine, draw_layers
from ._sequence_networks import attend


KernelLayout = Literal["HWIO", "OIHW"]


class VisionTransformer(AbstractNetwork):
    r"""A transformer on the patches of an image.

    Each patch of $p \times p$ pixels is a token, $h = x W_e + b_e + \mathrm{position}$. With $N$ a layer normalization
    with gains and biases, each block is

    $$h \leftarrow h + \mathrm{attention}(N_1(h) W_{qkv} + b_{qkv}) W_o + b_o, \qquad
      h \leftarrow h + W_2 \, \mathrm{gelu}(W_1 N_2(h) + b_1) + b_2$$

    where every token sees all others, and the output is an affine map of the mean of $N_0(h)$ over tokens.

    **Arguments:**

    - `side`: the side of the square one-channel images, which come as flat rows; a multiple of `patch`.
    - `patch`: $p$.
    - `width`: of a token; a multiple of `heads`.
    - `blocks`: how many there are.
    - `outputs`: the size of the output.
    - `heads`: of attention.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{dosovitskiy2021image,
          title={An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale},
          author={Dosovitskiy, Alexey and others}, booktitle={ICLR}, year={2021}
        }
        ```

    **Raises:**

    - `ValueError`: if a size is not positive, or these do not divide each other.
    """

    side: int = eqx.field(static=True)
    patch: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    blocks: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    heads: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        sizes = (self.side, self.patch, self.width, self.blocks, self.outputs, self.heads)
        check_sizes("(side, patch, width, blocks, outputs, heads)", sizes)
        _check_patches(self.side, self.patch)
        if self.width % self.heads:
            raise ValueError(f"`width` must be a multiple of `heads`, but {self.width} and {self.heads} were given.")

    def init(self, *, key: PRNGKeyArray) -> Layers:
        w = self.width
        block = [(w, 3 * w), (w, w), (w, 2 * w), (2 * w, w)]
        layers = draw_layers([(self.patch**2, w), *block * self.blocks, (w, self.outputs)], key=key)
        embedding, *rest = layers
        tokens = (self.side // self.patch) ** 2
        embedding = {**embedding, "positions": jnp.zeros((tokens, w), embedding["w"].dtype)}
        # Normalized is what the first and the third layer of a block read, and the readout.
        for index in [*(4 * i + j for i in range(self.blocks) for j in (0, 2)), len(rest) - 1]:
            rest[index] = rest[index] | _fresh_norm(w, rest[index]["w"].dtype)
        return (embedding, *rest)

    def apply(self, params: Layers, inputs: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        embedding, *blocks, readout = params
        h = _each(embedding, _patches(inputs, self.side, self.patch)) + embedding["positions"][None]
        for index in range(self.blocks):
            qkv, out, widen, narrow = blocks[4 * index : 4 * index + 4]
            h = h + _each(out, attend(_each(qkv, _norm(qkv, h)), self.heads, causal=False))
            h = h + _each(narrow, jax.nn.gelu(_each(widen, _norm(widen, h))))
        return affine(readout, jnp.mean(_norm(readout, h), axis=1))


class MLPMixer(AbstractNetwork):
    r"""Multilayer perceptrons over the patches of an image, and over the numbers of each patch.

    With tokens $h$ as in [`metaopt.tasks.VisionTransformer`][], without positions, each block is

    $$h \leftarrow h + \big(W_2 \, \mathrm{gelu}(W_1 N_1(h)^\top)\big)^\top, \qquad
      h \leftarrow h + W_4 \, \mathrm{gelu}(W_3 N_2(h))$$

    with biases, and the output is an affine map of the mean of $N_0(h)$ over tokens.

    **Arguments:**

    - `side`, `patch`, `width`, `blocks`, `outputs`: as there.
    - `hidden`: the units between $W_1$ and $W_2$, and twice as many between $W_3$ and $W_4$.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{tolstikhin2021mixer,
          title={{MLP-Mixer}: An all-{MLP} Architecture for Vision},
          author={Tolstikhin, Ilya O. and others}, booktitle={NeurIPS}, year={2021}
        }
        ```

    **Raises:**

    - `ValueError`: if a size is not positive, or `patch` does not divide `side`.
    """

    side: int = eqx.field(static=True)
    patch: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    hidden: int = eqx.field(static=True)
    blocks: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        sizes = (self.side, self.patch, self.width, self.hidden, self.blocks, self.outputs)
        check_sizes("(side, patch, width, hidden, blocks, outputs)", sizes)
        _check_patches(self.side, self.patch)

    def init(self, *, key: PRNGKeyArray) -> Layers:
        w, tokens = self.width, (self.side // self.patch) ** 2
        block = [(tokens, self.hidden), (self.hidden, tokens), (w, 2 * self.hidden), (2 * self.hidden, w)]
        layers = draw_layers([(self.patch**2, w), *block * self.blocks, (w, self.outputs)], key=key)
        embedding, *rest = layers
        for index in [*(4 * i + j for i in range(self.blocks) for j in (0, 2)), len(rest) - 1]:
            rest[index] = rest[index] | _fresh_norm(w, rest[index]["w"].dtype)
        return (embedding, *rest)

    def apply(self, params: Layers, inputs: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        embedding, *blocks, readout = params
        h = _each(embedding, _patches(inputs, self.side, self.patch))
        for index in range(self.blocks):
            first, second, widen, narrow = blocks[4 * index : 4 * index + 4]
            across = jnp.swapaxes(_norm(first, h), 1, 2)
            h = h + jnp.swapaxes(_each(second, jax.nn.gelu(_each(first, across))), 1, 2)
            h = h + _each(narrow, jax.nn.gelu(_each(widen, _norm(widen, h))))
        return affine(readout, jnp.mean(_norm(readout, h), axis=1))


class ResidualNetwork(AbstractNetwork):
    r"""Residual blocks of convolutions with 3 x 3 pixels.

    A convolution to $c_1$ channels, then for each $c_i$ a block

    $$h \leftarrow \sigma\big(S h + N_2(K_2 * \sigma(N_1(K_1 * h)))\big)$$

    where $K_1$ has stride 2 from the second block on, $S$ is the identity, or a product with a matrix of every second
    pixel where channels or pixels change, and $N$ is a normalization over the pixels and channels of each example, with
    a gain and a bias per channel. The output is an affine map of the mean over pixels.

    **Arguments:**

    - `side`: the side of the square one-channel images, which come as flat rows.
    - `channels`: $c_1, c_2, \dots$
    - `outputs`: the size of the output.
    - `activation`: $\sigma$.
    - `layout`: the order of a kernel's axes, `"HWIO"` as in JAX and TensorFlow, or `"OIHW"` as in PyTorch. The function
        is the same; a rule that looks at axes sees other ones.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{he2016deep,
          title={Deep Residual Learning for Image Recognition},
          author={He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian},
          booktitle={CVPR}, year={2016}
        }
        ```

    **Raises:**

    - `ValueError`: if a size is not positive, or an option is not known.
    """

    side: int = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True, default="relu")
    layout: KernelLayout = eqx.field(static=True, default="HWIO")

    def __check_init__(self) -> None:
        check_sizes("channels", self.channels, fewest=1)
        check_sizes("(side, outputs)", (self.side, self.outputs))
        check_choice("activation", self.activation, Activation)
        check_choice("layout", self.layout, KernelLayout)

    def init(self, *, key: PRNGKeyArray) -> Layers:
        shapes: list[tuple[int, ...]] = [(3, 3, 1, self.channels[0])]
        before = self.channels[0]
        for index, channels in enumerate(self.channels):
            shapes += [(3, 3, before, channels), (3, 3, channels, channels)]
            if index:
                shapes.append((before, channels))
            before = channels
        *drawn, readout = draw_layers([*shapes, (before, self.outputs)], key=key)
        layers = []
        for layer in drawn:
            if layer["w"].ndim == 2:
                layers.append({"w": layer["w"]})
                continue
            kernel = layer["w"] if self.layout == "HWIO" else jnp.transpose(layer["w"], (3, 2, 0, 1))
            layers.append({"w": kernel} | _fresh_norm(layer["w"].shape[-1], kernel.dtype))
        return (*layers, readout)

    def apply(self, params: Layers, inputs: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        activation = activation_function(self.activation)
        stem, *rest, readout = params
        h = activation(self._convolve(stem, inputs.reshape(-1, self.side, self.side, 1), 1))
        for index in range(len(self.channels)):
            stride = 2 if index else 1
            first, second = rest[:2]
            rest = rest[2:]
            inner = self._convolve(second, activation(self._convolve(first, h, stride)), 1)
            if index:
                skip, *rest = rest
                kept = h[:, ::2, ::2]
                h = (kept.reshape(-1, kept.shape[-1]) @ skip["w"]).reshape(*kept.shape[:3], -1)
            h = activation(h + inner)
        return affine(readout, jnp.mean(h, axis=(1, 2)))

    def _convolve(
        self, layer: dict[str, Any], images: Float[Array, "n side side inputs"], stride: int
    ) -> Float[Array, "n new new outputs"]:
        kernel = layer["w"] if self.layout == "HWIO" else jnp.transpose(layer["w"], (2, 3, 1, 0))
        n, side, _, channels = images.shape
        new = -(-side // stride)
        padded = jnp.pad(images.astype(kernel.dtype), ((0, 0), (1, 1), (1, 1), (0, 0)))
        ends = [slice(start, start + stride * (new - 1) + 1, stride) for start in range(3)]
        # A product with the matrix of patches: a batched convolution would be a grouped one where tasks are batched.
        patches = jnp.concatenate([padded[:, down, across] for down in ends for across in ends], axis=-1)
        flat = patches.reshape(n * new * new, 9 * channels) @ kernel.reshape(9 * channels, -1)
        return _normalized(layer, flat.reshape(n, new * new, -1), (1, 2)).reshape(n, new, new, -1)


def _check_patches(side: int, patch: int) -> None:
    if side % patch:
        raise ValueError(f"`side` must be a multiple of `patch`, but {side} and {patch} were given.")


def _patches(inputs: Float[Array, "n inputs"], side: int, patch: int) -> Float[Array, "n tokens pixels"]:
    """Square patches of flat images, row by row, each as a flat row."""
    count = side // patch
    cut = inputs.reshape(-1, count, patch, count, patch)
    return jnp.swapaxes(cut, 2, 3).reshape(-1, count * count, patch * patch)


def _fresh_norm(size: int, dtype: Any) -> dict[str, Any]:
    return {"gain": jnp.ones((size,), dtype), "shift": jnp.zeros((size,), dtype)}


def _norm(layer: dict[str, Any], x: Float[Array, "n tokens width"]) -> Float[Array, "n tokens width"]:
    return _normalized(layer, x, (2,))


def _normalized(
    layer: dict[str, Any], x: Float[Array, "n rows width"], axes: tuple[int, ...]
) -> Float[Array, "n rows width"]:
    """Mean zero and variance one over some axes, then a gain and a shift for each number of a row."""
    wide = x.astype(compute_dtype(x.dtype))
    mean = jnp.mean(wide, axis=axes, keepdims=True)
    variance = jnp.mean(jnp.square(wide - mean), axis=axes, keepdims=True)
    normal = ((wide - mean) * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype)
    return normal * layer["gain"][None, None] + layer["shift"][None, None]


def _each(layer: dict[str, Any], x: Float[Array, "n tokens a"]) -> Float[Array, "n tokens b"]:
    """An affine map of each token."""
    return affine(layer, x.reshape(-1, x.shape[-1])).reshape(*x.shape[:2], -1)
