"""The driver of reinforcement learning."""

import functools as ft
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._core import CheckpointError, load, read_header, save
from .._core._compiling import quick_options
from .._core._numbers import check_counts
from .._core._progress import progress_bar
from ._rollout import returns
from ._spaces import Actor
from .base import AbstractAgent, AbstractEnvironment


_CHUNKS = 20


class TrainResult(eqx.Module):
    """What [`metaopt.rl.train`][] returns.

    - `actor`: the actor with the best mean return on evaluations, or the last one if there were none.
    - `last`: the actor after the last update.
    - `rewards`: the mean reward of a step, for each update, while exploring.
    - `evaluations`: each evaluation, as `(update, mean return)`.
    - `state`: of the agent.
    - `best_step`: the update of `actor`.
    - `seconds`: wall-clock time of this call.
    """

    actor: Actor
    last: Actor
    rewards: list[float]
    evaluations: list[tuple[int, float]]
    state: PyTree
    best_step: int
    seconds: float


def _advance(
    agent: AbstractAgent[Any],
    state: PyTree,
    environment: AbstractEnvironment[Any],
    begin: Int[Array, ""],
    count: Int[Array, ""],
    steps: Int[Array, ""],
    rewards: Float[Array, " longest"],
    key: PRNGKeyArray,
) -> tuple[PyTree, Float[Array, " longest"]]:
    dynamic, static = eqx.partition(state, eqx.is_array)

    def body(i: Int[Array, ""], carry: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        dynamic, rewards = carry
        done = (begin + i).astype(rewards.dtype) / steps.astype(rewards.dtype)
        # Keys depend on the number of the update alone, so that a resumed run is the same run.
        state, metrics = agent.update(eqx.combine(dynamic, static), environment, done, key=jr.fold_in(key, begin + i))
        return eqx.filter(state, eqx.is_array), rewards.at[i].set(metrics["reward"].astype(rewards.dtype))

    dynamic, rewards = jax.lax.fori_loop(0, count, body, (dynamic, rewards))
    return eqx.combine(dynamic, static), rewards


def _init(agent: AbstractAgent[Any], environment: AbstractEnvironment[Any], key: PRNGKeyArray) -> PyTree:
    return agent.init(environment, key=key)


def _evaluate(
    actor: Actor, environment: AbstractEnvironment[Any], episodes: int, key: PRNGKeyArray
) -> Float[Array, ""]:
    return jnp.mean(returns(actor, environment, episodes=episodes, key=key))


@ft.cache
def _compiled(function: Callable[..., Any], quick: bool) -> Callable[..., Any]:
    jit: Any = eqx.filter_jit
    # Networks are small here: what more XLA does takes it as long again, and the program is not faster.
    return jit(function, compiler_options=quick_options(1, emitters=not quick))


def train(
    agent: AbstractAgent[Any],
    environment: AbstractEnvironment[Any],
    *,
    steps: int,
    key: PRNGKeyArray,
    evaluation: AbstractEnvironment[Any] | None = None,
    evaluate_every: int | None = None,
    episodes: int = 128,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    quick: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train an agent, in compiled chunks, with a progress bar.

    **Arguments:**

    - `agent`: how to learn.
    - `environment`: where.
    - `steps`: how many updates, at least 1.
    - `key`: the key of the run.
    - `evaluation`: an environment of held-out instances, on which the actor is evaluated without exploration, always
        on the same ones. The best actor is kept.
    - `evaluate_every`: updates between evaluations; by default a tenth of `steps`.
    - `episodes`: how many episodes an evaluation has.
    - `checkpoint`: a file to which everything is saved with each evaluation and at the end, or each tenth of the way.
    - `resume`: go on from `checkpoint` if that file exists; the result is the same as without the interruption.
    - `quick`: whether to compile in half the time for programs that may be half as fast again: for trainings of
        seconds on a CPU.
    - `progress`: whether to show a progress bar.

    **Returns:**

    A [`metaopt.rl.TrainResult`][].

    **Raises:**

    - `ValueError`: if a count is below 1, or for `resume` without `checkpoint`.
    - [`metaopt.CheckpointError`][]: if the checkpoint to resume from is damaged or does not fit.
    """
    begun = time.perf_counter()
    every = max(1, steps // 10) if evaluate_every is None else evaluate_every
    check_counts(steps=steps, evaluate_every=every, episodes=episodes)
    if resume and checkpoint is None:
        raise ValueError("`resume=True` needs the `checkpoint` file to resume from.")
    start_key, run_key, evaluation_key = jr.split(key, 3)
    init, advance, evaluate = (_compiled(function, quick) for function in (_init, _advance, _evaluate))
    state = init(agent, environment, start_key)
    best = agent.actor(state, environment)
    rewards: list[float] = []
    evaluations: list[tuple[int, float]] = []
    best_step = 0
    if checkpoint is not None and resume and pathlib.Path(checkpoint).exists():
        state, best = load(checkpoint, (state, best))
        kept = read_header(checkpoint)["metadata"]
        try:
            rewards, best_step = [float(reward) for reward in kept["rewards"]], int(kept["best_step"])
            evaluations = [(int(step), float(value)) for step, value in kept["evaluations"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"`{checkpoint}` does not fit: it was not written by this training.") from error
    longest = max(1, steps // _CHUNKS)
    with progress_bar(steps, done=len(rewards), unit="update", enabled=progress) as bar:
        while len(rewards) < steps:
            done = len(rewards)
            count = min(longest, every * (done // every + 1) - done, steps - done)
            numbers = (jnp.asarray(n, jnp.int32) for n in (done, count, steps))
            state, new = advance(agent, state, environment, *numbers, jnp.zeros(longest), run_key)
            rewards += np.asarray(new)[:count].tolist()
            if len(rewards) % every == 0 or len(rewards) == steps:
                if evaluation is not None:
                    actor = agent.actor(state, environment)
                    value = float(evaluate(actor, evaluation, episodes, evaluation_key))
                    if not evaluations or value > max(value for _, value in evaluations):
                        best, best_step = actor, len(rewards)
                    evaluations.append((len(rewards), value))
                if checkpoint is not None:
                    curves = {"rewards": rewards, "evaluations": evaluations, "best_step": best_step}
                    save(checkpoint, (state, best), metadata=curves)
            shown = {"reward": f"{rewards[-1]:.4g}"}
            bar.set_postfix(shown | ({"return": f"{evaluations[-1][1]:.4g}"} if evaluations else {}), refresh=False)
            bar.update(count)
    last = agent.actor(state, environment)
    return TrainResult(
        actor=best if evaluations else last,
        last=last,
        rewards=rewards,
        evaluations=evaluations,
        state=state,
        best_step=best_step if evaluations else steps,
        seconds=time.perf_counter() - begun,
    )
