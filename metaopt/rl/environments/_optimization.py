"""Any algorithm on any task as an environment."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..._core import AbstractAlgorithm, AbstractTask, AbstractTaskFamily, with_horizon
from ..._core.arrays._numbers import check_counts
from .._policy import Policy
from .._spaces import Actor, Box, Discrete
from ..base import AbstractControl, AbstractEnvironment, AbstractReward, Timestep
from ._controls import RateMultipliers
from ._progress import Progress
from ._rewards import ConvergenceSpeed


class _RunState(eqx.Module):
    """The task is drawn again from its key when it is needed, for it may hold more than arrays."""

    task: PRNGKeyArray
    params: PyTree
    control: PyTree
    seen: PyTree
    first: Float[Array, ""]
    value: Float[Array, ""]
    clock: Int[Array, ""]


class OptimizationEnvironment(AbstractEnvironment[_RunState]):
    """Control an algorithm while it optimizes a task that is drawn from a family.

    A step of the environment is a decision and `every` steps of the algorithm; an episode has `horizon` decisions. The
    loss that rewards are about is the task's `measure`. An episode in which it is no longer finite ends, with the
    reward for a loss a million times as large as the first.
    """

    family: AbstractTaskFamily
    inner: AbstractAlgorithm[Any, Any, Any]
    control: AbstractControl[Any]
    reward: AbstractReward
    progress: Progress
    horizon: int = eqx.field(static=True)
    every: int = eqx.field(static=True)

    def __init__(
        self,
        family: AbstractTaskFamily,
        inner: AbstractAlgorithm[Any, Any, Any],
        *,
        control: AbstractControl[Any] | None = None,
        reward: AbstractReward | None = None,
        progress: Progress | None = None,
        horizon: int = 20,
        every: int = 10,
    ):
        """**Arguments:**

        - `family`: the tasks.
        - `inner`: the algorithm.
        - `control`: what actions do to it; by default [`metaopt.rl.RateMultipliers`][].
        - `reward`: by default [`metaopt.rl.ConvergenceSpeed`][].
        - `progress`: what is observed.
        - `horizon`: how many decisions an episode has.
        - `every`: how many steps follow each of them.

        **Raises:**

        - `ValueError`: if `horizon` or `every` is below 1.
        """
        check_counts(horizon=horizon, every=every)
        self.family, self.inner = family, with_horizon(inner, horizon * every)
        self.control = RateMultipliers() if control is None else control
        self.reward = ConvergenceSpeed() if reward is None else reward
        self.progress = Progress() if progress is None else progress
        self.horizon, self.every = horizon, every

    @property
    def space(self) -> Discrete | Box:
        """The actions of the control."""
        return self.control.space

    @property
    def observation_size(self) -> int:
        """How many numbers an observation has."""
        return self.progress.size

    def policy(self, actor: Actor) -> Policy:
        """The algorithm that acts outside as this environment does."""
        horizon = self.horizon * self.every
        return Policy(
            self.inner,
            actor,
            control=self.control,
            progress=self.progress,
            decisions=self.horizon,
            horizon=horizon,
        )

    def reset(self, *, key: PRNGKeyArray) -> tuple[_RunState, Float[Array, " features"]]:
        task_key, start_key, control_key, measure_key = jr.split(key, 4)
        task = self.family.sample(key=task_key)
        params = task.init(key=start_key)
        control = self.control.init(self.inner, params, key=control_key)
        value = task.measure(params, key=measure_key)
        clock = jnp.zeros((), jnp.int32)
        seen, observation = self._observe(self.progress.init(), control, clock)
        return _RunState(task_key, params, control, seen, value, value, clock), observation

    def _observe(self, seen: PyTree, control: PyTree, clock: Int[Array, ""]) -> tuple[PyTree, Float[Array, " f"]]:
        time = clock.astype(jnp.result_type(float)) / self.horizon
        return self.progress.observe(seen, time, self.control.setting(control))

    def step(self, state: _RunState, action: Array, *, key: PRNGKeyArray) -> tuple[_RunState, Timestep]:
        task: AbstractTask[Any, Any] = self.family.sample(key=state.task)
        data_key, measure_key = jr.split(key)
        control = self.control.act(state.control, self.inner, state.params, action)

        def body(carry: tuple[PyTree, PyTree, PyTree], key: PRNGKeyArray) -> tuple[Any, None]:
            control, seen, params = carry
            value, grads = task.evaluate(params, key=key)
            seen = self.progress.see(seen, value, grads)
            control, params = self.control.step(control, self.inner, params, grads, value=value)
            return (control, seen, params), None

        start = (control, state.seen, state.params)
        (control, seen, params), _ = jax.lax.scan(body, start, jr.split(data_key, self.every))
        clock = state.clock + 1
        value = task.measure(params, key=measure_key)
        diverged = ~jnp.isfinite(value)
        value = jnp.where(diverged, 1e6 * state.first, value)
        done = clock >= self.horizon
        reward = self.reward.reward(state.first, state.value, value, done | diverged)
        seen, observation = self._observe(seen, control, clock)
        new = _RunState(state.task, params, control, seen, state.first, value, clock)
        # The budget is observed, so nothing is to be expected behind its end.
        return new, Timestep(observation, reward, done | diverged, jnp.zeros_like(done))
