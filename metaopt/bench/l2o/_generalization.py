"""The pretrained optimizer on tasks that it was not trained on, as it is, against tuned ones and Celo."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, ScalarLike

from ..._core import AbstractAlgorithm
from ...evaluate import BASELINES
from ...l2o import load_published, pretrained
from ...schedules import Cosine
from ..base import Budget, Claim, Report, Rival, release
from ._field import Field, geometric
from ._unseen import Unseen, unseen


_SEEDS = 5
_TASKS = 4
_RATES = np.logspace(-3.75, -0.25, 15)
_RECORDS = 50
# Of the weights called `general`: 3017 meta-steps of 8 x 64 pairs of episodes, 20 steps of each.
PRETRAINED_STEPS = 3017 * 8 * 64 * 2 * 20
# What its figures do not show: on what the weights fail.
LEFT_OUT = (
    "Muon and second-order methods; kinds of tasks far from those trained on: on a residual CNN with affine norms the "
    "weights end at chance, and in other trials the untrained rule at one rate ended lower"
)


def adamw_cosine(rate: ScalarLike) -> AbstractAlgorithm[Any, Any, Any]:
    return Cosine(BASELINES["adamw"](rate))


@dataclasses.dataclass(frozen=True)
class Curves:
    """Geometric means over the tasks of each seed, of one family."""

    field: Field
    methods: dict[str, Float[np.ndarray, "seeds records"]]
    starts: Float[np.ndarray, " all_tasks"]
    ends: Float[np.ndarray, " all_tasks"]


def celo_weights() -> Path | None:
    """The file of Celo's published weights: what `METAOPT_CELO` names, or beside a source tree."""
    named = os.environ.get("METAOPT_CELO")
    found = Path(named) if named else Path(__file__).parents[4] / "shared" / "data" / "celo" / "theta.state"
    return found if found.is_file() else None


def interquartile_mean(values: Any) -> float:
    """The mean of the middle half."""
    ordered = np.sort(np.asarray(values, float).ravel())
    cut = ordered.size // 4
    return float(np.mean(ordered[cut : ordered.size - cut]))


def single_rate(finals: Mapping[str, Float[np.ndarray, " rates"]]) -> int:
    """The index of the rate that is best on all families together: by the mean logarithm of the final loss relative to
    that of the family's own best rate."""
    excess = [np.log(each) - np.log(np.min(each)) for each in finals.values()]
    return int(np.argmin(np.mean(excess, axis=0)))


def run(*, full: bool = False) -> Report:
    """Fourteen families, none of which was trained on."""
    cases = unseen()
    learned: dict[str, AbstractAlgorithm[Any, Any, Any]] = {"general": pretrained("general")}
    weights = celo_weights()
    if weights is not None:
        learned["celo"] = load_published(weights, kind="celo")
    if full:
        learned["small"] = pretrained("small")
    fields = {
        name: Field(case.family, case.steps, every=max(1, case.steps // _RECORDS), tasks=_TASKS)
        for name, case in cases.items()
    }
    adam, rates = BASELINES["adam"], [float(rate) for rate in _RATES]
    adam_finals = {name: field.finals(adam, rates) for name, field in fields.items()}
    chosen = single_rate(adam_finals)
    found = {}
    for name, field in fields.items():
        methods = {
            "adam": adam(rates[chosen]),
            "tuned adam": adam(rates[np.argmin(adam_finals[name])]),
            "tuned adamw + cosine": adamw_cosine(rates[np.argmin(field.finals(adamw_cosine, rates))]),
            **learned,
        }
        raw = {k: [field.run(v, seed) for seed in range(_SEEDS)] for k, v in methods.items()}
        ours = np.concatenate(raw["general"])
        curves = {k: np.stack([geometric(each) for each in values]) for k, values in raw.items()}
        found[name] = Curves(field, curves, ours[:, 0], ours[:, -1])
    return _report(found, cases, rates[chosen])


def _report(found: Mapping[str, Curves], cases: Mapping[str, Unseen], rate: float) -> Report:
    speedups, against_celo, rows, diverged = [], [], [], 0
    for name, curves in found.items():
        ours = curves.methods["general"]
        row: dict[str, Any] = {"family": name, "new": cases[name].novelty}
        for method, theirs in curves.methods.items():
            row[f"{method}: final"] = float(np.median(theirs[:, -1]))
            if method != "general":
                fewer = curves.field.speedups(list(ours), list(theirs))
                row[f"{method}: fewer steps"] = float(np.median(fewer))
                if method == "adam":
                    speedups.append(fewer)
        if "celo" in curves.methods:
            against_celo.append(curves.methods["celo"][:, -1] / ours[:, -1])
        lost = ~np.isfinite(curves.ends) | (curves.ends > curves.starts)
        diverged += int(np.sum(lost))
        rows.append(row)
    each = [interquartile_mean(np.asarray(speedups)[:, seed]) for seed in range(_SEEDS)]
    worst = min(float(np.median(s)) for s in speedups)
    note = f"over seeds {min(each):.3g} to {max(each):.3g}; worst family {worst:.3g}; Adam's single rate {rate:.3g}"
    steps = max(case.steps for case in cases.values())
    lengths = f"{min(case.steps for case in cases.values())} to {steps} steps of each task"
    tuned = _RATES.size * _TASKS * sum(case.steps for case in cases.values())
    budget = Budget(work=lengths, before=PRETRAINED_STEPS)
    rival = Rival(f"Adam, one rate of {_RATES.size} for all", Budget(work=lengths, before=tuned), release("optax"))
    claims = [
        Claim(
            "iqm_speedup_vs_adam",
            interquartile_mean(speedups),
            note,
            budget=budget,
            rival=rival,
            unequal="ours was meta-trained once, for all tasks, and the rival's rate chosen on tasks of these families",
            left_out=LEFT_OUT,
        )
    ]
    notes = [
        f"{len(found)} families, {_SEEDS} seeds of {_TASKS} tasks each. `adam` has one rate for all families, the best "
        f"of {_RATES.size}; the tuned ones have one of as many for each family. The learned ones are not tuned at all.",
    ]
    if against_celo:
        ratios = np.asarray(against_celo)
        seeds = [interquartile_mean(ratios[:, seed]) for seed in range(_SEEDS)]
        note = f"Celo's final loss over ours; over seeds {min(seeds):.3g} to {max(seeds):.3g}"
        claims.append(
            Claim(
                "iqm_final_vs_celo",
                interquartile_mean(ratios),
                note,
                budget=budget,
                rival=Rival("Celo's published weights", Budget(work=lengths)),
                unequal="both were meta-trained, Celo by its authors, on other tasks and at a cost not known here",
                left_out=LEFT_OUT,
            )
        )
    else:
        notes.append("`iqm_final_vs_celo` is absent: name the file of Celo's published weights in `METAOPT_CELO`.")
    total = sum(curves.ends.size for curves in found.values())
    note = f"of {total} tasks: not finite, or worse than at the start"
    claims.append(Claim("diverged", float(diverged), note, rival=None, left_out=LEFT_OUT))
    return Report(list(range(_SEEDS)), rows, claims, notes)
