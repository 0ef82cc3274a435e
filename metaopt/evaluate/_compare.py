"""Learners against tuned baselines, on the same tasks."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from .._core import AbstractAlgorithm, AbstractTaskFamily, Learner
from .._core._progress import progress_bar
from .._core._task import check_family
from .._core.arrays._numbers import check_counts
from ._baselines import BASELINES, Baseline
from ._comparison import Comparison, Run
from ._curves import Statistic, summarize
from ._machine import machine
from ._program import Programs, record_steps
from ._tuning import Tuning, tune


Contestant = Learner | AbstractAlgorithm[Any, Any, Any]


def compare(
    learners: Mapping[str, Contestant | Sequence[Contestant]],
    family: AbstractTaskFamily,
    *,
    steps: int,
    key: PRNGKeyArray,
    tuning_family: AbstractTaskFamily | None = None,
    num_tasks: int = 32,
    seeds: int = 5,
    tuning_tasks: int | None = None,
    rates: Sequence[float] | Float[np.ndarray, " rates"] | None = None,
    baselines: Sequence[str] | Mapping[str, Baseline] = ("sgd", "momentum", "adam", "adamw", "adam_cosine"),
    horizons: Sequence[int] = (1, 3),
    record_every: int | None = None,
    statistic: Statistic = "median",
    timing_repeats: int = 3,
    progress: bool = True,
) -> Comparison:
    """Compare learned optimizers with tuned baselines.

    Each baseline is tuned by itself for each horizon: it runs on *tuning* tasks with every rate of the grid, and the
    rate with the lowest final loss (summarized over tasks by `statistic`, a task that diverged counting as infinite)
    is chosen. While that rate lies at the edge of the grid, the grid is extended, up to twice. Learners are not tuned.

    All methods then meet the same held-out tasks, from the same starts, with the same minibatches and measurements.
    What is compared is the task's `measure`, not the minibatch loss. It is recorded every `record_every` steps, and
    linearly interpolated in between; at longer horizons as many records lie further apart.

    Each method is compiled once for all rates, seeds and horizons.

    **Arguments:**

    - `learners`: learners or algorithms by name. A sequence holds the results of several meta-training runs: the tasks
        of seed $i$ are given to its $i$-th member, starting over when it ends.
    - `family`: the tasks to compare on.
    - `steps`: the training horizon; at least 1.
    - `key`: the key of the comparison.
    - `tuning_family`: the tasks to tune the baselines on; by default other tasks of `family`.
    - `num_tasks`: how many tasks each seed has.
    - `seeds`: how often to repeat with other tasks.
    - `tuning_tasks`: how many tasks to tune on; by default `num_tasks`.
    - `rates`: the grid of learning rates; by default 15 from $10^{-3.5}$ to $10^{0.5}$.
    - `baselines`: names out of [`metaopt.evaluate.BASELINES`][], or functions from a rate to an algorithm by name.
    - `horizons`: multiples of `steps` to run for.
    - `record_every`: by default a hundredth of `steps`.
    - `statistic`: how to summarize tasks.
    - `timing_repeats`: how often to run each method for timing; none gives NaN for a time.
    - `progress`: whether to show a progress bar.

    **Returns:**

    A [`metaopt.evaluate.Comparison`][].

    **Raises:**

    - `ValueError`: if a number is out of range, a name is unknown or used twice, there is nothing to compare, or
        `learners` holds an empty sequence or one that is longer than `seeds`.
    - `TypeError`: if the tasks of a family differ in shape.
    """
    record_every = max(1, steps // 100) if record_every is None else record_every
    tuning_tasks = num_tasks if tuning_tasks is None else tuning_tasks
    check_counts(
        steps=steps,
        num_tasks=num_tasks,
        seeds=seeds,
        tuning_tasks=tuning_tasks,
        record_every=record_every,
        **{f"horizons[{i}]": horizon for i, horizon in enumerate(horizons)},
    )
    horizons = tuple(dict.fromkeys(horizons))
    if not horizons or not (learners or baselines):
        raise ValueError("There is nothing to compare: `horizons`, or both `learners` and `baselines`, are empty.")
    for each in [family] if tuning_family is None else [family, tuning_family]:
        check_family(each)
    contestants = {name: _members(name, learner, seeds) for name, learner in learners.items()}
    named = _named(baselines, contestants)
    grid = np.logspace(-3.5, 0.5, 15) if rates is None else np.asarray(rates, float)
    tuning_key, evaluation_key = jr.split(key)
    tuning_keys = jr.split(tuning_key, tuning_tasks)
    keys = [jr.split(jr.fold_in(evaluation_key, seed), num_tasks) for seed in range(seeds)]
    total = len(horizons) * (len(named) * (grid.size + seeds) + len(contestants) * seeds)
    with progress_bar(total, done=0, unit="run", enabled=progress) as bar:
        arena = _Arena(family, keys, record_steps(steps, record_every), timing_repeats, bar)
        tuner = _Tuner(arena, family if tuning_family is None else tuning_family, tuning_keys, grid, statistic)
        runs = []
        for horizon in horizons:
            runs += [arena.run(name, members, horizon, None) for name, members in contestants.items()]
            for name, baseline in named.items():
                tuning = tuner.tune(name, baseline, horizon)
                runs.append(arena.run(name, [Learner(baseline(tuning.rate))], horizon, tuning))
    return Comparison(tuple(runs), statistic, _describe(family), machine())


@dataclasses.dataclass(frozen=True)
class _Arena:
    """The tasks that all methods meet."""

    family: AbstractTaskFamily
    keys: list[Key[Array, " tasks"]]
    positions: Int[np.ndarray, " records"]
    timing_repeats: int
    bar: Any
    programs: Programs = dataclasses.field(default_factory=Programs)

    def run(self, name: str, members: Sequence[Learner], horizon: int, tuning: Tuning | None) -> Run:
        self.bar.set_description(f"{name} {horizon}x")
        positions = self.positions * horizon
        everywhere = np.ones(positions.size, bool)
        values = []
        for seed, keys in enumerate(self.keys):
            learner = members[seed % len(members)]
            values.append(self.programs.run(learner, self.family, keys, positions, everywhere))
            self.bar.update(1)
        cost = self.programs.cost(members[0], self.family, self.keys[0], positions, self.timing_repeats)
        return Run(name, tuning is None, horizon, positions, np.stack(values), tuning, cost)


@dataclasses.dataclass(frozen=True)
class _Tuner:
    """The tasks that baselines are tuned on."""

    arena: _Arena
    family: AbstractTaskFamily
    keys: Key[Array, " tasks"]
    rates: Float[np.ndarray, " rates"]
    statistic: Statistic

    def tune(self, name: str, baseline: Baseline, horizon: int) -> Tuning:
        self.arena.bar.set_description(f"tuning {name} {horizon}x")
        positions = self.arena.positions * horizon
        only_the_end = np.arange(positions.size) == positions.size - 1

        def score(rate: float) -> float:
            learner = Learner(baseline(rate))
            final = self.arena.programs.run(learner, self.family, self.keys, positions, only_the_end)
            self.arena.bar.update(1)
            return float(summarize(final[:, 0], self.statistic))

        tuning = tune(score, self.rates)
        self.arena.bar.total += tuning.rates.size - self.rates.size
        return tuning


def _members(name: str, learner: Contestant | Sequence[Contestant], seeds: int) -> list[Learner]:
    members = [learner] if isinstance(learner, Learner | AbstractAlgorithm) else list(learner)
    if not 1 <= len(members) <= seeds:
        raise ValueError(
            f"`learners['{name}']` has {len(members)} members for {seeds} seeds. Give between 1 and `seeds` learners, "
            "so that each of them runs on the tasks of some seed."
        )
    return [member if isinstance(member, Learner) else Learner(member) for member in members]


def _named(baselines: Sequence[str] | Mapping[str, Baseline], taken: Mapping[str, Any]) -> dict[str, Baseline]:
    if isinstance(baselines, Mapping):
        named: dict[str, Callable[..., Any]] = dict(baselines)
    else:
        unknown = [name for name in baselines if name not in BASELINES]
        if unknown:
            raise ValueError(f"There is no baseline {unknown[0]!r}. Those known are {', '.join(BASELINES)}.")
        named = {name: BASELINES[name] for name in baselines}
    twice = sorted(set(named) & set(taken))
    if twice:
        raise ValueError(f"{twice[0]!r} is the name of a learner and of a baseline. Rename the learner.")
    return named


def _describe(family: AbstractTaskFamily) -> str:
    return " ".join(eqx.tree_pformat(family, width=10**6).split())
