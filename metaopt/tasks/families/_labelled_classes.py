"""The classes of a labelled data set."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._common import check_choice, rows
from ..data._classes import AbstractClasses, ClassSplit
from ..data._dataset import Dataset
from ._digits import digits
from ._mnist1d import mnist1d


TenClasses = Literal["digits", "mnist_1d"]
_TRAINED = 5


class LabelledClasses(AbstractClasses):
    """The classes of a labelled data set. Examples of a class are drawn without replacement.

    **Arguments:**

    - `data`: has rows `inputs` and integer `labels`. Every label that occurs is a class.
    - `image_side`: the side of the images, if rows are square images.

    **Raises:**

    - `ValueError`: if the data set has no such arrays, or its rows are no images of that side.
    """

    data: Dataset = eqx.field(static=True)
    image_side: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if not {"inputs", "labels"} <= set(self.data):
            raise ValueError(f"The data set must have arrays `inputs` and `labels`, but {self.data!r} was given.")
        if self.image_side is not None and self.image_side**2 != self.inputs:
            raise ValueError(f"`image_side={self.image_side}` does not go with rows of {self.inputs} numbers.")

    @property
    def count(self) -> int:
        return self._sizes.size

    @property
    def group(self) -> int:
        return self.count

    @property
    def inputs(self) -> int:
        return self.data["inputs"].shape[1]

    @property
    def side(self) -> int | None:
        return self.image_side

    @property
    def fewest(self) -> int:
        return int(self._sizes.min())

    def draw(
        self, numbers: Int[Array, " ways"], examples: int, *, key: PRNGKeyArray
    ) -> Float[Array, "ways {examples} inputs"]:
        # Rows in the order of their classes, so that a class is a range.
        order = np.argsort(self.data["labels"], kind="stable").astype(np.int32)
        sizes = self._sizes.astype(np.int32)
        starts = rows(jnp.asarray(np.cumsum(sizes, dtype=np.int32) - sizes), numbers)
        drawn = jr.uniform(key, (numbers.shape[0], int(sizes.max())))
        outside = jnp.arange(sizes.max(), dtype=jnp.int32)[None] >= rows(jnp.asarray(sizes), numbers)[:, None]
        chosen = jax.lax.top_k(jnp.where(outside, -1.0, drawn), examples)[1]
        found = rows(jnp.asarray(order), (starts[:, None] + chosen).ravel())
        return rows(jnp.asarray(self.data["inputs"]), found).reshape(numbers.shape[0], examples, -1)

    @property
    def _sizes(self) -> np.ndarray:
        return np.unique(self.data["labels"], return_counts=True)[1]


def labelled_classes(data: TenClasses = "digits", split: ClassSplit = "train") -> LabelledClasses:
    """Five of the ten classes of a data set.

    Classes 0 to 4 are for training, 5 to 9 are held out. There are too few for a third part: `"validation"` has other
    examples of the classes of `"train"`, the ones which [`metaopt.tasks.DigitsMLP`][] and [`metaopt.tasks.Mnist1D`][]
    call held out. `"held_out"` has all examples of its classes.

    **Arguments:**

    - `data`: `"digits"` or `"mnist_1d"`.
    - `split`: which classes and examples.

    **Raises:**

    - `ValueError`: if there is no such data set or split.
    - `ImportError`: if the data needs a package that is missing.
    """
    check_choice("data", data, TenClasses)
    check_choice("split", split, ClassSplit)
    load = digits if data == "digits" else mnist1d
    parts = {"train": [load("train")], "validation": [load("held_out")], "held_out": [load("train"), load("held_out")]}
    inputs, labels = (np.concatenate([part[name] for part in parts[split]]) for name in ("inputs", "labels"))
    kept = (labels >= _TRAINED) if split == "held_out" else (labels < _TRAINED)
    chosen = Dataset(f"{data}/few_shot/{split}", inputs=inputs[kept], labels=labels[kept])
    return LabelledClasses(chosen, 8 if data == "digits" else None)
