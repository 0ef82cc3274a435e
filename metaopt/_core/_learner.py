"""What is learned, and the inner loop that uses it."""

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ._algorithm import AbstractAlgorithm, with_horizon
from ._explain import explained
from ._task import AbstractTask
from .arrays._trees import started


S = TypeVar("S")
P = TypeVar("P")


class AbstractStart(eqx.Module):
    """A distribution of starts, learned in the place of one: the `initial` of a [`metaopt.Learner`][]."""

    @abc.abstractmethod
    def draw(self, task: AbstractTask[Any, Any], *, key: PRNGKeyArray) -> Any:
        """Draw parameters from which a task starts, differentiably."""


class Learner(eqx.Module):
    """What is learned: an update rule, an initialization, or both.

    Meta-training is `outer_state, learner = outer.step(outer_state, learner, meta_grads)`.
    """

    algorithm: AbstractAlgorithm[Any, Any, Any]
    initial: Any = None

    def start(self, task: AbstractTask[Any, Any], *, key: PRNGKeyArray) -> Any:
        """Where an inner loop starts: the learned initialization if there is one, else the task's own draw."""
        if isinstance(self.initial, AbstractStart):
            return self.initial.draw(task, key=key)
        return started(task.init(key=key) if self.initial is None else self.initial)


class Trajectory(eqx.Module, Generic[S, P]):
    """What an inner loop did.

    `values[t]` is the value that step `t` saw, at the parameters before that step; `params` and `state` are what the
    last step left.
    """

    values: Float[Array, " steps"]
    params: P
    state: S


class Inner(eqx.Module, Generic[S, P]):
    """The carry of an inner loop."""

    state: S
    params: P


def inner_step(
    algorithm: AbstractAlgorithm[S, P, Any],
    task: AbstractTask[P, Any],
    carry: Inner[S, P],
    *,
    key: PRNGKeyArray,
    second_order: bool = True,
) -> tuple[Inner[S, P], Float[Array, ""]]:
    """One step of an inner loop: evaluate the task, then let the algorithm step.

    The single place where tasks and algorithms meet; every driver and estimator goes through it.

    **Arguments:**

    - `algorithm`, `task`: who steps, on what.
    - `carry`: state and parameters.
    - `key`: draws the minibatch.
    - `second_order`: if false, derivatives do not flow through the signal (the first-order approximation).

    **Returns:**

    The new carry and the value before the step.
    """
    value, signal = task.evaluate(carry.params, key=key)
    if not second_order:
        signal = jax.lax.stop_gradient(signal)
    state, params = algorithm.step(carry.state, carry.params, signal, value=value)
    return Inner(state, params), value


def unroll(
    learner: Learner,
    task: AbstractTask[Any, Any],
    *,
    steps: int,
    key: PRNGKeyArray,
    second_order: bool = True,
    remat: bool = False,
) -> Trajectory[Any, Any]:
    r"""Run the inner loop: `steps` steps of the learner's algorithm on a task.

    $$\theta_0 = \mathrm{start}, \qquad
      (v_t, g_t) = \mathrm{evaluate}(\theta_t), \qquad (s_{t+1}, \theta_{t+1}) = \mathrm{step}(s_t, \theta_t, g_t)$$

    Differentiable in the learner (unrolled, by reverse or forward mode).

    **Arguments:**

    - `learner`: the algorithm, and the initialization if that is learned.
    - `task`: the inner problem.
    - `steps`: how many steps, at least 1; static.
    - `key`: draws the start, the algorithm's own randomness and the minibatches.
    - `second_order`: whether derivatives flow through the signals.
    - `remat`: recompute each step in the backward pass instead of storing it: memory falls from all
        intermediates of each step to its carry, for about a third more work.

    **Returns:**

    A [`metaopt.Trajectory`][].

    **Raises:**

    - `TypeError`: if `steps` is no integer.
    - `ValueError`: if `steps` is below 1, or the start holds nothing to train.
    """
    algorithm = with_horizon(learner.algorithm, steps)
    start_key, state_key, data_key = jr.split(key, 3)
    params = learner.start(task, key=start_key)
    carry = Inner(algorithm.init(params, key=state_key), params)
    dynamic, static = eqx.partition(carry, eqx.is_array)

    def body(dynamic: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, ""]]:
        carry = eqx.combine(dynamic, static)
        carry, value = inner_step(algorithm, task, carry, key=key, second_order=second_order)
        return eqx.filter(carry, eqx.is_array), value

    with explained(algorithm, task, params):
        final, values = jax.lax.scan(jax.checkpoint(body) if remat else body, dynamic, jr.split(data_key, steps))
    carry = eqx.combine(final, static)
    return Trajectory(jnp.asarray(values), carry.params, carry.state)
