"""Episodes: inner loops that may be cut into truncations and gone on with later."""

import functools as ft
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ..._core import AbstractTask, Inner, Learner, Mixture, inner_step, with_horizon
from ..._core._explain import explained
from ..._core.arrays._trees import add_up, compute_dtype, select
from .._horizons import ConstantHorizon
from ..base import AbstractHorizon, MetaProblem, Observation


class Plan(eqx.Module):
    """What is drawn once for an episode: the task and the number of updates."""

    task: AbstractTask[Any, Any]
    horizon: Int[Array, ""]


class Progress(eqx.Module):
    """The part of an episode that the learner influences."""

    inner: Inner[Any, Any]
    objective: PyTree


class Outcome(eqx.Module):
    """What one truncation gave: its contribution to the meta-objective, and the mean value seen."""

    contribution: Float[Array, ""]
    value: Float[Array, ""]


def plan(problem: MetaProblem, *, key: PRNGKeyArray) -> Plan:
    """Draw a task and a horizon."""
    if isinstance(problem.family, Mixture):
        raise TypeError(
            f"The problem has a mixture of {len(problem.family.families)} families, whose tasks cannot run side by "
            "side. Wrap the estimator: `metaopt.meta.Mixed(estimator)`."
        )
    task_key, horizon_key = jr.split(key)
    return Plan(problem.family.sample(key=task_key), problem.horizon.sample(key=horizon_key))


def begin(learner: Learner, problem: MetaProblem, plan: Plan, *, key: PRNGKeyArray) -> Progress:
    """Start an episode."""
    start_key, state_key = jr.split(key)
    params = learner.start(plan.task, key=start_key)
    algorithm = with_horizon(learner.algorithm, plan.horizon)
    return Progress(Inner(algorithm.init(params, key=state_key), params), problem.objective.init())


def advance(
    learner: Learner,
    problem: MetaProblem,
    plan: Plan,
    progress: Progress,
    clock: Int[Array, ""],
    *,
    steps: int,
    key: PRNGKeyArray,
    remat: bool = False,
) -> tuple[Progress, Outcome]:
    """Run `steps` updates of an episode that has had `clock` of them.

    The contributions are those of the updates `clock + 1` to `clock + steps`: each update's value is the one that the
    next update sees, and the last one's is evaluated after the loop. Updates past the horizon contribute nothing. Where
    the objective `queries`, the value after the loop is the `measure` of the parameters at the horizon if that lies
    inside of the loop: they stay there.
    """
    halts = problem.objective.queries and not _is_divided(problem.horizon, steps)
    algorithm = with_horizon(learner.algorithm, plan.horizon)
    step_key, end_key = jr.split(key)
    dynamic, static = eqx.partition(progress, eqx.is_array)

    def observe(
        state: PyTree, value: Float[Array, ""], number: Int[Array, ""], counted: Bool[Array, ""] | bool
    ) -> tuple[PyTree, Float[Array, ""], Float[Array, ""]]:
        observation = Observation(value, number, plan.horizon)
        new, contribution = problem.objective.contribute(state, observation)
        counted = counted & (number <= plan.horizon)
        zero = jnp.zeros_like(contribution)
        return select(counted, new, state), jnp.where(counted, contribution, zero), jnp.where(counted, value, 0.0)

    def body(dynamic: PyTree, xs: tuple[PRNGKeyArray, Int[Array, ""]]) -> tuple[PyTree, tuple[Array, Array]]:
        key, index = xs
        progress = eqx.combine(dynamic, static)
        inner, value = inner_step(algorithm, plan.task, progress.inner, key=key, second_order=problem.second_order)
        number = clock + index
        if halts:
            inner = select(number < plan.horizon, inner, progress.inner)
            # The value at the horizon is the one after the loop.
            counted = (index > 0) & (number < plan.horizon)
        else:
            counted = index > 0
        objective, contribution, seen = observe(progress.objective, value, number, counted)
        if problem.update_penalty:
            size = _squared_distance(inner.params, progress.inner.params)
            rate = problem.update_penalty / plan.horizon.astype(size.dtype)
            within = number < plan.horizon
            contribution = contribution + jnp.where(within, size * rate, 0.0).astype(contribution.dtype)
        return eqx.filter(Progress(inner, objective), eqx.is_array), (contribution, seen)

    body = jax.checkpoint(body) if remat else body
    xs = (jr.split(step_key, steps), jnp.arange(steps, dtype=clock.dtype))
    queries = problem.objective.queries
    contribute = ft.partial(_contribute, problem, progress.objective, plan.horizon)
    with explained(algorithm, plan.task, progress.inner.params, measured=queries, contribute=contribute):
        dynamic, (contributions, seen) = jax.lax.scan(body, dynamic, xs)
        progress = eqx.combine(dynamic, static)
        params = progress.inner.params
        if queries:
            value = plan.task.measure(params, key=end_key)
        else:
            value, _ = plan.task.evaluate(params, key=end_key)
        end = jnp.minimum(clock + steps, plan.horizon) if halts else clock + steps
        objective, contribution, last = observe(progress.objective, value, end, True)
        if jnp.shape(value) or jnp.shape(contribution):
            raise TypeError("The value of a task and the contribution of an objective are single numbers.")
    counted = jnp.clip(plan.horizon - clock, 1, steps)
    mean = (jnp.sum(seen) + last) / counted.astype(value.dtype)
    return Progress(progress.inner, objective), Outcome(jnp.sum(contributions) + contribution, mean)


def _contribute(problem: MetaProblem, state: PyTree, horizon: Int[Array, ""], value: Array) -> Any:
    """A contribution of the objective, to look at its shapes."""
    return problem.objective.contribute(state, Observation(value, jnp.ones_like(horizon), horizon))


def _is_divided(horizon: AbstractHorizon, steps: int) -> bool:
    """Whether every episode is known to be a number of whole loops."""
    return isinstance(horizon, ConstantHorizon) and horizon.longest % steps == 0


def _squared_distance(new: PyTree, old: PyTree) -> Float[Array, ""]:
    pairs = zip(jtu.tree_leaves(new), jtu.tree_leaves(old), strict=True)
    return add_up(
        [jnp.sum(jnp.square((a - b).astype(compute_dtype(a.dtype)))) for a, b in pairs if eqx.is_inexact_array(a)]
    )
