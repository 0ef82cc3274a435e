"""Supervised tasks of one architecture on one kind of data."""

import math
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractTaskFamily
from .._common import Activation, Split, check_at_least, check_choice
from ..data._sources import AbstractSource, LabelledSource, SelfSource, TextSource, WaveSource
from ..data._text import ALPHABET, text
from ..networks._networks import AbstractNetwork, ConvolutionalNetwork, DenseNetwork
from ..networks._sequence_networks import AttentionNetwork, RecurrentNetwork
from ._classification import name_classes
from ._digits import digits
from ._mnist1d import mnist1d
from ._supervised import Criterion, SupervisedTask


Architecture = Literal["dense", "convolutional", "recurrent", "attention"]
Data = Literal["digits", "digit_images", "mnist_1d", "waves", "text"]

# How a row of inputs is cut into a sequence: steps, and numbers per step.
_SEQUENCES = {"digits": (8, 8), "mnist_1d": (10, 4), "text": (8, len(ALPHABET))}
_SIDE = 8
_WAVE_INPUTS, _WAVE_OUTPUTS, _WAVES = 8, 4, 16
# What goes together. The target of `digit_images` is the image itself; it and waves are vectors.
DATA: dict[str, tuple[str, ...]] = {
    "dense": ("digits", "digit_images", "mnist_1d", "waves", "text"),
    "convolutional": ("digits", "digit_images"),
    "recurrent": ("digits", "mnist_1d", "text"),
    "attention": ("digits", "mnist_1d", "text"),
}
CRITERIA: dict[str, tuple[str, ...]] = {
    "digits": ("cross_entropy", "squared_error"),
    "digit_images": ("squared_error", "huber"),
    "mnist_1d": ("cross_entropy", "squared_error"),
    "waves": ("squared_error", "huber"),
    "text": ("cross_entropy",),
}


class Generated(AbstractTaskFamily):
    r"""Supervised tasks of one architecture on one kind of data.

    Tasks differ in what they are to learn (the names of the classes or characters, the function), in the scales of
    the inputs, $s_i = \kappa^{u_i - 1/2}$ with $u_i \sim U(0, 1)$ and $\log \kappa \sim U(0, \log \kappa_{\max})$, and
    in the scale of the first weights, $\log c \sim U(-\log c_{\max}, \log c_{\max})$. Text is never scaled.

    **Arguments:**

    - `architecture`: of the network.
    - `data`: `"digits"` (8 x 8 images), `"digit_images"` (the same as their own targets: an autoencoder), `"mnist_1d"`,
        `"waves"` (random smooth functions of 8 numbers), or `"text"` (the next character of a made-up language).
    - `width`: hidden units, channels, or the width of a position.
    - `depth`: hidden layers, convolutions, or blocks; the recurrent network always has one layer.
    - `activation`: of dense and convolutional networks.
    - `criterion`: the loss.
    - `batch_size`: examples per minibatch.
    - `condition`: $\kappa_{\max}$, the largest ratio of the scales of two inputs.
    - `start_scale`: $c_{\max}$.
    - `split`: which part of the data.

    **Raises:**

    - `ValueError`: if these do not go together.
    - `ImportError`: if the data needs a package that is missing.
    """

    architecture: Architecture = eqx.field(static=True, default="dense")
    data: Data = eqx.field(static=True, default="digits")
    width: int = eqx.field(static=True, default=32)
    depth: int = eqx.field(static=True, default=1)
    activation: Activation = eqx.field(static=True, default="relu")
    criterion: Criterion = eqx.field(static=True, default="cross_entropy")
    batch_size: int = eqx.field(static=True, default=32)
    condition: float = eqx.field(static=True, default=1.0)
    start_scale: float = eqx.field(static=True, default=1.0)
    split: Split = eqx.field(static=True, default="train")

    def __check_init__(self) -> None:
        check_choice("architecture", self.architecture, Architecture)
        check_choice("data", self.data, Data)
        check_choice("activation", self.activation, Activation)
        check_choice("criterion", self.criterion, Criterion)
        check_choice("split", self.split, Split)
        check_at_least("width", self.width, 1)
        check_at_least("depth", self.depth, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("condition", self.condition, 1)
        check_at_least("start_scale", self.start_scale, 1)
        for name, given, fitting in (
            ("architecture", self.architecture, [a for a, data in DATA.items() if self.data in data]),
            ("criterion", self.criterion, CRITERIA[self.data]),
        ):
            if given not in fitting:
                words = ", ".join(f"`{word}`" for word in fitting)
                raise ValueError(f"`{name}={given!r}` does not go with `data={self.data!r}`; {words} would.")
        _dataset(self.data, self.split)  # a missing package is found out here rather than in the middle of a run

    def sample(self, *, key: PRNGKeyArray) -> SupervisedTask:
        source_key, scale_key = jr.split(key)
        source = self.draw_source(key=source_key)
        scale = self.draw_start_scale(key=scale_key)
        return SupervisedTask(self.network(source), source, scale, self.criterion, self.batch_size)

    @property
    def kind(self) -> str:
        """What kinds of families there are for people to see, such as `dense digits`."""
        return f"{self.architecture} {self.data}"

    @property
    def label(self) -> str:
        """What people see of it, such as `dense digits 32x1 relu`."""
        return f"{self.kind} {self.width}x{self.depth} {self.activation}"

    def draw_start_scale(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        """Draw the scale of the first weights."""
        bound = math.log(self.start_scale)
        return jnp.exp(jr.uniform(key, (), minval=-bound, maxval=bound))

    def draw_source(self, *, key: PRNGKeyArray) -> AbstractSource:
        """Draw where the examples of a task come from."""
        key, scales_key = jr.split(key)
        found = _dataset(self.data, self.split)
        if found is None:
            scales = self._scales(_WAVE_INPUTS, key=scales_key)
            shapes = [(_WAVE_OUTPUTS, _WAVES), (_WAVES, _WAVE_INPUTS), (_WAVES,)]
            a, w, b, measure_key = jr.split(key, 4)
            amplitudes, frequencies = jr.normal(a, shapes[0]), jr.normal(w, shapes[1])
            amplitudes, frequencies = amplitudes * math.sqrt(2 / _WAVES), frequencies / math.sqrt(_WAVE_INPUTS)
            phases = jr.uniform(b, shapes[2], maxval=2 * math.pi)
            return WaveSource(amplitudes, frequencies, phases, scales, measure_key)
        if self.data == "text":
            return TextSource(found, name_classes(len(ALPHABET), True, key=key), _SEQUENCES["text"][0])
        scales = self._scales(found["inputs"].shape[1], key=scales_key)
        if self.data == "digit_images":
            return SelfSource(found, scales)
        return LabelledSource(found, name_classes(10, True, key=key), scales)

    def _scales(self, size: int, *, key: PRNGKeyArray) -> Float[Array, " size"]:
        drawn = jr.uniform(key, (size + 1,))
        return jnp.exp(math.log(self.condition) * drawn[0] * (drawn[1:] - 0.5))

    def network(self, source: AbstractSource) -> AbstractNetwork:
        """The network that fits the examples."""
        if self.architecture == "dense":
            return DenseNetwork((source.inputs, *[self.width] * self.depth, source.outputs), self.activation)
        if self.architecture == "convolutional":
            return ConvolutionalNetwork(_SIDE, (self.width,) * self.depth, source.outputs, self.activation)
        steps, size = _SEQUENCES[self.data]
        if self.architecture == "recurrent":
            return RecurrentNetwork(steps, size, self.width, source.outputs)
        return AttentionNetwork(steps, size, self.width, self.depth, source.outputs)


def _dataset(data: Data, split: Split) -> Any:
    if data == "waves":
        return None
    return {"digits": digits, "digit_images": digits, "mnist_1d": mnist1d, "text": text}[data](split)
