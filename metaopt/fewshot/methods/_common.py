"""What several methods share."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax.random as jr
import optax
from jaxtyping import PRNGKeyArray, PyTree

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner, Mixture, from_optax
from ...meta import ConstantHorizon, FinalLoss, MetaProblem, only


def descent(inner: AbstractAlgorithm[Any, Any, Any] | None) -> AbstractAlgorithm[Any, Any, Any]:
    """The inner algorithm, by default plain gradient descent."""
    return from_optax(optax.sgd, learning_rate=0.01) if inner is None else inner


def draw_initial(family: AbstractTaskFamily | Mixture, *, key: PRNGKeyArray) -> PyTree:
    """The parameters that a task of the family starts from.

    **Raises:**

    - `TypeError`: if the family is a mixture, whose tasks have no parameters in common.
    """
    if isinstance(family, Mixture):
        raise TypeError(
            f"An initialization is learned for one family, but a mixture of {len(family.families)} was given. Learn "
            "one for each, or pad their tasks to common shapes."
        )
    task_key, start_key = jr.split(key)

    @eqx.filter_jit
    def draw(task_key: PRNGKeyArray, start_key: PRNGKeyArray) -> PyTree:
        return family.sample(key=task_key).init(key=start_key)

    return draw(task_key, start_key)


def train_initial(learner: Learner) -> PyTree[bool]:
    """Which leaves are trained. A function that is always the same, so that runs share compiled programs."""
    return only(lambda learner: learner.initial)(learner)


@runtime_checkable
class _Adaptation(Protocol):
    @property
    def steps(self) -> int: ...

    @property
    def tasks(self) -> int: ...

    @property
    def batch_size(self) -> int | None: ...


def after_adaptation(method: _Adaptation, family: AbstractTaskFamily, *, second_order: bool = True) -> MetaProblem:
    """Train the initialization on the loss on query data after a few steps on support data."""
    return MetaProblem(
        family,
        FinalLoss(queries=True),
        ConstantHorizon(method.steps),
        tasks=method.tasks,
        batch_size=method.batch_size,
        second_order=second_order,
        trainable=train_initial,
    )
