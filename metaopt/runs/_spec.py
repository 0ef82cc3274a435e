"""What a run specification says, and the runs that come with metaopt."""

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from .._core import AbstractAlgorithm, AbstractTaskFamily, Learner, Mixture
from .._core.arrays._numbers import REAL, check_counts
from ..evaluate import BASELINES
from ..meta import AbstractEstimator, MetaProblem, Rotation, Stage
from ..registry import unknown


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a trained learner is compared with tuned baselines.

    - `family`: held-out tasks.
    - `steps`: the budget of one task.
    - `tasks`: how many tasks in each of `seeds` groups.
    - `horizons`: multiples of `steps` at which to compare.
    - `baselines`: names of the hand-designed optimizers to tune, out of [`metaopt.evaluate.BASELINES`][].
    - `tuning_tasks`: how many tasks the baselines are tuned on; by default `tasks`.
    - `record_every`: after how many steps to measure; by default a hundredth of `steps`.
    """

    family: AbstractTaskFamily
    steps: int
    tasks: int = 32
    seeds: int = 5
    horizons: tuple[int, ...] = (1,)
    baselines: tuple[str, ...] = ("sgd", "momentum", "adam", "adamw", "adam_cosine")
    tuning_tasks: int | None = None
    record_every: int | None = None

    def __post_init__(self) -> None:
        # Checked here, since training comes first and takes long.
        horizons = {f"horizons[{i}]": horizon for i, horizon in enumerate(self.horizons)}
        check_counts(
            steps=self.steps,
            tasks=self.tasks,
            seeds=self.seeds,
            tuning_tasks=self.tuning_tasks,
            record_every=self.record_every,
            **horizons,
        )
        if not self.horizons:
            raise ValueError("`horizons` is empty. `[1]` compares at `steps`.")
        for name in self.baselines:
            if name not in BASELINES:
                raise unknown("baseline", name, BASELINES)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of meta-training: what is learned, from what, how, and how it is judged.

    - `learner`, `problem`, `estimator`, `outer`, `steps`: the arguments of [`metaopt.meta_train`][].
    - `stages`: in place of `problem` and `steps`, the stages of a curriculum, as [`metaopt.meta.train_curriculum`][]
        takes them. Each has its own `validation`, `validate_every`, `patience`, `target` and `rotation`.
    - `rotation`: how the families of a large mixture take turns.
    - `description`: what the run is, in a sentence.
    - `seed`: the seed of everything.
    - `start`: the file of a saved learner of this kind, whose numbers to go on from.
    - `validation`, `validation_tasks`: held-out tasks on which the best learner is chosen, and how many of them.
    - `validation_steps`: the budget of one of those; by default the longest horizon of training.
    - `validate_every`, `patience`, `target`, `checkpoint_every`, `sink_every`: as those of [`metaopt.meta_train`][].
    - `sinks`: where metrics go beside `metrics.csv` and `history.png`: `table` to the terminal, `json` to
        `metrics.jsonl`, `tensorboard` to the folder `tensorboard`.
    - `evaluation`: the comparison at the end.
    """

    learner: Learner
    estimator: AbstractEstimator[Any]
    outer: AbstractAlgorithm[Any, Any, Any]
    problem: MetaProblem | None = None
    steps: int | None = None
    stages: tuple[Stage, ...] = ()
    description: str = ""
    seed: int = 0
    start: str | None = None
    validation: AbstractTaskFamily | Mixture | None = None
    validation_tasks: int = 32
    validation_steps: int | None = None
    validate_every: int | None = None
    patience: int | None = None
    target: float | None = None
    checkpoint_every: int | None = None
    sinks: tuple[Literal["table", "json", "tensorboard"], ...] = ()
    sink_every: int | None = None
    evaluation: Evaluation | None = None
    rotation: Rotation | None = None

    def __post_init__(self) -> None:
        if self.stages:
            alone = ("problem", "steps", "rotation", "validation", "validation_steps", "validate_every", "patience")
            for name in (*alone, "target", "checkpoint_every"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` is that of a run without stages. Give it to each of `stages`.")
        elif self.problem is None or self.steps is None:
            raise ValueError("`problem` and `steps` are missing. Give both, or the `stages` of a curriculum.")
        names = ("steps", "validation_tasks", "validation_steps", "validate_every", "patience")
        check_counts(**{name: getattr(self, name) for name in (*names, "checkpoint_every", "sink_every")})
        REAL.check(target=self.target)
        if self.validation is None and not self.stages:
            for name in ("validate_every", "patience", "target"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` is about validations. Give `validation`, the tasks to validate on.")


def names() -> list[str]:
    """The names of the runs that come with metaopt."""
    files = resources.files("metaopt.runs").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def find(name: str) -> Path:
    """The file of a run: the path of a TOML or JSON file, or the name of a run that comes with metaopt.

    **Raises:**

    - [`metaopt.spec.SpecError`][]: if there is no such run; the text lists what exists.
    """
    if name in names():
        return Path(str(resources.files("metaopt.runs").joinpath(f"{name}.toml")))
    if Path(name).suffix in (".toml", ".json"):
        return Path(name)
    raise unknown("run", name, names())
