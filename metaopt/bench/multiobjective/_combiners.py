"""Combiners of gradients against TorchJD: what they give, and what they cost."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ...evaluate import BASELINES
from ...multiobjective import IMTLG, MGDA, AbstractCombiner, CAGrad, NashMTL, PCGrad, UPGrad
from ...multiobjective.combiners._pcgrad import operate
from .. import _peers
from ..base import Budget, Claim, Report, Rival


_KINDS = ("plain", "plain", "zero", "duplicate", "opposite", "dependent", "nothing")
_SIZES = (2, 3, 5, 8, 16)
_TIMED = ((5, 5_000), (5, 100_000))


def _rules() -> dict[str, AbstractCombiner]:
    inner = BASELINES["sgd"](1.0)
    rules = MGDA(inner), UPGrad(inner), PCGrad(inner), CAGrad(inner), NashMTL(inner), IMTLG(inner)
    return {type(rule).__name__: rule for rule in rules}


def _draw(m: int, kind: str, generator: np.random.Generator) -> np.ndarray:
    matrix = generator.normal(size=(m, 2 * m)) * np.exp(generator.normal(size=(m, 1)))
    if kind == "zero":
        matrix[0] = 0
    if kind in ("duplicate", "opposite"):
        matrix[-1] = matrix[0] if kind == "duplicate" else -matrix[0]
    if kind == "dependent":
        matrix = matrix[:, :2] @ generator.normal(size=(2, 2 * m))
    return 0 * matrix if kind == "nothing" else matrix


def _bargains(direction: np.ndarray, matrix: np.ndarray) -> bool:
    """Whether a direction solves the equations of the bargaining game: what it does not solve is nothing to equal."""
    with np.errstate(all="ignore"):
        again = (1 / (matrix @ direction)) @ matrix
        error = np.abs(again / np.linalg.norm(again) - direction / np.linalg.norm(direction)).max()
    return bool(error < 1e-6 and np.all(matrix @ direction > 0))


def _errors(seeds: int, notes: list[str]) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    drawn = [(m, kind, _draw(m, kind, generator)) for _ in range(seeds) for m in _SIZES for kind in _KINDS]
    orders = [np.stack([generator.permutation(m) for _ in range(m)]) for m, _, _ in drawn]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrices.npz"
        arrays: dict[str, Any] = {f"j{i}": j for i, (_, _, j) in enumerate(drawn)} | {
            f"o{i}": o for i, o in enumerate(orders)
        }
        np.savez(path, **arrays)
        _peers.run(_peers.interpreter("torchjd"), "torchjd_combiners.py", "--compare", path, timeout=900)
        theirs = dict(np.load(path.with_name("matrices_torchjd.npz")))
    rows = []
    with jax.enable_x64(True):
        for name, rule in _rules().items():
            errors, left_out = [], 0
            weigh = jax.jit(operate if name == "PCGrad" else lambda g, _, rule=rule: rule.weigh(g, None))
            for i, (_, _, matrix) in enumerate(drawn):
                other, size = theirs[f"{name}/{i}"], np.linalg.norm(matrix) or 1.0
                ours = np.asarray(weigh(matrix @ matrix.T, orders[i])) @ matrix
                error = float(np.abs(ours - other).max() / size)
                if name == "NashMTL" and not _bargains(other, matrix):
                    left_out += 1
                elif name == "MGDA" and error > 1e-6 and np.linalg.norm(ours) < np.linalg.norm(other):
                    # The shortest vector is unique, so that a longer one has not converged.
                    left_out += 1
                else:
                    errors.append(error)
            rows.append(
                {"combiner": name, "max error": max(errors), "compared": len(errors), "peer unsolved": left_out}
            )
    notes.append(
        "Errors of the combined gradient, relative to the norm of all, in double precision. TorchJD's Frank-Wolfe loop "
        "of MGDA (2,000 iterations) and its solver of the bargaining game do not converge (`peer unsolved`): "
        "where its MGDA is longer than ours, or its direction does not solve the game, there is nothing to equal. The "
        "tolerances of its cone solver (CAGrad) are tightened, where possible to 1e-14: by default it stops short."
    )
    return rows


def _timed(call: Callable[[Array], Array], matrix: Float[Array, "m d"], repeats: int) -> float:
    jax.block_until_ready(call(matrix))
    times = []
    for _ in range(repeats):
        start = time.process_time()
        jax.block_until_ready(call(matrix))
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def _costs(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for m, d in _TIMED:
        matrix = jr.normal(jr.key(1), (m, d)) + 0.05
        compiled = {}
        for name, rule in _rules().items():

            def combined(rows: Array, rule: AbstractCombiner = rule) -> Array:
                params = jnp.zeros(rows.shape[1])
                return rule.step(rule.init(params), params, rows)[1]

            compiled[name] = jax.jit(combined)
        ours = {name: [] for name in compiled}
        theirs: dict[str, list[float]] = {name: [] for name in compiled}
        for _ in range(2):
            for name, call in compiled.items():
                ours[name].append(_timed(call, matrix, repeats))
            arguments = ("--cost", m, d, repeats)
            peer = _peers.run(_peers.interpreter("torchjd"), "torchjd_combiners.py", *arguments, timeout=600)
            for name in compiled:
                theirs[name].append(peer["cpu_ms"][name])
        for name in compiled:
            mine, other = min(ours[name]), min(theirs[name])
            rows.append(
                {"combiner": name, "m": m, "d": d, "CPU-ms": mine, "TorchJD CPU-ms": other, "ratio": other / mine}
            )
    return rows


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` draws five times as many matrices."""
    seeds, notes = 5 if full else 1, []
    try:
        errors, costs = _errors(seeds, notes), _costs(100 if full else 30)
    except (_peers.PeerUnavailable, _peers.PeerFailed) as error:
        return Report([0], [], [], [f"TorchJD was not measured: {error}"])
    ratios = [row["ratio"] for row in costs]
    compared = sum(row["compared"] for row in errors)
    work = Budget(work="a step from given gradients: their Gramian and one combined gradient")
    terms: dict[str, Any] = {"budget": work, "rival": Rival("TorchJD", work, "0.18.0")}
    claims = [
        Claim(
            "max_error_vs_torchjd",
            max(row["max error"] for row in errors),
            f"lower is better; {compared} comparisons",
            **terms,
            left_out="where the peer does not converge: most degenerate matrices of Nash-MTL, half of MGDA",
        ),
        Claim(
            "cpu_vs_torchjd",
            statistics.geometric_mean(ratios),
            f"geometric mean over six combiners and two sizes, {min(ratios):.3g} to {max(ratios):.3g}",
            **terms,
            left_out="compiling; the backward passes that make the gradients; more than 100,000 parameters; GPUs",
        ),
    ]
    notes.append("TorchJD 0.18.0, one thread, single precision; the lower of two alternating medians.")
    return Report(list(range(seeds)), errors + costs, claims, notes)
