"""Antithetic evolution strategies over episodes: what ES, PES, NRES and ES-Single share."""

import itertools as it
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..._core import Learner
from ..._core.arrays._trees import select
from ..base import MetaGradient, MetaProblem
from ._batches import advance_tasks
from ._episode import Outcome, Plan, Progress, advance, begin, plan
from ._partition import average, partition
from ._persistent import first_deadlines


class Particles(eqx.Module):
    """Running pairs of episodes, each array with a leading axis of tasks.

    Both particles of a pair share task, horizon and minibatches; `progress` has a second axis of length 2 for them.
    `noise` is what the difference of the pair is multiplied with: the sum of the perturbations so far (PES), or the
    one perturbation of the episode (NRES, ES-Single).
    """

    plan: Plan
    progress: Progress
    noise: PyTree
    clock: Int[Array, "*tasks"]
    deadline: Int[Array, "*tasks"]
    index: Int[Array, "*tasks"]


def draw(trained: Learner, std: float, *, key: PRNGKeyArray) -> Learner:
    """A Gaussian perturbation of the trained leaves."""
    leaves, structure = jtu.tree_flatten(trained)
    # One long draw per dtype: a draw per leaf takes most of the time that compiling takes.
    dtypes = sorted({x.dtype for x in leaves}, key=str)
    drawn = {}
    for dtype, k in zip(dtypes, jr.split(key, len(dtypes)), strict=True):
        own = [i for i, x in enumerate(leaves) if x.dtype == dtype]
        stops = list(it.accumulate(leaves[i].size for i in own))
        parts = jnp.split(std * jr.normal(k, (stops[-1],), dtype), stops[:-1])
        drawn |= {i: part.reshape(leaves[i].shape) for i, part in zip(own, parts, strict=True)}
    return jtu.tree_unflatten(structure, [drawn[i] for i in range(len(leaves))])


def pair(trained: Learner, noise: Learner) -> Learner:
    """The two antithetic particles, stacked on a leading axis."""
    return jtu.tree_map(lambda x, e: jnp.stack([x + e, x - e]), trained, noise)


def begin_pair(pair: Learner, rest: Learner, problem: MetaProblem, plan: Plan, *, key: PRNGKeyArray) -> Progress:
    """Start both particles from the same key."""
    return eqx.filter_vmap(lambda t: begin(eqx.combine(t, rest), problem, plan, key=key))(pair)


def advance_pair(
    pair: Learner,
    rest: Learner,
    problem: MetaProblem,
    plan: Plan,
    progress: Progress,
    clock: Int[Array, ""],
    *,
    steps: int,
    key: PRNGKeyArray,
) -> tuple[Progress, Outcome]:
    """Advance both particles on the same minibatches."""

    def one(trained: Learner, progress: Progress) -> tuple[Progress, Outcome]:
        return advance(eqx.combine(trained, rest), problem, plan, progress, clock, steps=steps, key=key)

    return eqx.filter_vmap(one)(pair, progress)


def slope(outcome: Outcome, noise: Learner, std: float) -> tuple[Learner, Float[Array, ""], Any]:
    r"""One pair's estimate $\frac{L^+ - L^-}{2\sigma^2} \, \xi$ for the multiplier $\xi$; zero if it is not finite."""
    finite = jnp.all(jnp.isfinite(outcome.contribution))
    difference = outcome.contribution[0] - outcome.contribution[1]
    difference = jnp.where(finite, difference, 0.0) / (2.0 * std**2)
    return jtu.tree_map(lambda e: difference.astype(e.dtype) * e, noise), jnp.mean(outcome.value), finite


def first_particles(
    learner: Learner,
    problem: MetaProblem,
    *,
    std: float,
    truncation: int,
    stagger: bool,
    reuse: bool,
    key: PRNGKeyArray,
) -> Particles:
    """Start all pairs."""
    trained, rest = partition(learner, problem)
    start_key, shift_key = jr.split(key)

    def one(i: Int[Array, ""]) -> tuple[Plan, Progress, Learner]:
        plan_key, noise_key, begin_key = jr.split(jr.fold_in(start_key, i), 3)
        drawn = plan(problem, key=plan_key)
        noise = draw(trained, std if reuse else 0.0, key=noise_key)
        return drawn, begin_pair(pair(trained, noise), rest, problem, drawn, key=begin_key), noise

    index = jnp.arange(problem.tasks)
    plans, progress, noise = eqx.filter_vmap(one)(index)
    deadline = first_deadlines(plans.horizon, truncation, stagger, key=shift_key)
    return Particles(plans, progress, noise, jnp.zeros(problem.tasks, jnp.int32), deadline, index)


def step_particles(
    state: Particles,
    learner: Learner,
    problem: MetaProblem,
    *,
    std: float,
    truncation: int,
    reuse: bool,
    key: PRNGKeyArray,
) -> tuple[Particles, MetaGradient]:
    """One truncation of all pairs: restart what is over, perturb, advance, and weigh the differences.

    With `reuse` an episode keeps its first perturbation; without, each truncation draws one, and the differences are
    multiplied with their sum.
    """
    from ...backend import automatic  # only those who train need it

    trained, rest = partition(learner, problem)

    def one(s: Particles) -> tuple[Particles, tuple[Learner, Array, Array]]:
        plan_key, noise_key, begin_key, run_key = jr.split(jr.fold_in(key, s.index), 4)
        done = s.clock >= s.deadline
        drawn = draw(trained, std, key=noise_key)
        if reuse:
            noise = select(done, drawn, s.noise)
            particles = pair(trained, noise)
        else:
            particles, noise = automatic().perturb(trained, drawn, s.noise, done)
        fresh = plan(problem, key=plan_key)
        begun = begin_pair(particles, rest, problem, fresh, key=begin_key)
        plan_, progress, clock, deadline = select(
            done,
            (fresh, begun, jnp.zeros_like(s.clock), fresh.horizon),
            (s.plan, s.progress, s.clock, s.deadline),
        )
        progress, outcome = advance_pair(
            particles, rest, problem, plan_, progress, clock, steps=truncation, key=run_key
        )
        grads, value, finite = slope(outcome, noise, std)
        clock = jnp.where(finite, clock + truncation, deadline)
        return Particles(plan_, progress, noise, clock, deadline, s.index), (grads, value, finite)

    state, (grads, values, finite) = advance_tasks(one, problem, state)
    windows = problem.horizon.mean_truncations(truncation)
    return state, average(grads, values, finite, windows, trained, problem)


def check_std(std: float) -> None:
    """**Raises:** `ValueError` if the standard deviation is not positive."""
    if not std > 0:
        raise ValueError(f"`std` must be positive, but {std} was given.")
