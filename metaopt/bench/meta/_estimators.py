"""Bias and variance of the meta-gradient estimators, where the meta-gradient is known in closed form."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..._core import Learner
from ...l2o import LearnableSGD
from ...meta import (
    ES,
    NRES,
    PES,
    AbstractEstimator,
    ConstantHorizon,
    ESSingle,
    LogUniformHorizon,
    MetaGradient,
    MetaProblem,
    TaskParallel,
    TruncatedUnroll,
    Unrolled,
)
from ...meta._known_answer import all_estimates, estimates, known_problem, truth
from ...sharding import make_mesh
from .. import _peers
from ..base import Claim, Report
from . import _heavy_ball
from ._throughput import ask_for_devices


_HORIZON, _RATE, _STD = 20, 0.05, 0.01
_TRUNCATIONS = (1, 5, 20)


def _estimates(estimator: AbstractEstimator, windows: int, tasks: int, replicates: int) -> np.ndarray:
    """Means over whole episodes, `[replicates, episodes]`, after a first episode that is not counted."""
    learner, problem = Learner(LearnableSGD(_RATE)), known_problem(_HORIZON, tasks)
    episodes, keys = 4, jr.split(jr.key(0), replicates)
    grads = estimates(estimator, learner, problem, skipped=windows, count=episodes * windows, keys=keys)
    return grads.reshape(replicates, episodes, windows).mean(2)


def _bowl_estimates(
    estimator: AbstractEstimator, horizon: ConstantHorizon | LogUniformHorizon, tasks: int, replicates: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors of both derivatives, after the first episodes."""
    learner, problem = _heavy_ball.heavy_ball(horizon, tasks)
    keys = jr.split(jr.key(1), replicates)
    grads = all_estimates(estimator, learner, problem, skipped=60, count=120, keys=keys)
    means = grads.mean(1)
    return means.mean(0), means.std(0, ddof=1) / np.sqrt(replicates)


class _Plain(AbstractEstimator[Any]):
    """What somebody else writes: keys of its own, a mean of its own, and nothing of devices."""

    truncation: int = eqx.field(static=True)

    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> Any:
        return PES(_STD, self.truncation).init(learner, problem, key=key)

    def estimate(
        self, state: Any, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[Any, MetaGradient]:
        return PES(_STD, self.truncation).estimate(state, learner, problem, key=key)


def _custom_z(truncation: int) -> float:
    """The worst z of a custom estimator on eight devices."""
    horizon = ConstantHorizon(12)
    learner, problem = _heavy_ball.heavy_ball(horizon, 256)
    estimator = TaskParallel(_Plain(truncation), make_mesh(tasks=min(8, len(jax.devices()))))

    @eqx.filter_jit
    def run(key: PRNGKeyArray) -> Array:
        dynamic, static = eqx.partition(estimator.init(learner, problem, key=key), eqx.is_array)

        def body(dynamic: Any, key: PRNGKeyArray) -> tuple[Any, Array]:
            state, estimate = estimator.estimate(eqx.combine(dynamic, static), learner, problem, key=key)
            return eqx.filter(state, eqx.is_array), jnp.stack(jtu.tree_leaves(estimate.grads))

        return jax.lax.scan(body, dynamic, jr.split(key, 9 + 600))[1][9:]

    means = np.asarray(run(jr.key(2)), np.float64).reshape(50, 12, 2).mean(1)
    error = means.std(0, ddof=1) / np.sqrt(len(means))
    return float(np.max(np.abs(means.mean(0) - _heavy_ball.mean_truth(horizon)) / error))


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
    ask_for_devices(8)
    tasks, replicates, wanted = 200, 64, truth(_RATE, _HORIZON)
    cases: list[tuple[AbstractEstimator, int, bool]] = [(Unrolled(), _HORIZON, True), (ES(_STD), _HORIZON, True)]
    for truncation in _TRUNCATIONS:
        cases += [(kind(_STD, truncation), truncation, True) for kind in (PES, NRES, ESSingle)]
        cases.append((TruncatedUnroll(truncation), truncation, truncation == _HORIZON))
    rows, claims, nonfinite, worst = [], [], 0, 0.0
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
    for horizon in (ConstantHorizon(12), LogUniformHorizon(5, 12)):
        for truncation in (1, 5):
            found, error = _bowl_estimates(PES(_STD, truncation), horizon, tasks, replicates)
            nonfinite += int(np.sum(~np.isfinite(found)))
            wanted_both = _heavy_ball.mean_truth(horizon)
            for name, mean, spread, exact in zip(("rate", "momentum"), found, error, wanted_both, strict=True):
                kind = f"PES, {name}, " + ("12 steps" if isinstance(horizon, ConstantHorizon) else "5 to 12 steps")
                z = abs(mean - exact) / spread
                rows.append(
                    {
                        "estimator": kind,
                        "truncation": truncation,
                        "mean": mean,
                        "standard error": spread,
                        "truth": exact,
                        "z": z,
                        "claims to be unbiased": True,
                        "std of one task's episode": None,
                    }
                )
                worst = max(worst, z)
    claims.append(
        Claim(
            "pes_bowl_worst_z",
            worst,
            "of 8: two derivatives, two truncations, constant and log-uniform horizons; noisy gradients, momentum",
            rival=None,
        )
    )
    claims.append(
        Claim(
            "custom_on_8_devices_z",
            _custom_z(truncation=5),
            f"a third-party estimator that knows nothing of devices, spread over {min(8, len(jax.devices()))} of them",
            rival=None,
        )
    )
    claims.append(Claim("nan_count", float(nonfinite), f"of {len(cases) * replicates * 4} averages", rival=None))
    notes = [
        f"Problem: x^2/2 from x = 1, rate {_RATE}, {_HORIZON} steps, mean loss; perturbation {_STD}.",
        f"The bowl: a rotated quadratic in two dimensions, rate {_heavy_ball.RATE}, momentum {_heavy_ball.MOMENTUM}, "
        f"noise {_heavy_ball.NOISE} in each gradient; truth by recursions of mean and covariance and complex steps in "
        "NumPy.",
    ]
    if full:
        peer, note = _peer_rows(wanted)
        rows, notes = rows + peer, [*notes, note]
    return Report([0], rows, claims, notes)
