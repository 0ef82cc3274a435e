"""The driver of reinforcement learning."""

import functools as ft
import os
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._core import CheckpointError
from .._core._compiling import quick_options
from .._core._interrupts import deferred_interrupts
from .._core._progress import progress_bar
from .._core.arrays._numbers import check_counts, check_seconds
from .._core.files._checkpoint_file import CheckpointFile
from .._core.files._curves import Curves
from ._spaces import Actor
from .agents._rollout import returns
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
    checkpoint_seconds: float | None = 600.0,
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
    - `checkpoint`: a file to which everything is saved with each evaluation and at the end, or each tenth of the way,
        and on Ctrl-C and SIGTERM, which wait for the end of the chunk that runs, as in [`metaopt.meta_train`][]. The
        curves are in a second file beside it, `checkpoint` + `.curves`; keep both together. No second run can write
        there at the same time.
    - `checkpoint_seconds`: how many seconds pass at most before it is saved again; `None` does not look at the clock.
    - `resume`: go on from `checkpoint` if that file exists; the result is the same as without the interruption.
    - `quick`: whether to compile in half the time for programs that may be half as fast again: for trainings of
        seconds on a CPU.
    - `progress`: whether to show a progress bar.

    **Returns:**

    A [`metaopt.rl.TrainResult`][].

    **Raises:**

    - `ValueError`: if a count is below 1, `checkpoint_seconds` is not above 0, or for `resume` without `checkpoint`.
    - `OSError`: if the checkpoint cannot be written. A `FileExistsError` if it is that of another run and `resume` is
        not given, a `BlockingIOError` if another run writes it now.
    - [`metaopt.CheckpointError`][]: if the checkpoint to resume from is damaged or does not fit, or its curves are
        missing, damaged, or of another run.
    """
    begun = time.perf_counter()
    every = max(1, steps // 10) if evaluate_every is None else evaluate_every
    check_counts(steps=steps, evaluate_every=every, episodes=episodes)
    check_seconds(checkpoint_seconds=checkpoint_seconds)
    if resume and checkpoint is None:
        raise ValueError("`resume=True` needs the `checkpoint` file to resume from.")
    start_key, run_key, evaluation_key = jr.split(key, 3)
    init, advance, evaluate = (_compiled(function, quick) for function in (_init, _advance, _evaluate))
    state = init(agent, environment, start_key)
    best = agent.actor(state, environment)
    run = _Run(state, best, checkpoint, resume)
    longest = max(1, steps // _CHUNKS)
    place = None if checkpoint is None else os.fspath(checkpoint)
    bar = progress_bar(steps, done=len(run.rewards), unit="update", enabled=progress)
    with deferred_interrupts(place=place) as let_interrupts_through, bar:
        try:
            while len(run.rewards) < steps:
                done = len(run.rewards)
                count = min(longest, every * (done // every + 1) - done, steps - done)
                numbers = (jnp.asarray(n, jnp.int32) for n in (done, count, steps))
                run.state, new = advance(agent, run.state, environment, *numbers, jnp.zeros(longest), run_key)
                run.rewards += np.asarray(new)[:count].tolist()
                due = len(run.rewards) % every == 0 or len(run.rewards) == steps
                if due and evaluation is not None:
                    actor = agent.actor(run.state, environment)
                    run.judge(actor, float(evaluate(actor, evaluation, episodes, evaluation_key)))
                run.settle()
                let_interrupts_through()
                if due or run.is_late(checkpoint_seconds):
                    run.save()
                bar.set_postfix(run.postfix(), refresh=False)
                bar.update(count)
        except (KeyboardInterrupt, SystemExit):
            run.save()
            raise
        finally:
            run.release()
    last = agent.actor(run.state, environment)
    return TrainResult(
        actor=run.best if run.evaluations else last,
        last=last,
        rewards=run.rewards,
        evaluations=run.evaluations,
        state=run.state,
        best_step=run.best_step if run.evaluations else steps,
        seconds=time.perf_counter() - begun,
    )


class _Run:
    """The host side of one `train` call: curves and files."""

    def __init__(self, state: PyTree, best: Actor, checkpoint: str | os.PathLike[str] | None, resume: bool):
        self.state, self.best, self.best_step = state, best, 0
        self.rewards: list[float] = []
        self.evaluations: list[tuple[int, float]] = []
        self.saved = time.monotonic()
        self.store = None if checkpoint is None else CheckpointFile(checkpoint)
        try:
            found = self.store.load(lambda _: (state, best)) if self.store is not None and resume else None
            if self.store is not None and not resume:
                self.store.refuse_another()
        except BaseException:
            self.release()
            raise
        if found is not None:
            (self.state, self.best), kept, curves = found
            # Old checkpoints have their curves among the metadata.
            try:
                rewards, evaluations = (kept["rewards"], kept["evaluations"]) if curves is None else curves
                self.rewards, self.best_step = [float(reward) for reward in rewards], int(kept["best_step"])
                self.evaluations = [(int(step), float(value)) for step, value in evaluations]
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                self.release()
                raise CheckpointError(f"`{checkpoint}` does not fit: it was not written by this training.") from error
        self.settle()

    def judge(self, actor: Actor, value: float) -> None:
        if not self.evaluations or value > max(value for _, value in self.evaluations):
            self.best, self.best_step = actor, len(self.rewards)
        self.evaluations.append((len(self.rewards), value))

    def settle(self) -> None:
        """Remember this moment, at which nothing is half done: what is saved, whenever an interrupt comes."""
        self.settled = (self.state, self.best, self.best_step, len(self.rewards), len(self.evaluations))

    def save(self) -> None:
        state, best, best_step, step, evaluations = self.settled
        if self.store is not None:
            metadata = {"kind": "reinforcement learning", "updates": step, "best_step": best_step}
            curves = Curves(self.rewards[:step], self.evaluations[:evaluations])
            self.store.save(step, (state, best), metadata, curves)
        self.saved = time.monotonic()

    def is_late(self, seconds: float | None) -> bool:
        return seconds is not None and time.monotonic() - self.saved >= seconds

    def release(self) -> None:
        if self.store is not None:
            self.store.release()

    def postfix(self) -> dict[str, str]:
        shown = {"reward": f"{self.rewards[-1]:.4g}"}
        return shown | ({"return": f"{self.evaluations[-1][1]:.4g}"} if self.evaluations else {})
