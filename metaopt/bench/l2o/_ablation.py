"""What matters in meta-training: one choice at a time, everything else as in the digits benchmark."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax.random as jr
import numpy as np
from jaxtyping import Float

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner
from ...evaluate import Comparison, compare
from ...evaluate._curves import geometric_mean
from ...meta import (
    ES,
    NRES,
    AbstractEstimator,
    AbstractHorizon,
    AbstractObjective,
    BestLoss,
    ConstantHorizon,
    ESSingle,
    FinalLoss,
    LogUniformHorizon,
    MeanLogLoss,
    MetaProblem,
    MetaResult,
    Stage,
    TruncatedUnroll,
    Unrolled,
    train_curriculum,
)
from ...tasks import Generated, ReducedBatch, Reparametrized, Rescaled
from ..base import Budget, Claim, Report, Rival
from ._rules import Setup, clipped_adam, digits_setup, spread


BASE = "base"
UNTRAINED = "untrained"
ADAM = "adam"
_TRUNCATION, _STD = 20, 0.01
_TASKS, _TUNING_TASKS, _VALIDATION_TASKS = 32, 16, 8
_LOW, _HIGH = 0.1, 10.0

# The final loss of each method: geometric means over the tasks of each seed.
Finals: TypeAlias = Mapping[str, Float[np.ndarray, " seeds"]]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One choice that differs from the base: problems with their meta-steps, of which a curriculum has several."""

    factor: str
    name: str
    estimator: AbstractEstimator[Any]
    stages: tuple[tuple[MetaProblem, int], ...]

    @property
    def meta_steps(self) -> int:
        return sum(steps for _, steps in self.stages)

    @property
    def inner_steps(self) -> int:
        """Steps on tasks in one meta-training run; the two particles of a pair take one together."""
        whole = isinstance(self.estimator, ES | Unrolled)
        return sum(
            steps * problem.tasks * (problem.horizon.longest if whole else _TRUNCATION)
            for problem, steps in self.stages
        )


def variants(setup: Setup) -> list[Variant]:
    """The base and what differs from it in one choice; all with the same number of inner steps.

    Estimators of whole episodes have a quarter of the tasks, and fewer meta-steps.
    """
    base, steps = setup.problem, setup.steps
    # Of a whole episode there are `horizon / truncation` windows; a quarter of the tasks leaves this share.
    fewer, constant = 4 * steps * _TRUNCATION // setup.horizon, ConstantHorizon(setup.horizon)
    family: Any = base.family

    def objective(name: str, new: AbstractObjective[Any]) -> Variant:
        return Variant("objective", name, setup.estimator, ((dataclasses.replace(base, objective=new), steps),))

    def estimator(
        name: str, new: AbstractEstimator[Any], horizon: AbstractHorizon, tasks: int, meta_steps: int
    ) -> Variant:
        problem = dataclasses.replace(base, horizon=horizon, tasks=tasks)
        return Variant("estimator", name, new, ((problem, meta_steps),))

    def augmentation(name: str, family: Any) -> Variant:
        return Variant("augmentation", name, setup.estimator, ((dataclasses.replace(base, family=family), steps),))

    def horizon(name: str, *new: AbstractHorizon) -> Variant:
        stages = tuple((dataclasses.replace(base, horizon=each), steps // len(new)) for each in new)
        return Variant("horizon", name, setup.estimator, stages)

    log = MeanLogLoss(floor=1e-3, queries=True, every=_TRUNCATION, lateness=1.0)
    return [
        Variant(BASE, BASE, setup.estimator, ((base, steps),)),
        objective("final loss", FinalLoss()),
        objective("best loss", BestLoss()),
        objective("mean log measure, late", log),
        objective("mean log of minibatch losses", MeanLogLoss(floor=1e-3)),
        estimator("NRES", NRES(_STD, _TRUNCATION), base.horizon, base.tasks, steps),
        estimator("ESSingle, horizon 200", ESSingle(_STD, _TRUNCATION), constant, base.tasks, steps),
        estimator("ES, horizon 200", ES(_STD), constant, base.tasks // 4, fewer),
        estimator("TruncatedUnroll", TruncatedUnroll(_TRUNCATION, remat=True), base.horizon, base.tasks, steps),
        estimator("Unrolled, horizon 200", Unrolled(remat=True, max_norm=1.0), constant, base.tasks // 4, fewer),
        augmentation("parameters rescaled: global", Reparametrized(family, "global", _LOW, _HIGH)),
        augmentation("parameters rescaled: tensor", Reparametrized(family, "tensor", _LOW, _HIGH)),
        augmentation("parameters rescaled: parameter", Reparametrized(family, "parameter", _LOW, _HIGH)),
        augmentation("loss rescaled", Rescaled(family, _LOW, _HIGH)),
        augmentation("a quarter of the batch", ReducedBatch(family, 0.25)),
        horizon("200", constant),
        horizon("curriculum", LogUniformHorizon(25, 150), LogUniformHorizon(50, 300), base.horizon),
    ]


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` trains three times as long, with five seeds."""
    setup, seeds = digits_setup(1200 if full else 390), 5 if full else 3
    tried, outer = variants(setup), clipped_adam(setup.outer_rate)
    trained = {v.name: [_train(setup, v, outer, seed) for seed in range(seeds)] for v in tried}
    learners = {name: [stages[-1].last for stages in runs] for name, runs in trained.items()}
    contestants = {UNTRAINED: [Learner(setup.learner)], **learners}
    digits = _compare(setup, contestants, setup.held_out, seeds, (1, 3))
    waves = _compare(setup, contestants, Generated(data="waves", criterion="squared_error"), seeds, (1,))
    places = {"digits": _finals(digits, 1), "600 steps": _finals(digits, 3), "waves": _finals(waves, 1)}
    extras = {name: _costs(runs) for name, runs in trained.items()}
    notes = [
        f"One choice at a time: {BASE} is PES, the mean loss, horizons 100 to 600 and no augmentation, with "
        f"{setup.steps} meta-steps of 16 tasks. Losses are geometric means over {_TASKS} held-out tasks after "
        f"{setup.horizon} steps, or 600; medians over {seeds} seeds, which have tasks of their own. Judged is the "
        "learner after the last meta-step.",
        f"Columns with `over` are ratios of final losses: above 1, {BASE} (or the best Adam) ends higher.",
        "All variants take the same number of inner steps, of which a pair of particles takes one together. Steps that "
        "are differentiated cost more: see the seconds, which are those of one run without compiling.",
    ]
    return Report(list(range(seeds)), rows(tried, places, extras), claims(tried, places), notes)


def _train(setup: Setup, variant: Variant, outer: AbstractAlgorithm[Any, Any, Any], seed: int) -> list[MetaResult]:
    family: Any = setup.problem.family
    stages = [Stage(p, steps, validation=family, validate_every=steps) for p, steps in variant.stages]
    return train_curriculum(
        Learner(setup.learner),
        stages,
        estimator=variant.estimator,
        outer=outer,
        key=jr.key(seed),
        validation_tasks=_VALIDATION_TASKS,
    ).stages


def _compare(
    setup: Setup,
    learners: Mapping[str, Sequence[Learner]],
    family: AbstractTaskFamily,
    seeds: int,
    horizons: tuple[int, ...],
) -> Comparison:
    return compare(
        learners,
        family,
        steps=setup.horizon,
        key=jr.key(1000),
        num_tasks=_TASKS,
        seeds=seeds,
        tuning_tasks=_TUNING_TASKS,
        record_every=setup.horizon,
        rates=setup.rates,
        baselines=(ADAM,),
        horizons=horizons,
        statistic="geometric_mean",
        timing_repeats=0,
    )


def _finals(comparison: Comparison, horizon: int) -> Finals:
    return {m: np.asarray(geometric_mean(comparison.run(m, horizon).final.T)) for m in comparison.methods}


def _costs(runs: Sequence[Sequence[MetaResult]]) -> dict[str, float]:
    seconds = [sum(stage.seconds - stage.compile_seconds for stage in stages) for stages in runs]
    diverged = sum(stage.diverged for stages in runs for stage in stages)
    return {"s per run": float(np.median(seconds)), "diverged": diverged}


def ratio(finals: Finals, above: str, below: str) -> Float[np.ndarray, " seeds"]:
    """The final loss of one method over that of another, seed by seed."""
    return finals[above] / finals[below]


def rows(
    tried: Sequence[Variant], places: Mapping[str, Finals], extras: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """A row for each variant, by factor, and one for what was not trained."""
    found = []
    for factor, name, variant in [(BASE, UNTRAINED, None), *((v.factor, v.name, v) for v in tried)]:
        first = next(iter(places.values()))
        low, high = float(np.min(first[name])), float(np.max(first[name]))
        row: dict[str, Any] = {
            "factor": factor,
            "variant": name,
            "final loss": float(np.median(first[name])),
            "over seeds": f"{low:.3g} to {high:.3g}",
        }
        for place, finals in places.items():
            row[f"{place}: base over it"] = float(np.median(ratio(finals, BASE, name)))
            row[f"{place}: Adam over it"] = float(np.median(ratio(finals, ADAM, name)))
        if variant is not None:
            row |= {"meta-steps": variant.meta_steps, "inner steps": variant.inner_steps, **extras[name]}
        found.append(row)
    return found


def _against(rival: str, place: str, ours: Variant, theirs: Variant | None) -> dict[str, Any]:
    """What both sides may spend: steps on each task of a place, and those of meta-training."""
    work, name = f"as many steps on {place}", f"the best {ADAM}, tuned" if rival == ADAM else f"{rival}"
    before = None if theirs is None else theirs.inner_steps
    why = "ours is meta-trained before" if theirs is None else "meta-steps of whole episodes are rounded"
    return {
        "budget": Budget(work=work, before=ours.inner_steps),
        "rival": Rival(name, Budget(work=work, before=before)),
        "unequal": "" if before == ours.inner_steps else why,
        "left_out": "combinations of choices; longer meta-training; differentiated steps cost more",
    }


def claims(tried: Sequence[Variant], places: Mapping[str, Finals]) -> list[Claim]:
    """The best variant of each place, what each factor changes in the first one, and what another seed changes."""
    found = []
    for place, finals in places.items():
        best = min((v.name for v in tried), key=lambda name: -float(np.median(ratio(finals, BASE, name))))
        ratios = ratio(finals, BASE, best)
        by_name = {v.name: v for v in tried}
        terms, name = _against(BASE, place, by_name[best], by_name[BASE]), _id("best over base", place, places)
        found.append(Claim(name, float(np.median(ratios)), f"{best}; {spread(ratios)}", **terms))
        for other in (UNTRAINED, ADAM):
            ratios = ratio(finals, other, BASE)
            name = _id(f"{other} over base", place, places)
            terms = _against(other, place, by_name[BASE], None)
            found.append(Claim(name, float(np.median(ratios)), spread(ratios), **terms))
    first = next(iter(places.values()))
    medians = {v.name: float(np.median(ratio(first, v.name, BASE))) for v in tried}
    for factor in dict.fromkeys(v.factor for v in tried if v.factor != BASE):
        own = sorted([BASE, *(v.name for v in tried if v.factor == factor)], key=medians.__getitem__)
        value = medians[own[-1]] / medians[own[0]]
        note = f"worst over best: {own[-1]} over {own[0]}"
        found.append(Claim(f"spread_of_{factor}", value, note, rival=None))
    seeds = float(np.max(first[BASE]) / np.min(first[BASE]))
    note = f"{BASE}, worst seed over best; tasks differ with the seed, too"
    return [*found, Claim("spread_of_seeds", seeds, note, rival=None)]


def _id(what: str, place: str, places: Mapping[str, Finals]) -> str:
    where = "" if place == next(iter(places)) else f" on {place}" if place.isalpha() else f" at {place}"
    return f"{what}{where}".replace(" ", "_")
