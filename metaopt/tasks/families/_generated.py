"""Automatic task generation: supervised tasks drawn from a distribution over what makes them."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractTask, AbstractTaskFamily, Mixture
from .._common import Activation, Split, check_above, check_at_least, check_choice
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
_DATA: dict[str, tuple[str, ...]] = {
    "dense": ("digits", "digit_images", "mnist_1d", "waves", "text"),
    "convolutional": ("digits", "digit_images"),
    "recurrent": ("digits", "mnist_1d", "text"),
    "attention": ("digits", "mnist_1d", "text"),
}
_CRITERIA: dict[str, tuple[str, ...]] = {
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
            ("architecture", self.architecture, [a for a, data in _DATA.items() if self.data in data]),
            ("criterion", self.criterion, _CRITERIA[self.data]),
        ):
            if given not in fitting:
                words = ", ".join(f"`{word}`" for word in fitting)
                raise ValueError(f"`{name}={given!r}` does not go with `data={self.data!r}`; {words} would.")
        _dataset(self.data, self.split)  # a missing package is found out here rather than in the middle of a run

    def sample(self, *, key: PRNGKeyArray) -> SupervisedTask:
        source_key, scale_key = jr.split(key)
        source = self._source(key=source_key)
        bound = math.log(self.start_scale)
        scale = jnp.exp(jr.uniform(scale_key, (), minval=-bound, maxval=bound))
        return SupervisedTask(self._network(source), source, scale, self.criterion, self.batch_size)

    def _source(self, *, key: PRNGKeyArray) -> AbstractSource:
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

    def _network(self, source: AbstractSource) -> AbstractNetwork:
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


@dataclasses.dataclass(frozen=True)
class TaskDistribution:
    r"""A distribution over families of supervised tasks: how probable each choice is.

    What is drawn first decides what may follow: the data fit the architecture, and the criterion the data, with the
    probabilities below among those that do. [`metaopt.tasks.generate`][] draws from it;
    [`metaopt.tasks.TaskDistribution.fit`][] makes it like tasks that you have.

    - `architecture`, `data`, `criterion`, `activation`, `width`, `depth`, `batch_size`: probabilities of choices; they
        are divided by their sum.
    - `condition`, `start_scale`, `split`: as of [`metaopt.tasks.Generated`][], for all.
    """

    architecture: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"dense": 4.0, "convolutional": 1.0, "recurrent": 1.0, "attention": 2.0}
    )
    data: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"digits": 2.0, "digit_images": 1.0, "mnist_1d": 1.0, "waves": 2.0, "text": 2.0}
    )
    criterion: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"cross_entropy": 2.0, "squared_error": 2.0, "huber": 1.0}
    )
    activation: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"relu": 2.0, "tanh": 1.0, "gelu": 1.0, "silu": 1.0}
    )
    width: Mapping[int, float] = dataclasses.field(default_factory=lambda: dict.fromkeys((8, 16, 32, 64), 1.0))
    depth: Mapping[int, float] = dataclasses.field(default_factory=lambda: {1: 2.0, 2: 2.0, 3: 1.0})
    batch_size: Mapping[int, float] = dataclasses.field(default_factory=lambda: dict.fromkeys((8, 16, 32, 64), 1.0))
    condition: float = 10.0
    start_scale: float = 2.0
    split: Split = "train"

    def __post_init__(self) -> None:
        for name in _CHOICES:
            table = getattr(self, name)
            if not table or not all(0 <= p < math.inf for p in table.values()) or not sum(table.values()) > 0:
                raise ValueError(f"`{name}` must hold probabilities that do not sum to zero, but {table} was given.")

    def joint(self) -> Any:
        """The distribution as a `tensorflow_probability` `JointDistributionNamed` over indices of choices."""
        from tensorflow_probability.substrates import jax as tfp

        tfd = tfp.distributions

        def free(name: str) -> Any:
            return tfd.Categorical(probs=_probabilities(getattr(self, name)))

        def following(name: str, first: str, fitting: Mapping[str, tuple[str, ...]]) -> Any:
            given = list(getattr(self, first))
            table = jnp.stack(
                [
                    _probabilities({k: p if k in fitting[g] else 0.0 for k, p in getattr(self, name).items()})
                    for g in given
                ]
            )
            return lambda index: tfd.Categorical(probs=table[index])

        data, criterion = following("data", "architecture", _DATA), following("criterion", "data", _CRITERIA)
        return tfd.JointDistributionNamed(
            {
                "architecture": free("architecture"),
                "data": lambda architecture: data(architecture),
                "criterion": lambda data: criterion(data),
                **{name: free(name) for name in ("activation", "width", "depth", "batch_size")},
            }
        )

    def fit(
        self,
        examples: Sequence[AbstractTask[Any, Any] | AbstractTaskFamily],
        *,
        strength: float = 4.0,
    ) -> "TaskDistribution":
        r"""The posterior given a few tasks of your own: the distribution of tasks like them.

        Each table of probabilities $p$ is the mean of a Dirichlet distribution with weights $\alpha p$; with counts $n$
        of what the examples have, it becomes $(\alpha p + n) / (\alpha + \sum n)$. An example of a
        [`metaopt.tasks.Generated`][] family tells all. Of any other task its parameters are looked at: kernels with
        four axes mean convolutions; the median size of hidden axes is the width, to the nearest choice; matrices are
        counted for the depth. Where an example says nothing, probabilities stay as they are.

        **Arguments:**

        - `examples`: tasks, or families of which one is drawn.
        - `strength`: $\alpha$, how many examples this distribution is worth.

        **Raises:**

        - `ValueError`: if there is no example, or `strength` is not positive.
        """
        check_above("strength", strength, 0)
        if not examples:
            raise ValueError("`examples` is empty; give a few tasks or families to be fitted to.")
        seen: dict[str, Counter[Any]] = {name: Counter() for name in _CHOICES}
        for example in examples:
            for name, choice in _describe(example, self).items():
                seen[name][choice] += 1
        tables = {}
        for name, counts in seen.items():
            prior = getattr(self, name)
            total = sum(prior.values())
            known = dict.fromkeys([*prior, *counts], 0.0) | {k: strength * p / total for k, p in prior.items()}
            tables[name] = {k: known[k] + counts[k] for k in known}
        return dataclasses.replace(self, **tables)


_CHOICES = ("architecture", "data", "criterion", "activation", "width", "depth", "batch_size")


def _probabilities(table: Mapping[Any, float]) -> Float[Array, " choices"]:
    weights = np.asarray(list(table.values()), np.float32)
    return jnp.asarray(weights / max(float(weights.sum()), 1e-30))


def _describe(example: AbstractTask[Any, Any] | AbstractTaskFamily, known: TaskDistribution) -> dict[str, Any]:
    """What can be told of an example."""
    if isinstance(example, Generated):
        return {name: getattr(example, name) for name in _CHOICES}
    task = example.sample(key=jr.key(0)) if isinstance(example, AbstractTaskFamily) else example
    params = eqx.filter_eval_shape(lambda key: task.init(key=key), jr.key(0))
    shapes = [leaf.shape for leaf in jtu.tree_leaves(params) if isinstance(leaf, jax.ShapeDtypeStruct)]
    matrices = [shape for shape in shapes if len(shape) >= 2]
    found: dict[str, Any] = {}
    if matrices:
        kernels = any(len(shape) >= 4 for shape in matrices)
        found["architecture"] = "convolutional" if kernels else "dense"
        # The last axis of all but the last matrix: its units.
        hidden = [shape[-1] for shape in matrices[:-1]]
        if hidden:
            found["width"] = min(known.width, key=lambda w: abs(math.log(w / float(np.median(hidden)))))
            found["depth"] = min(known.depth, key=lambda d: abs(d - len(hidden)))
    batch_size = getattr(task, "batch_size", None)
    if isinstance(batch_size, int):
        found["batch_size"] = min(known.batch_size, key=lambda b: abs(math.log(b / batch_size)))
    return found


def generate(count: int = 16, *, distribution: TaskDistribution | None = None, seed: int = 0) -> Mixture:
    """Draw families of supervised tasks, to meta-train on all of them.

    Draws that are alike in everything that shapes depend on become one family with a larger weight, so that tasks
    still run side by side.

    **Arguments:**

    - `count`: how many to draw.
    - `distribution`: what to draw from.
    - `seed`: of the draws.

    **Returns:**

    A [`metaopt.tasks.Mixture`][] of [`metaopt.tasks.Generated`][] families.

    **Raises:**

    - `ValueError`: if `count` is below 1.
    - `ImportError`: if the data needs a package that is missing.
    """
    check_at_least("count", count, 1)
    known = TaskDistribution() if distribution is None else distribution
    drawn = known.joint().sample(count, seed=jr.key(seed))
    choices = {name: [list(getattr(known, name))[int(i)] for i in np.asarray(drawn[name])] for name in _CHOICES}
    same = {"condition": known.condition, "start_scale": known.start_scale, "split": known.split}
    families = [_canonical(**{name: choices[name][i] for name in _CHOICES}, **same) for i in range(count)]
    weights = Counter(families)
    return Mixture(tuple(weights), tuple(float(w) for w in weights.values()))


def _canonical(**options: Any) -> Generated:
    """A family without the options that mean nothing for it, so that equal ones are found."""
    if options["architecture"] in ("recurrent", "attention"):
        options["activation"] = "relu"
    if options["architecture"] == "recurrent":
        options["depth"] = 1
    if options["architecture"] == "attention":
        options["width"] += options["width"] % 2
    if options["architecture"] == "convolutional":
        options["width"] = min(options["width"], 16)
    return Generated(**options)
