"""Classes that few-shot tasks are made of."""

import abc
from typing import Literal

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray


ClassSplit = Literal["train", "validation", "held_out"]


class AbstractClasses(eqx.Module):
    """Numbered classes, and examples of each."""

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """How many classes there are."""

    @property
    @abc.abstractmethod
    def group(self) -> int:
        """How many consecutive classes belong together, as the letters of an alphabet do."""

    @property
    @abc.abstractmethod
    def inputs(self) -> int:
        """The length of a row of inputs."""

    @property
    @abc.abstractmethod
    def side(self) -> int | None:
        """The side of an image, if rows are square images."""

    @property
    @abc.abstractmethod
    def fewest(self) -> int | None:
        """How many different examples every class has at least; `None` if each is drawn anew."""

    @abc.abstractmethod
    def draw(
        self, numbers: Int[Array, " ways"], examples: int, *, key: PRNGKeyArray
    ) -> Float[Array, "ways {examples} inputs"]:
        """Draw different examples of each of some classes."""
