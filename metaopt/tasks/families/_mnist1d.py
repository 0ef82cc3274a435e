"""A one-dimensional cousin of MNIST, generated on the spot."""

import functools as ft
import random

import equinox as eqx
import numpy as np
from jaxtyping import PRNGKeyArray

from ..._core import AbstractTaskFamily
from ..._core._extras import missing
from .._common import Activation, Split, check_at_least, check_choice, check_sizes
from ..data._dataset import Dataset
from ..networks._networks import DenseNetwork
from ._classification import ClassificationTask, name_classes


_LENGTH = 40
_CLASSES = 10


@ft.cache
def mnist1d(split: Split) -> Dataset:
    """The training or the test half of MNIST-1D."""
    made = _generate()
    inputs, labels = ("x", "y") if split == "train" else ("x_test", "y_test")
    return Dataset(f"mnist1d/{split}", inputs=made[inputs].astype(np.float32), labels=made[labels].astype(np.int32))


@ft.cache
def _generate() -> dict[str, np.ndarray]:
    """Call the package's own generator, which takes about a second and downloads nothing."""
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError as error:
        raise missing("This family needs", "mnist1d", "data") from error
    # It seeds the global generators of Python and numpy, which belong to the user.
    states = random.getstate(), np.random.get_state()
    try:
        return make_dataset(get_dataset_args())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


class Mnist1D(AbstractTaskFamily):
    """Train a multilayer perceptron on MNIST-1D: digits as noisy signals of 40 samples, ten classes.

    `"train"` has 4000 signals, `"held_out"` 1000: the two parts of the package's standard data set, which is generated
    when the first family is made. Tasks differ in a random permutation of the labels. See
    [`metaopt.tasks.ClassificationTask`][] for the loss.

    **Arguments:**

    - `split`: which signals.
    - `hidden`: hidden units per layer; `()` is logistic regression.
    - `batch_size`: signals per minibatch.
    - `activation`: the nonlinearity.
    - `permute_labels`: whether tasks differ in the names of the classes; if not, they are all the same.

    **Raises:**

    - `ImportError`: if `mnist1d` is missing (`pip install "metaopt[data]"`).

    ??? cite "Reference"

        ```bibtex
        @inproceedings{greydanus2024scaling,
            title={Scaling down deep learning with {MNIST-1D}},
            author={Greydanus, Sam and Kobak, Dmitry},
            booktitle={International Conference on Machine Learning},
            year={2024},
        }
        ```
    """

    split: Split = eqx.field(static=True, default="train")
    hidden: tuple[int, ...] = eqx.field(static=True, default=(32,))
    batch_size: int = eqx.field(static=True, default=32)
    activation: Activation = eqx.field(static=True, default="relu")
    permute_labels: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        check_sizes("hidden", self.hidden)
        check_choice("split", self.split, Split)
        check_choice("activation", self.activation, Activation)
        check_at_least("batch_size", self.batch_size, 1)
        mnist1d(self.split)  # a missing package is found out here rather than in the middle of a run

    def sample(self, *, key: PRNGKeyArray) -> ClassificationTask:
        network = DenseNetwork((_LENGTH, *self.hidden, _CLASSES), self.activation)
        names = name_classes(_CLASSES, self.permute_labels, key=key)
        return ClassificationTask(network, mnist1d(self.split), names, self.batch_size)
