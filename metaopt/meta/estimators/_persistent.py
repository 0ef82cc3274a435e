"""Episodes that outlive an estimate: many tasks side by side, each at its own clock."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from ..._core import Learner
from ..._core.arrays._trees import select
from ..base import MetaProblem
from ._episode import Plan, Progress, begin, plan


class Episodes(eqx.Module):
    """Running episodes, each array with a leading axis of tasks.

    `clock` counts updates; an episode is over when it reaches `deadline` (the horizon, except for first episodes that
    were cut short so that the tasks are spread over all clocks).
    """

    plan: Plan
    progress: Progress
    clock: Int[Array, "*tasks"]
    deadline: Int[Array, "*tasks"]
    index: Int[Array, "*tasks"]


def check_truncation(truncation: int, problem: MetaProblem) -> None:
    """**Raises:** `ValueError` if a truncation is below 1 or longer than any episode."""
    if truncation < 1:
        raise ValueError(f"`truncation` must be at least 1, but {truncation} was given.")
    if truncation > problem.horizon.longest:
        raise ValueError(
            f"`truncation={truncation}` is longer than the longest horizon, {problem.horizon.longest}. Use a shorter "
            "truncation or a longer horizon."
        )


def first_episodes(
    learner: Learner, problem: MetaProblem, truncation: int, stagger: bool, *, key: PRNGKeyArray
) -> Episodes:
    """Start all episodes; with `stagger` the first ones end early, evenly spread, so that clocks are too."""
    start_key, shift_key = jr.split(key)
    plans, progress = _fresh(learner, problem, jnp.arange(problem.tasks), start_key)
    deadline = first_deadlines(plans.horizon, truncation, stagger, key=shift_key)
    clock = jnp.zeros(problem.tasks, jnp.int32)
    return Episodes(plans, progress, clock, deadline, jnp.arange(problem.tasks))


def first_deadlines(
    horizon: Int[Array, " tasks"], truncation: int, stagger: bool, *, key: PRNGKeyArray
) -> Int[Array, " tasks"]:
    """When first episodes end: at their horizons, or spread evenly over the truncations before."""
    if not stagger:
        return horizon
    windows = -(-horizon // truncation)
    rank = jr.permutation(key, jnp.arange(horizon.shape[0], dtype=horizon.dtype))
    return jnp.minimum((windows - rank % windows) * truncation, horizon)


def _fresh(
    learner: Learner, problem: MetaProblem, index: Int[Array, " tasks"], key: PRNGKeyArray
) -> tuple[Plan, Progress]:
    return eqx.filter_vmap(lambda i: _fresh_one(learner, problem, i, key))(index)


def _fresh_one(
    learner: Learner, problem: MetaProblem, index: Int[Array, ""], key: PRNGKeyArray
) -> tuple[Plan, Progress]:
    plan_key, start_key = jr.split(jr.fold_in(key, index))
    drawn = plan(problem, key=plan_key)
    return drawn, begin(learner, problem, drawn, key=start_key)


def restart_if_done(episode: Episodes, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> Episodes:
    """Replace an episode that is over by a fresh one; without an axis of tasks."""
    drawn, progress = _fresh_one(learner, problem, episode.index, key)
    fresh = Episodes(drawn, progress, jnp.zeros_like(episode.clock), drawn.horizon, episode.index)
    return select(episode.clock >= episode.deadline, fresh, episode)


def finish(episodes: Episodes, progress: Progress, truncation: int, finite: Bool[Array, " tasks"]) -> Episodes:
    """Go on to the next truncation; an episode that is not finite is over."""
    clock = jnp.where(finite, episodes.clock + truncation, episodes.deadline)
    return Episodes(episodes.plan, progress, clock, episodes.deadline, episodes.index)
