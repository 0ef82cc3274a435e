"""What a comparison found."""

import os
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from ._curves import Statistic, geometric_mean, quartiles, speedup_at_target, steps_to_target, summarize
from ._json import to_json, write_json
from ._program import Cost
from ._tables import tables
from ._tuning import Tuning


class Run(eqx.Module):
    """One method on all tasks, at one horizon.

    - `method`: its name.
    - `learned`: whether it is a learner rather than a baseline.
    - `horizon`: the horizon as a multiple of the training horizon.
    - `steps`: after how many steps the curves were recorded.
    - `values`: what was measured; infinite where it was not a number.
    - `tuning`: how the learning rate of a baseline was chosen.
    - `cost`: time and memory.
    """

    method: str
    learned: bool
    horizon: int
    steps: Int[np.ndarray, " records"]
    values: Float[np.ndarray, "seeds tasks records"]
    tuning: Tuning | None
    cost: Cost

    @property
    def pooled(self) -> Float[np.ndarray, "all_tasks records"]:
        """The curves of the tasks of all seeds."""
        return self.values.reshape(-1, self.values.shape[-1])

    @property
    def final(self) -> Float[np.ndarray, "seeds tasks"]:
        """The loss of each task at the end."""
        return self.values[:, :, -1]


class Speedup(eqx.Module):
    """A learner against a baseline.

    - `overall`: the speedup on the curves summarized over all tasks; see
        [`metaopt.evaluate.speedup_at_target`][]. Zero if the learner never got where the baseline ended.
    - `bound`: the speedup is below this if `overall` is zero; the steps that the baseline needed over all steps that
        the learner had.
    - `seeds`: the same as `overall` for each seed by itself.
    - `tasks`: the same for each task by itself.
    - `reached`: for which tasks the learner got to the final loss of the baseline on that task.
    - `won`: the share of tasks with a lower final loss than the baseline's; a tie counts half.
    """

    overall: float
    bound: float
    seeds: Float[np.ndarray, " seeds"]
    tasks: Float[np.ndarray, "seeds tasks"]
    reached: Bool[np.ndarray, "seeds tasks"]
    won: float


class Comparison(eqx.Module):
    """What [`metaopt.evaluate.compare`][] found, as numpy arrays.

    - `runs`: all methods at all horizons.
    - `statistic`: how tasks were summarized, for tuning and for curves.
    - `family`: the tasks, as text.
    - `machine`: see [`metaopt.evaluate.machine`][].
    """

    runs: tuple[Run, ...]
    statistic: Statistic
    family: str
    machine: dict[str, Any]

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of all methods, learners first."""
        return tuple(dict.fromkeys(run.method for run in self.runs))

    @property
    def horizons(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(run.horizon for run in self.runs))

    def run(self, method: str, horizon: int = 1) -> Run:
        """The run of one method at one horizon.

        **Raises:**

        - `ValueError`: if there is no such run, naming those that there are.
        """
        for run in self.runs:
            if run.method == method and run.horizon == horizon:
                return run
        raise ValueError(
            f"There is no method `{method}` at horizon {horizon}. The methods are {', '.join(self.methods)}; the "
            f"horizons {', '.join(map(str, self.horizons))}."
        )

    def curve(self, method: str, horizon: int = 1) -> Float[np.ndarray, " records"]:
        """The learning curve of a method, summarized over all tasks."""
        return summarize(self.run(method, horizon).pooled, self.statistic)

    def speedup(self, method: str, baseline: str, horizon: int = 1) -> Speedup:
        """Compare two methods at one horizon."""
        ours, theirs = self.run(method, horizon), self.run(baseline, horizon)

        def ratio(a: Float[np.ndarray, " records"], b: Float[np.ndarray, " records"]) -> float:
            return speedup_at_target(a, b, steps=ours.steps)

        pairs = [list(zip(a, b, strict=True)) for a, b in zip(ours.values, theirs.values, strict=True)]
        tasks = np.asarray([[ratio(a, b) for a, b in group] for group in pairs])
        per_seed = [
            ratio(summarize(a, self.statistic), summarize(b, self.statistic))
            for a, b in zip(ours.values, theirs.values, strict=True)
        ]
        baseline_curve = self.curve(baseline, horizon)
        needed = steps_to_target(baseline_curve, float(baseline_curve[-1]), steps=ours.steps)
        wins = np.mean(ours.final < theirs.final) + np.mean(ours.final == theirs.final) / 2
        return Speedup(
            overall=ratio(self.curve(method, horizon), baseline_curve),
            bound=min(needed / float(ours.steps[-1]), 1.0) if np.isfinite(baseline_curve[-1]) else 1.0,
            seeds=np.asarray(per_seed),
            tasks=tasks,
            reached=tasks > 0,
            won=float(wins),
        )

    def rows(self) -> list[dict[str, Any]]:
        """All figures, one flat mapping per method and horizon. Speedups are listed with the learners.

        `final` is the final loss, summarized by `statistic`; `final_median`, `final_quartiles`, `final_geometric_mean`
        are over all tasks, `final_seeds` is `statistic` for each seed. `diverged` is the share of tasks whose final
        loss is not finite.
        """
        return [self._row(run) for run in self.runs]

    def _row(self, run: Run) -> dict[str, Any]:
        final, tuning = run.final.reshape(-1), run.tuning
        against = [other.method for other in self.runs if other.horizon == run.horizon and not other.learned]
        row: dict[str, Any] = {
            "method": run.method,
            "learned": run.learned,
            "horizon": run.horizon,
            "steps": int(run.steps[-1]),
            "rate": None if tuning is None else tuning.rate,
            "rate_at_edge": None if tuning is None else tuning.at_edge,
            "rates_tried": None if tuning is None else len(tuning.rates),
            "final": float(summarize(final, self.statistic)),
            "final_median": float(np.median(final)),
            "final_quartiles": quartiles(final).tolist(),
            "final_geometric_mean": float(geometric_mean(final)),
            "final_seeds": [float(summarize(seed, self.statistic)) for seed in run.final],
            "diverged": float(np.mean(~np.isfinite(final))),
            "seconds_per_step": run.cost.seconds_per_step,
            "compile_seconds": run.cost.compile_seconds,
            "temporary_bytes": run.cost.temporary_bytes,
        }
        if run.learned:
            row["against"] = {name: self._against(run, name) for name in against}
        return row

    def _against(self, run: Run, baseline: str) -> dict[str, Any]:
        speedup = self.speedup(run.method, baseline, run.horizon)
        return {
            "speedup": speedup.overall,
            "speedup_below": speedup.bound if speedup.overall == 0 else None,
            "speedup_seeds": speedup.seeds.tolist(),
            "speedup_task_median": float(np.median(speedup.tasks)),
            "tasks_reached": float(np.mean(speedup.reached)),
            "tasks_won": speedup.won,
        }

    def table(self) -> str:
        """Aligned text for people: final losses and costs, and each learner against each baseline."""
        seeds, tasks, _ = self.runs[0].values.shape
        statistic = self.statistic.replace("_", " ")
        head = f"{self.family}: {seeds} x {tasks} tasks (seeds x tasks), losses are the {statistic} over tasks"
        return head + "\n\n" + tables(self.rows())

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Everything as JSON: `rows`, the summarized curves with quartiles, tuning, and the machine.

        **Arguments:**

        - `path`: a file to write it to, beside returning it.
        """
        seeds, tasks, _ = self.runs[0].values.shape
        data = {
            "family": self.family,
            "seeds": seeds,
            "num_tasks": tasks,
            "statistic": self.statistic,
            "machine": self.machine,
            "methods": self.rows(),
            "curves": [self._curve_data(run) for run in self.runs],
        }
        if path is not None:
            write_json(path, data)
        return to_json(data)

    def _curve_data(self, run: Run) -> dict[str, Any]:
        lower, upper = quartiles(run.pooled)
        tuning = run.tuning
        tried: Sequence[Any] = [] if tuning is None else list(zip(tuning.rates, tuning.scores, strict=True))
        return {
            "method": run.method,
            "horizon": run.horizon,
            "steps": run.steps,
            "values": summarize(run.pooled, self.statistic),
            "lower_quartile": lower,
            "upper_quartile": upper,
            "tuning": [{"rate": float(rate), "score": float(score)} for rate, score in tried],
        }
