"""The abstract parts of meta-training, and the values that pass between them."""

import abc
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._core import AbstractTaskFamily, Learner, Mixture
from .._core.arrays._buffers import owning_init
from .._core.arrays._numbers import NONNEGATIVE


S = TypeVar("S")


class Observation(eqx.Module):
    """What an objective sees after each inner update.

    - `value`: the task's value after the update.
    - `clock`: the number of that update, from 1 to `horizon`.
    - `horizon`: how many updates the episode has.
    """

    value: Float[Array, ""]
    clock: Int[Array, ""]
    horizon: Int[Array, ""]


class AbstractObjective(eqx.Module, Generic[S]):
    r"""A meta-objective: what a good inner loop is.

    An objective of the values $v_1, \dots, v_H$ after each update of an episode, written as a sum of contributions

    $$L = \sum_{t=1}^{H} c_t(v_1, \dots, v_t)$$

    so that every estimator, the truncated ones included, can add it up on the way.
    """

    queries: eqx.AbstractVar[bool]
    """Whether the value at the end of an unroll, or at a horizon inside of it, is the task's `measure` (query loss)
    rather than a minibatch loss."""

    @abc.abstractmethod
    def init(self) -> S:
        """The state at the start of an episode."""

    @abc.abstractmethod
    def contribute(self, state: S, observation: Observation) -> tuple[S, Float[Array, ""]]:
        """The new state and the contribution $c_t$ of one update."""


class AbstractHorizon(eqx.Module):
    """How many updates an episode has."""

    longest: eqx.AbstractVar[int]

    @abc.abstractmethod
    def sample(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        """Draw the length of an episode, between 1 and `longest`."""

    @abc.abstractmethod
    def mean_truncations(self, truncation: int) -> float:
        """The expected number of unrolls of length `truncation` in an episode."""


class MetaProblem(eqx.Module):
    r"""What a learner is trained for.

    $$\min_\phi \; \mathbb{E}_{\tau, H}\left[\sum_{t=1}^{H} c_t\right]
      + \lambda_w \lVert \phi \rVert^2 + \lambda_u
        \, \mathbb{E}\Big[\tfrac1H \sum_t \lVert \theta_t - \theta_{t-1} \rVert^2\Big]$$

    **Fields:**

    - `family`: the tasks $\tau$; several families at once need [`metaopt.meta.Mixed`][].
    - `objective`: the contributions $c_t$.
    - `horizon`: the distribution of $H$.
    - `tasks`: how many tasks make one meta-gradient.
    - `batch_size`: how many of them run side by side; by default all, which is what accelerators want. With fewer,
        memory is needed for fewer, and on a CPU what a task needs may stay in cache. Results are the same up to
        rounding. [`metaopt.meta_train`][] chooses on a CPU.
    - `axis`: the mesh axis that the tasks are spread over; [`metaopt.meta.TaskParallel`][] sets it, on each device.
    - `second_order`: whether derivatives flow through the inner gradients. Only the differentiating estimators care;
        without, they are cheaper and biased.
    - `weight_penalty`: $\lambda_w$, on the trainable leaves of the learner.
    - `update_penalty`: $\lambda_u$, on the size of inner updates.
    - `trainable`: a function from the learner to a matching pytree of booleans that says which leaves are trained;
        by default all inexact arrays. See [`metaopt.meta.only`][].
    """

    family: AbstractTaskFamily | Mixture
    objective: AbstractObjective[Any]
    horizon: AbstractHorizon
    tasks: int = eqx.field(static=True, default=16)
    batch_size: int | None = eqx.field(static=True, default=None)
    axis: str | None = eqx.field(static=True, default=None)
    second_order: bool = eqx.field(static=True, default=True)
    weight_penalty: float = eqx.field(static=True, default=0.0)
    update_penalty: float = eqx.field(static=True, default=0.0)
    trainable: Callable[[Learner], PyTree[bool]] | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(weight_penalty=self.weight_penalty, update_penalty=self.update_penalty)
        if self.tasks < 1:
            raise ValueError(f"`tasks` must be at least 1, but {self.tasks} was given.")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, or `None` for all, but {self.batch_size} was given.")
        for name in ("weight_penalty", "update_penalty"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, but {getattr(self, name)} was given.")


class MetaGradient(eqx.Module):
    r"""An estimate of the gradient of the meta-objective.

    - `grads`: with the structure of the learner; `None` for leaves that are not trained.
    - `value`: the mean of the inner values that were seen, for people to watch.
    - `nonfinite`: how many tasks diverged. Estimators that can tell leave those out of `grads` and restart them.
    - `variance`: an unbiased estimate of $\mathbb{E} \lVert \hat g - \mathbb{E} \hat g \rVert^2$, the square of how
        far `grads` is off by chance, from how much the tasks differ; `None` if the estimator does not tell.
    - `families`: the mean inner value of each family of a mixture, where there is one.
    """

    grads: Any
    value: Float[Array, ""]
    nonfinite: Int[Array, ""]
    variance: Float[Array, ""] | None = None
    families: Float[Array, " families"] | None = None


class AbstractEstimator(eqx.Module, Generic[S]):
    """A way to estimate meta-gradients.

    ```python
    state = estimator.init(learner, problem, key=key)
    for key in keys:
        state, estimate = estimator.estimate(state, learner, problem, key=key)
        outer_state, learner = outer.step(outer_state, learner, estimate.grads)
    ```

    A fresh state owns its arrays, as those of algorithms do.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        owning_init(cls)

    @abc.abstractmethod
    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> S:
        """Start whatever the estimator carries from one estimate to the next (running episodes, noise)."""

    @abc.abstractmethod
    def estimate(
        self, state: S, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[S, MetaGradient]:
        """Estimate the meta-gradient at `learner`. Pure: may be jitted, scanned and sharded."""


class AbstractSpreadEstimator(AbstractEstimator[S]):
    """An estimator that gives the same numbers however its tasks are spread over devices.

    [`metaopt.meta.TaskParallel`][] runs it on each device with a problem that has that device's share of `tasks`, and
    an `axis`. It promises that

    - a task is known by its number among all, [`metaopt.meta.estimators.task_indices`][], and its random keys are those
        of [`metaopt.meta.estimators.task_keys`][], not of `jr.split(key, problem.tasks)`: each device is given the
        same `key`;
    - every array of its state has a leading axis of tasks;
    - what it returns as a [`metaopt.meta.MetaGradient`][] is that of all tasks:
        [`metaopt.meta.estimators.average`][] adds up over devices, and [`metaopt.meta.estimators.total`][] is the sum
        alone.

    An estimator that promises none of this is an [`metaopt.meta.AbstractEstimator`][] and can be spread, too; then each
    device has tasks of its own, and the numbers depend on how many devices there are.
    """
