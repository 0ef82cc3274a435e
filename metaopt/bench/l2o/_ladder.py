"""The headline claim, rung by rung: similar, related and novel problems, against the best of the tuned optimizers."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractAlgorithm, AbstractTaskFamily, ClipByGlobalNorm, Learner, unroll
from ...evaluate import BASELINES, speedup_at_target
from ...evaluate._baselines import Baseline
from ...l2o import BaselineGuarded, PreconditionedDescent, pretrained
from ...meta import (
    PES,
    AbstractEstimator,
    AbstractHorizon,
    ConstantHorizon,
    MeanLogLoss,
    MetaProblem,
    Unrolled,
    meta_train,
)
from ...schedules import Cosine
from ...tasks import Diffusion, DigitsMLP, Generated, Mnist1D, Quadratics, SparseCoding
from ..base import Budget, Claim, Report, Rival, release
from ._field import PILOT_SEED, Field, geometric
from ._generalization import PRETRAINED_STEPS
from ._sparse import RECIPES, trained_rule
from ._unseen import unseen


_SEEDS = 5
_RATES = np.logspace(-3.5, 1.0, 16)
_POINTS = 32


_CONSTANT: dict[str, Baseline] = {
    "sgd": BASELINES["sgd"],
    "sgd + momentum": BASELINES["momentum"],
    "adam": BASELINES["adam"],
    "adamw": BASELINES["adamw"],
}
PEERS: dict[str, Baseline] = {
    **_CONSTANT,
    **{f"{name} + cosine": (lambda rate, make=make: Cosine(make(rate))) for name, make in _CONSTANT.items()},
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One family of a rung.

    - `family`: held-out tasks.
    - `steps`: the budget of the baselines.
    - `note`: what is the same and what is not.
    - `ours`: the family as our rule sees it, if its signal is another; the tasks and what is measured are the same.
    """

    family: AbstractTaskFamily
    steps: int
    note: str
    ours: AbstractTaskFamily | None = None
    tasks: int = 8


@dataclasses.dataclass(frozen=True)
class Ladder:
    """A learner per seed, the families that are like those it was trained on, and related ones.

    `before` is how many steps on tasks a learner is trained for, that of its pretrained weights included; both
    particles of a pair are counted. `steps` are those that it takes on a task.
    """

    train: Callable[[int], AbstractAlgorithm[Any, Any, Any]]
    similar: Case
    related: Case
    before: float
    steps: int

    def terms(self, case: Case) -> dict[str, Any]:
        """What both sides may spend on a task of a case, and have spent before."""
        return _terms(case, Budget(gradients=self.steps, before=self.before))


def _terms(case: Case, budget: Budget) -> dict[str, Any]:
    tuned = len(PEERS) * _RATES.size * case.tasks * case.steps
    return {
        "budget": budget,
        "rival": Rival(
            f"the best of {len(PEERS)} (SGD, momentum, Adam, AdamW; constant, cosine) with {_RATES.size} rates each",
            Budget(gradients=case.steps, before=tuned),
            release("optax"),
        ),
        "unequal": "ours is meta-trained before, on problems of this structure or on networks; the rival's rate is "
        "chosen on other tasks of the family",
        "left_out": "rules for one class of problems (conjugate gradients, FISTA), L-BFGS, Muon; the time of a step",
    }


def _meta_train(
    algorithm: AbstractAlgorithm[Any, Any, Any],
    family: AbstractTaskFamily,
    objective: Any,
    horizon: AbstractHorizon,
    estimator: AbstractEstimator[Any],
    *,
    tasks: int,
    steps: int,
    rate: float,
    seed: int,
) -> AbstractAlgorithm[Any, Any, Any]:
    outer = ClipByGlobalNorm(Cosine(BASELINES["adam"](rate), final_fraction=0.02), 1.0)
    problem = MetaProblem(family, objective, horizon, tasks=tasks)
    result = meta_train(
        Learner(algorithm), problem, estimator=estimator, outer=outer, steps=steps, key=jr.key(seed), progress=False
    )
    return result.learner.algorithm


def _structured() -> dict[str, Ladder]:
    spectrum = Quadratics(30, condition=100.0, levels=3)
    operator = Diffusion(_POINTS, contrast=0.5)

    def rates(seed: int) -> AbstractAlgorithm[Any, Any, Any]:
        start = PreconditionedDescent(6, learning_rate=(0.3, 30.0))
        objective, horizon = MeanLogLoss(floor=1e-10), ConstantHorizon(6)
        return _meta_train(
            start, spectrum, objective, horizon, Unrolled(max_norm=1.0), tasks=32, steps=1500, rate=0.02, seed=seed
        )

    def preconditioner(seed: int) -> AbstractAlgorithm[Any, Any, Any]:
        start = PreconditionedDescent(1, size=_POINTS, learning_rate=0.005, momentum=0.5)
        objective, horizon = MeanLogLoss(floor=1e-9), ConstantHorizon(50)
        # The steepest operators are rare: trained on just these, a rule is unstable on one in forty.
        wider = Diffusion(_POINTS, contrast=0.8)
        return _meta_train(
            start, wider, objective, horizon, Unrolled(max_norm=1.0), tasks=32, steps=2000, rate=0.01, seed=seed
        )

    def shrinkage(seed: int) -> AbstractAlgorithm[Any, Any, Any]:
        del seed
        return trained_rule("ALISTA", SparseCoding(signal="residual"), 0)[0]

    def sparse(note: str, **options: Any) -> Case:
        return Case(SparseCoding(**options), 400, note, SparseCoding(signal="residual", **options))

    return {
        "quadratics": Ladder(
            rates,
            Case(spectrum, 200, "the same three eigenvalues, other directions"),
            Case(Quadratics(90, condition=100.0, levels=3), 200, "three times as many dimensions"),
            before=1500 * 32 * 6,
            steps=200,
        ),
        "diffusion": Ladder(
            preconditioner,
            Case(operator, 150, "other coefficients and forces"),
            Case(Diffusion(_POINTS, contrast=0.5, reaction=10.0), 150, "another equation: with a reaction"),
            before=2000 * 32 * 50,
            steps=150,
        ),
        "sparse coding": Ladder(
            shrinkage,
            sparse("other signals, the same dictionary"),
            sparse("noise at 40 dB, trained without", snr_db=40.0),
            before=RECIPES["ALISTA"].before,
            steps=400,
        ),
    }


def _neural() -> dict[str, Ladder]:
    def tuned_on(family: AbstractTaskFamily) -> Callable[[int], AbstractAlgorithm[Any, Any, Any]]:
        def train(seed: int) -> AbstractAlgorithm[Any, Any, Any]:
            start, horizon = pretrained("general"), ConstantHorizon(200)
            objective = MeanLogLoss(floor=1e-3, queries=True, every=20, lateness=1.0)
            return _meta_train(
                start, family, objective, horizon, PES(0.02, 20), tasks=16, steps=300, rate=3e-3, seed=seed
            )

        return train

    waves = Generated(data="waves", width=32, criterion="squared_error")
    before = PRETRAINED_STEPS + 300 * 16 * 2 * 20
    return {
        "digits": Ladder(
            tuned_on(DigitsMLP("train")),
            Case(DigitsMLP("held_out"), 200, "other images, other names of classes"),
            Case(DigitsMLP("held_out", (64, 64)), 200, "twice as wide, one layer more"),
            before,
            200,
        ),
        "mnist_1d": Ladder(
            tuned_on(Mnist1D("train")),
            Case(Mnist1D("held_out"), 200, "other signals, other names of classes"),
            Case(DigitsMLP("held_out", (32,), activation="gelu"), 200, "another data set, another activation"),
            before,
            200,
        ),
        "waves": Ladder(
            tuned_on(waves),
            Case(waves, 200, "other functions"),
            Case(
                Generated(data="waves", width=32, depth=2, criterion="squared_error", condition=10.0),
                200,
                "one layer more, inputs on other scales",
            ),
            before,
            200,
        ),
    }


class _Rung:
    """Baselines tuned once per family, and learners against them."""

    def __init__(self, case: Case) -> None:
        self.case, self.field = case, Field(case.family, case.steps, every=1, tasks=case.tasks)
        rates = [float(rate) for rate in _RATES]
        finals = {name: self.field.finals(make, rates) for name, make in PEERS.items()}
        self.best = min(finals, key=lambda name: float(np.min(finals[name])))
        self.rate = rates[np.argmin(finals[self.best])]
        self.peer = PEERS[self.best](self.rate)
        self.curves = [geometric(self.field.run(self.peer, seed)) for seed in range(_SEEDS)]

    def speedups(self, learners: Sequence[AbstractAlgorithm[Any, Any, Any]]) -> Float[np.ndarray, " seeds"]:
        own = [learners[seed % len(learners)] for seed in range(_SEEDS)]
        ours = [geometric(self.field.run(each, i, seen_as=self.case.ours)) for i, each in enumerate(own)]
        return self.field.speedups(ours, self.curves)


class _Novel:
    """What a safeguard makes of the pretrained weights, where the tuned baseline and its curve are known.

    A guarded run may take $1 / 0.95$ times the baseline's budget. Before, pilot runs on tasks like those that the
    baselines were tuned on decide whether the learned rule is used at all.
    """

    def __init__(self, case: Case) -> None:
        self.rung = _Rung(case)
        self.field = Field(case.family, math.ceil(case.steps / 0.95), every=1, tasks=case.tasks)
        learned, tuned = pretrained("general"), self.rung.peer
        # The rival's tuning is needed here, too, and pilots of both follow.
        tuning = len(PEERS) * _RATES.size * case.tasks * case.steps
        self.before = PRETRAINED_STEPS + tuning + 5 * case.tasks * (case.steps + int(self.field.steps[-1]))
        guarded = BaselineGuarded(learned, tuned, _losses(tuned, case))
        pilots, seeds = range(PILOT_SEED, PILOT_SEED + 5), range(_SEEDS)
        theirs = [geometric(self.rung.field.run(tuned, seed)) for seed in pilots]
        self.pilot = float(np.median(self._speedups(guarded, pilots, theirs)))
        self.unguarded = self._speedups(learned, seeds, self.rung.curves)
        self.guarded = self._speedups(guarded, seeds, self.rung.curves)
        alone = self.rung.field.speedups(self.rung.curves, self.rung.curves)
        self.chosen = self.guarded if self.pilot >= 1 else alone

    def _speedups(
        self, algorithm: AbstractAlgorithm[Any, Any, Any], seeds: Iterable[int], theirs: Sequence[np.ndarray]
    ) -> Float[np.ndarray, " seeds"]:
        ours = [geometric(self.field.run(algorithm, seed)) for seed in seeds]
        return np.asarray([speedup_at_target(a, b) for a, b in zip(ours, theirs, strict=True)])


def _losses(algorithm: AbstractAlgorithm[Any, Any, Any], case: Case) -> Float[np.ndarray, " steps"]:
    """What `value` an algorithm is given at each step: geometric means over the tasks for tuning, from 1."""

    @eqx.filter_jit
    def run(keys: PRNGKeyArray) -> Float[Array, "tasks steps"]:
        def one(key: PRNGKeyArray) -> Float[Array, " steps"]:
            task_key, run_key = jr.split(key)
            task = case.family.sample(key=task_key)
            values = unroll(Learner(algorithm), task, steps=case.steps, key=run_key).values
            return values / values[0]

        return jax.vmap(one)(keys)

    return geometric(np.asarray(run(jr.split(jr.key(PILOT_SEED), 16))))


def _row(rung: str, name: str, case: Case, field: _Rung, found: Float[np.ndarray, " seeds"]) -> dict[str, Any]:
    return {
        "rung": rung,
        "family": name,
        "what is new": case.note,
        "best baseline": f"{field.best}, {field.rate:.3g}",
        "its final loss": float(np.median([curve[-1] for curve in field.curves])),
        "fewer steps": float(np.median(found)),
        "over seeds": f"{np.min(found):.3g} to {np.max(found):.3g}",
    }


def _climb(ladders: Mapping[str, Ladder], seeds: int) -> tuple[list[dict[str, Any]], dict[str, dict[str, np.ndarray]]]:
    rows, found = [], {"similar": {}, "related": {}}
    for name, ladder in ladders.items():
        learners = [ladder.train(seed) for seed in range(seeds)]
        for rung, case in (("similar", ladder.similar), ("related", ladder.related)):
            field = _Rung(case)
            found[rung][name] = field.speedups(learners)
            rows.append(_row(rung, name, case, field, found[rung][name]))
        jax.clear_caches()
    return rows, found


def claim(
    name: str,
    found: Mapping[str, Float[np.ndarray, " seeds"]],
    terms: Mapping[str, Mapping[str, Any]],
    *,
    worst: bool = False,
) -> Claim:
    """The family in the middle, or the worst one: the median over seeds, and its terms."""
    ordered = sorted(found, key=lambda family: float(np.median(found[family])))
    chosen = ordered[0] if worst else ordered[len(ordered) // 2]
    each = ", ".join(f"{family} {np.median(values):.3g}" for family, values in found.items())
    spread = f"{np.min(found[chosen]):.3g} to {np.max(found[chosen]):.3g}"
    which = "the worst" if worst else "the middle one"
    note = f"{which}, {chosen}: {spread} over seeds; {each}"
    return Claim(name, float(np.median(found[chosen])), note, **terms[chosen])


def run(*, full: bool = False) -> Report:
    """Climb the ladder; `full` meta-trains a learner for each of five seeds rather than one for all."""
    seeds = _SEEDS if full else 1
    rows, claims = [], []
    for kind, ladders in (("structured", _structured()), ("neural", _neural())):
        more, found = _climb(ladders, seeds)
        rows += more
        for rung in ("similar", "related"):
            terms = {name: ladder.terms(getattr(ladder, rung)) for name, ladder in ladders.items()}
            claims.append(claim(f"{rung}_{kind}", found[rung], terms))
    novel, terms = {}, {}
    cases = unseen()
    for name in ("logistic", "pinn", "convolutional"):
        case = Case(cases[name].family, cases[name].steps, cases[name].novelty, tasks=4)
        found = _Novel(case)
        novel[name] = found.chosen
        terms[name] = _terms(case, Budget(gradients=int(found.field.steps[-1]), before=found.before)) | {
            "unequal": "ours has 1 / 0.95 times the steps, pretrained weights, the rival's tuning and its curve, and "
            "pilot runs",
        }
        rows.append(
            _row("novel", name, case, found.rung, novel[name])
            | {"pilot": found.pilot, "guarded": float(np.median(found.guarded))}
            | {"unguarded": float(np.median(found.unguarded))}
        )
    claims.append(claim("novel_worst", novel, terms, worst=True))
    notes = [
        f"Fewer steps: those that the best of {len(PEERS)} baselines needs to its final loss, over ours to the "
        f"same. Each baseline has the best of {_RATES.size} rates, on tasks for nothing else. A learner that never "
        "gets there counts as 0. Losses are what tasks measure, geometric means over tasks; medians over "
        f"{_SEEDS} seeds of held-out tasks.",
        "Learners of the similar and related rungs are trained on the family of the similar one; neural ones go on "
        "from the pretrained weights. Novel: the pretrained weights as they are, without tuning, in `BaselineGuarded` "
        "around the tuned baseline, if that won in pilot runs on other tasks, and the baseline alone if not.",
    ]
    return Report(list(range(_SEEDS)), rows, claims, notes)
