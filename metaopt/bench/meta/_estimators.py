"""Bias and variance of the meta-gradient estimators, where the meta-gradient is known in closed form."""

import jax.random as jr
import numpy as np

from ..._core import Learner
from ...l2o import LearnableSGD
from ...meta import (
    ES,
    NRES,
    PES,
    AbstractEstimator,
    ESSingle,
    TruncatedUnroll,
    Unrolled,
)
from ...meta._known_answer import estimates, known_problem, truth
from .. import _peers
from ..base import Claim, Report


_HORIZON, _RATE, _STD = 20, 0.05, 0.01
_TRUNCATIONS = (1, 5, 20)


def _estimates(estimator: AbstractEstimator, windows: int, tasks: int, replicates: int) -> np.ndarray:
    """Means over whole episodes, `[replicates, episodes]`, after a first episode that is not counted."""
    learner, problem = Learner(LearnableSGD(_RATE)), known_problem(_HORIZON, tasks)
    episodes, keys = 4, jr.split(jr.key(0), replicates)
    grads = estimates(estimator, learner, problem, skipped=windows, count=episodes * windows, keys=keys)
    return grads.reshape(replicates, episodes, windows).mean(2)


def _peer_rows(truth: float) -> tuple[list[dict], str]:
    try:
        found = _peers.run(_peers.interpreter("opifex"), "opifex_pes_bias.py", timeout=600)
    except (_peers.PeerUnavailable, _peers.PeerFailed) as error:
        return [], f"opifex was not measured: {error}"
    rows = [
        {
            "estimator": f"opifex {found['version']} PES",
            "truncation": row["truncation"],
            "mean": row["mean"],
            "standard error": row["standard_error"],
            "truth": found["truth"],
        }
        for row in found["rows"]
    ]
    return (
        rows,
        "opifex's truth differs because its meta-loss averages the losses before the updates, ours those after.",
    )


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` adds opifex's PES, in an environment of its own."""
    tasks, replicates, wanted = 200, 64, truth(_RATE, _HORIZON)
    cases: list[tuple[AbstractEstimator, int, bool]] = [(Unrolled(), _HORIZON, True), (ES(_STD), _HORIZON, True)]
    for truncation in _TRUNCATIONS:
        cases += [(kind(_STD, truncation), truncation, True) for kind in (PES, NRES, ESSingle)]
        cases.append((TruncatedUnroll(truncation), truncation, truncation == _HORIZON))
    rows, claims, nonfinite = [], [], 0
    for estimator, truncation, unbiased in cases:
        episodes = _estimates(estimator, _HORIZON // truncation, tasks, replicates)
        nonfinite += int(np.sum(~np.isfinite(episodes)))
        means = episodes.mean(1)
        error = float(means.std(ddof=1) / np.sqrt(replicates))
        bias = float(means.mean() - wanted)
        # Of an exact estimator the rounding error is all that is left.
        z = abs(bias) / max(error, 1e-6 * abs(wanted))
        name = type(estimator).__name__
        rows.append(
            {
                "estimator": name,
                "truncation": truncation,
                "mean": float(means.mean()),
                "standard error": error,
                "truth": wanted,
                "z": z,
                "claims to be unbiased": unbiased,
                "std of one task's episode": float(episodes.std() * np.sqrt(tasks)),
            }
        )
        if isinstance(estimator, PES):
            claims.append(
                Claim(
                    f"pes_bias_z_trunc{truncation}", z, f"bias {bias:+.2g} with standard error {error:.2g}", rival=None
                )
            )
    claims.append(Claim("nan_count", float(nonfinite), f"of {len(cases) * replicates * 4} averages", rival=None))
    notes = [f"Problem: x^2/2 from x = 1, rate {_RATE}, {_HORIZON} steps, mean loss; perturbation {_STD}."]
    if full:
        peer, note = _peer_rows(wanted)
        rows, notes = rows + peer, [*notes, note]
    return Report([0], rows, claims, notes)
