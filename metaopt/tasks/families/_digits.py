"""Real handwritten digits."""

import functools as ft

import equinox as eqx
import numpy as np
from jaxtyping import PRNGKeyArray

from ..._core import AbstractTaskFamily
from ..._core._extras import missing
from .._common import Activation, Split, check_at_least, check_choice, check_sizes
from ..data._dataset import Dataset
from ..networks._networks import AbstractNetwork, ConvolutionalNetwork, DenseNetwork
from ._classification import ClassificationTask, name_classes


_SIDE = 8
_CLASSES = 10
_HALF = 898


@ft.cache
def digits(split: Split) -> Dataset:
    """Half of the 1797 digits of scikit-learn, in the order of a fixed permutation."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing("This family needs", "scikit-learn", "data") from error
    inputs, labels = load_digits(return_X_y=True)
    # The legacy generator: its stream is frozen, so the split is the same with every release of numpy.
    order = np.random.RandomState(0).permutation(len(labels))
    half = order[:_HALF] if split == "train" else order[_HALF : 2 * _HALF]
    return Dataset(
        f"digits/{split}", inputs=(inputs[half] / 16).astype(np.float32), labels=labels[half].astype(np.int32)
    )


class DigitsMLP(AbstractTaskFamily):
    """Train a multilayer perceptron on scikit-learn's handwritten digits: 8 x 8 pixels between 0 and 1, ten classes.

    The 1797 images are put in the order `numpy.random.RandomState(0).permutation(1797)`; the first 898 are the split
    `"train"`, the next 898 are `"held_out"`, so that a learner can be tested on images that no task of its
    meta-training has seen. Tasks differ in a random permutation of the labels. See
    [`metaopt.tasks.ClassificationTask`][] for the loss.

    **Arguments:**

    - `split`: which images.
    - `hidden`: hidden units per layer; `()` is logistic regression.
    - `batch_size`: images per minibatch.
    - `activation`: the nonlinearity.
    - `permute_labels`: whether tasks differ in the names of the classes; if not, they are all the same.

    **Raises:**

    - `ImportError`: if scikit-learn is missing (`pip install "metaopt[data]"`).
    """

    split: Split = eqx.field(static=True, default="train")
    hidden: tuple[int, ...] = eqx.field(static=True, default=(32,))
    batch_size: int = eqx.field(static=True, default=32)
    activation: Activation = eqx.field(static=True, default="relu")
    permute_labels: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        check_sizes("hidden", self.hidden)
        _check(self.split, self.batch_size, self.activation)

    def sample(self, *, key: PRNGKeyArray) -> ClassificationTask:
        network = DenseNetwork((_SIDE * _SIDE, *self.hidden, _CLASSES), self.activation)
        return _task(network, self.split, self.batch_size, self.permute_labels, key=key)


class DigitsConv(AbstractTaskFamily):
    """Train a convolutional network on scikit-learn's handwritten digits. See [`metaopt.tasks.DigitsMLP`][].

    Each convolution has 3 x 3 pixels and stride 2; a dense layer follows.

    **Arguments:**

    - `split`: which images.
    - `channels`: the number of channels of each convolution.
    - `batch_size`: images per minibatch.
    - `activation`: the nonlinearity.
    - `permute_labels`: whether tasks differ in the names of the classes; if not, they are all the same.

    **Raises:**

    - `ImportError`: if scikit-learn is missing (`pip install "metaopt[data]"`).
    """

    split: Split = eqx.field(static=True, default="train")
    channels: tuple[int, ...] = eqx.field(static=True, default=(8, 16))
    batch_size: int = eqx.field(static=True, default=32)
    activation: Activation = eqx.field(static=True, default="relu")
    permute_labels: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        check_sizes("channels", self.channels, fewest=1)
        _check(self.split, self.batch_size, self.activation)

    def sample(self, *, key: PRNGKeyArray) -> ClassificationTask:
        network = ConvolutionalNetwork(_SIDE, self.channels, _CLASSES, self.activation)
        return _task(network, self.split, self.batch_size, self.permute_labels, key=key)


def _check(split: Split, batch_size: int, activation: Activation) -> None:
    check_choice("split", split, Split)
    check_choice("activation", activation, Activation)
    check_at_least("batch_size", batch_size, 1)
    digits(split)  # a missing package is found out here rather than in the middle of a run


def _task(
    network: AbstractNetwork, split: Split, batch_size: int, permute: bool, *, key: PRNGKeyArray
) -> ClassificationTask:
    return ClassificationTask(network, digits(split), name_classes(_CLASSES, permute, key=key), batch_size)
