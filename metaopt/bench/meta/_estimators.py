"""Bias and variance of the meta-gradient estimators, where the meta-gradient is known in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import AbstractLossTask, Learner, SingleTask
from ...l2o import LearnableSGD
from ...meta import (
    ES,
    NRES,
    PES,
    AbstractEstimator,
    ConstantHorizon,
    ESSingle,
    MeanLoss,
    MetaProblem,
    TruncatedUnroll,
    Unrolled,
)
from .. import _peers
from ..base import Claim, Report


_HORIZON, _RATE, _STD = 20, 0.05, 0.01
_TRUNCATIONS = (1, 5, 20)


class _Parabola(AbstractLossTask[Array]):
    """f(x) = x^2 / 2 from x = 1: gradient descent at rate a gives x_t = (1 - a)^t."""

    def init(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.ones(())

    def loss(self, params: Float[Array, ""], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return 0.5 * params**2

    def measure(self, params: Float[Array, ""], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)


def _truth() -> float:
    """The derivative of the mean loss after each of the updates with respect to log a."""
    t = np.arange(1, _HORIZON + 1)
    return float(np.mean(-_RATE * t * (1 - _RATE) ** (2 * t - 1)))


def _estimates(estimator: AbstractEstimator, windows: int, tasks: int, replicates: int) -> np.ndarray:
    """Means over whole episodes, `[replicates, episodes]`, after a first episode that is not counted."""
    learner = Learner(LearnableSGD(_RATE))
    problem = MetaProblem(SingleTask(_Parabola()), MeanLoss(), ConstantHorizon(_HORIZON), tasks=tasks)
    episodes = 4

    def run(key: PRNGKeyArray) -> Array:
        start, key = jr.split(key)
        dynamic, static = eqx.partition(estimator.init(learner, problem, key=start), eqx.is_array)

        def body(dynamic: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Array]:
            state, estimate = estimator.estimate(eqx.combine(dynamic, static), learner, problem, key=key)
            return eqx.filter(state, eqx.is_array), jax.tree.leaves(estimate.grads)[0]

        return jax.lax.scan(body, dynamic, jr.split(key, (1 + episodes) * windows))[1][windows:]

    grads = jax.jit(jax.vmap(run))(jr.split(jr.key(0), replicates))
    return np.asarray(grads, np.float64).reshape(replicates, episodes, windows).mean(2)


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
    tasks, replicates, truth = 200, 64, _truth()
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
        bias = float(means.mean() - truth)
        # Of an exact estimator the rounding error is all that is left.
        z = abs(bias) / max(error, 1e-6 * abs(truth))
        name = type(estimator).__name__
        rows.append(
            {
                "estimator": name,
                "truncation": truncation,
                "mean": float(means.mean()),
                "standard error": error,
                "truth": truth,
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
        peer, note = _peer_rows(truth)
        rows, notes = rows + peer, [*notes, note]
    return Report([0], rows, claims, notes)
