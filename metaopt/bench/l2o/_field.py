"""Many runs on one family of tasks."""

from collections.abc import Sequence
from typing import Any

import jax.random as jr
import numpy as np
from jaxtyping import Float

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner
from ...evaluate import speedup_at_target
from ...evaluate._baselines import Baseline
from ...evaluate._curves import geometric_mean
from ...evaluate._program import Programs, record_steps


PILOT_SEED = 1000
"""Of the tasks that optimizers are tuned on."""


class Field:
    """All runs on one family; each method is compiled once, for all seeds and rates.

    **Arguments:**

    - `family`: the tasks.
    - `steps`: their budget.
    - `every`: after how many steps to measure.
    - `tasks`: how many tasks a seed has.
    """

    def __init__(self, family: AbstractTaskFamily, steps: int, *, every: int, tasks: int):
        self.family, self.tasks = family, tasks
        self.steps = record_steps(steps, every)
        self._programs = Programs()

    def run(
        self, algorithm: AbstractAlgorithm[Any, Any, Any], seed: int, *, seen_as: AbstractTaskFamily | None = None
    ) -> Float[np.ndarray, "tasks records"]:
        """The curves of the tasks of a seed. `seen_as` is the same family with the signal that the algorithm needs."""
        return self._run(algorithm, seed, np.ones(self.steps.size, bool), seen_as)

    def finals(self, make: Baseline, rates: Sequence[float]) -> Float[np.ndarray, " rates"]:
        """The final loss with each rate, on tasks for nothing else."""
        last = np.arange(self.steps.size) == self.steps.size - 1
        return np.asarray([geometric(self._run(make(rate), PILOT_SEED, last))[-1] for rate in rates])

    def speedups(self, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Float[np.ndarray, " seeds"]:
        """How many times fewer steps one needs than the other, curve by curve."""
        return np.asarray([speedup_at_target(a, b, steps=self.steps) for a, b in zip(ours, theirs, strict=True)])

    def _run(
        self,
        algorithm: AbstractAlgorithm[Any, Any, Any],
        seed: int,
        recorded: np.ndarray,
        seen_as: AbstractTaskFamily | None = None,
    ) -> Float[np.ndarray, "tasks recorded"]:
        family, keys = self.family if seen_as is None else seen_as, jr.split(jr.key(seed), self.tasks)
        return self._programs.run(Learner(algorithm), family, keys, self.steps, recorded)


def geometric(values: Float[np.ndarray, "tasks records"]) -> Float[np.ndarray, " records"]:
    """The geometric mean over tasks; zero counts as the smallest number there is."""
    return geometric_mean(np.maximum(values, 1e-45))
