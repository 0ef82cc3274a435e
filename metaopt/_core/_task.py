"""What is optimized: tasks and families of tasks."""

import abc
import math
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


P = TypeVar("P")
G = TypeVar("G")


class AbstractTask(eqx.Module, Generic[P, G]):
    """An inner problem: where to start, what to improve, and what to report.

    Whatever distinguishes one task of a family from another is a leaf, so a batch of tasks is a `jax.vmap` and a
    sharded batch is a mesh axis.
    """

    @abc.abstractmethod
    def init(self, *, key: PRNGKeyArray) -> P:
        """Draw starting parameters."""

    @abc.abstractmethod
    def evaluate(self, params: P, *, key: PRNGKeyArray) -> tuple[Float[Array, ""], G]:
        """The value at `params` and the signal that an algorithm steps on, on one minibatch drawn with `key`."""

    @abc.abstractmethod
    def measure(self, params: P, *, key: PRNGKeyArray) -> Float[Array, ""]:
        """What a user reports: the loss on the full data set, on a large fixed batch, or on query data."""


class AbstractLossTask(AbstractTask[P, P]):
    """A task whose signal is the gradient of a loss."""

    @abc.abstractmethod
    def loss(self, params: P, *, key: PRNGKeyArray) -> Float[Array, ""]:
        """The loss on one minibatch drawn with `key`."""

    def evaluate(self, params: P, *, key: PRNGKeyArray) -> tuple[Float[Array, ""], P]:
        return eqx.filter_value_and_grad(lambda p: self.loss(p, key=key))(params)


class AbstractTaskFamily(eqx.Module):
    """A distribution over tasks.

    All tasks of a family share one pytree structure, with the same shapes, dtypes and static parts.
    """

    @abc.abstractmethod
    def sample(self, *, key: PRNGKeyArray) -> AbstractTask[Any, Any]:
        """Draw a task."""


def check_family(family: "AbstractTaskFamily | Mixture") -> None:
    """Check by shapes alone that a family, or each of a mixture, can be drawn from inside of `jax.vmap`.

    **Raises:**

    - `TypeError`: if the shapes of its tasks depend on the random key.
    """
    if isinstance(family, Mixture):
        for each in family.families:
            check_family(each)
        return
    try:
        eqx.filter_eval_shape(lambda key: family.sample(key=key), jr.key(0))
    except jax.errors.ConcretizationTypeError as error:
        raise TypeError(
            f"The tasks of `{type(family).__name__}` cannot be batched: its `sample` makes a Python number of a random "
            "one, so that shapes or branches depend on the key. All tasks of a family must have the same shapes. Draw "
            "sizes beforehand and make one family of each, or pad to the largest."
        ) from error


class SingleTask(AbstractTaskFamily):
    """The family with one member."""

    task: AbstractTask[PyTree, PyTree]

    def sample(self, *, key: PRNGKeyArray) -> AbstractTask[Any, Any]:
        del key
        return self.task


class Mixture(eqx.Module):
    """Several families whose tasks may differ in everything, shapes included.

    It is no family, since its tasks cannot be batched: an estimator of meta-gradients sees to each family by itself,
    see [`metaopt.meta.Mixed`][].

    **Arguments:**

    - `families`: the families.
    - `weights`: how much each counts; by default all the same.

    **Raises:**

    - `ValueError`: if there is no family, or the weights are not positive numbers, one for each.
    """

    families: tuple[AbstractTaskFamily, ...]
    weights: tuple[float, ...] | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if not self.families:
            raise ValueError("`families` is empty; a mixture needs at least one.")
        if self.weights is None:
            return
        if len(self.weights) != len(self.families):
            raise ValueError(f"{len(self.families)} families need as many weights, but {len(self.weights)} were given.")
        if not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError(f"`weights` must be positive numbers, but {self.weights} was given.")

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights, divided by their sum."""
        weights = (1.0,) * len(self.families) if self.weights is None else self.weights
        return tuple(weight / sum(weights) for weight in weights)
