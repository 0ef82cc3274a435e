"""What a run specification says, and the runs that come with metaopt."""

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any

from .._core import AbstractAlgorithm, AbstractTaskFamily, Learner
from ..meta import AbstractEstimator, MetaProblem


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a trained learner is compared with tuned baselines.

    - `family`: held-out tasks.
    - `steps`: the budget of one task.
    - `tasks`: how many tasks in each of `seeds` groups.
    - `horizons`: multiples of `steps` at which to compare.
    - `baselines`: names of the hand-designed optimizers to tune.
    """

    family: AbstractTaskFamily
    steps: int
    tasks: int = 32
    seeds: int = 5
    horizons: tuple[int, ...] = (1,)
    baselines: tuple[str, ...] = ("sgd", "momentum", "adam", "adamw", "adam_cosine")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of meta-training: what is learned, from what, how, and how it is judged.

    - `learner`, `problem`, `estimator`, `outer`, `steps`: the arguments of `metaopt.meta_train`.
    - `validation`: held-out tasks on which the best learner is chosen.
    - `evaluation`: the comparison at the end.
    - `seed`: the seed of everything.
    """

    learner: Learner
    problem: MetaProblem
    estimator: AbstractEstimator[Any]
    outer: AbstractAlgorithm[Any, Any, Any]
    steps: int
    description: str = ""
    seed: int = 0
    validation: AbstractTaskFamily | None = None
    validation_tasks: int = 32
    evaluation: Evaluation | None = None


def names() -> list[str]:
    """The names of the runs that come with metaopt."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def find(name: str) -> Path:
    """The file of a run: a path, or the name of one that comes with metaopt.

    **Raises:**

    - `ValueError`: if there is no such run; the text lists what exists.
    """
    if name in names():
        return Path(str(resources.files(__package__).joinpath(f"{name}.toml")))
    if Path(name).suffix in (".toml", ".json"):
        return Path(name)
    raise ValueError(f"There is no run `{name}`. There are: {', '.join(names())}; or give the path of a TOML file.")
