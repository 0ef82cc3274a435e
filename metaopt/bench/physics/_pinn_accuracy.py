"""Errors of eight physics-informed problems within a budget of processor time, beside DeepXDE and jinns."""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float

from ... import physics
from ..._core import Inner, inner_step, with_horizon
from ...evaluate import BASELINES
from ...schedules import Cosine
from .. import _peers
from .._timing import on_one_core
from ..base import Budget, Claim, Report, Rival
from . import _pinn_references as references


_CHUNK = 10
_VISCOSITY = 0.01 / np.pi


@dataclasses.dataclass(frozen=True)
class Problem:
    """How a problem is made and solved.

    **Arguments:**

    - `make`: the problem, given a seed and where on a way to it, from 0 to 1.
    - `reference`, `tests`: the solution, and where it is compared.
    - `adam`: steps of Adam.
    - `path`: where on the way to stop for a block of Gauss-Newton steps each, before the problem itself.
    - `resampled`: whether interior points are drawn anew by their residuals before each block.
    """

    make: Callable[[int, float], physics.PINN]
    reference: Callable[[Float[np.ndarray, "n 2"]], Float[np.ndarray, "n m"]]
    tests: Callable[[], Float[np.ndarray, "n 2"]]
    adam: int = 300
    path: tuple[float, ...] = ()
    resampled: bool = False


def _grid(lower: tuple[float, float], upper: tuple[float, float], n: int = 101) -> Float[np.ndarray, "n 2"]:
    axes = [np.linspace(a, b, n) for a, b in zip(lower, upper, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def _l_points() -> Float[np.ndarray, "n 2"]:
    x = _grid((-1, -1), (1, 1))
    return x[~((x[:, 0] > 0) & (x[:, 1] < 0))]


def _interval(end: float, lower: float = 0.0) -> physics.SpaceTime:
    return physics.SpaceTime(physics.interval(lower, 1.0), 0.0, end)


# Functions of points stand here and not in the makers: tasks of all seeds share a program only if they share these.
def _product_of_sines(x: Float[Array, "n d"], k: float) -> Float[Array, " n"]:
    return jnp.prod(jnp.sin(k * x), axis=1)


def _poisson_source(x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return 2 * jnp.pi**2 * _product_of_sines(x, np.pi)


def _poisson(seed: int, _: float) -> physics.PINN:
    field = physics.Perceptron((2, 24, 24, 1))
    return physics.PINN(
        physics.Poisson(_poisson_source), field=field, interior=900, boundary_weight=100.0, sampler=physics.Halton(),
        seed=seed,
    )  # fmt: skip


def _poisson_l(seed: int, _: float) -> physics.PINN:
    field = physics.Perceptron((2, 16, 16, 16, 1))
    return physics.PINN(
        physics.Poisson(1.0), [physics.Dirichlet()], physics.l_shape(), field=field, interior=800, boundary=200,
        boundary_weight=100.0, seed=seed,
    )  # fmt: skip


def _helmholtz_source(x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return -((4 * np.pi) ** 2) * _product_of_sines(x, 4 * np.pi)


def _helmholtz(seed: int, _: float) -> physics.PINN:
    # Stretched, so that sines of the first layer begin with some turns across the domain.
    field = physics.Rescaled(physics.Perceptron((2, 24, 24, 1), "sin"), (0.0, 0.0), (0.15, 0.15))
    equation = physics.Helmholtz(4 * np.pi, _helmholtz_source)
    return physics.PINN(
        equation, field=field, interior=700, boundary=240, boundary_weight=10000.0, sampler=physics.Halton(), seed=seed
    )


def _heat_start(x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return jnp.sin(jnp.pi * x[:, 0])


def _heat(seed: int, _: float) -> physics.PINN:
    conditions = [physics.Initial(_heat_start), physics.Dirichlet()]
    field = physics.Perceptron((2, 20, 20, 1))
    return physics.PINN(
        physics.Heat(0.4), conditions, _interval(1.0), field=field, interior=800, boundary=100, seed=seed
    )


def _wave_start(x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return jnp.sin(jnp.pi * x[:, 0]) + 0.5 * jnp.sin(4 * jnp.pi * x[:, 0])


def _wave_distance(x: Float[Array, "n d"]) -> Float[Array, " n"]:
    # Like t^2 at first, so that the start has no speed, and then constant, so that the network need not fall.
    return x[:, 1] ** 2 / (x[:, 1] ** 2 + 0.01) * x[:, 0] * (1 - x[:, 0])


def _wave(seed: int, _: float) -> physics.PINN:
    inner = physics.Rescaled(physics.Perceptron((2, 20, 20, 1), "sin"), (0.0, 0.0), (2 / 30, 2 / 60))
    field = physics.HardBoundary(inner, _wave_distance, _wave_start)
    return physics.PINN(physics.Wave(2.0), [], _interval(1.0), field=field, interior=800, seed=seed)


def _burgers_start(x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return -jnp.sin(jnp.pi * x[:, 0])


def _distance(x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return x[:, 1] * (1 - x[:, 0] ** 2)


def _burgers(seed: int, at: float) -> physics.PINN:
    """On the way the viscosity falls from twenty times what it is."""
    field = physics.HardBoundary(physics.Perceptron((2, 12, 12, 12, 1)), _distance, _burgers_start)
    equation = physics.Burgers(_VISCOSITY * 20 ** (1 - at))
    return physics.PINN(equation, [], _interval(1.0, -1.0), field=field, interior=1000, seed=seed)


def _allen_cahn_start(x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return x[:, 0] ** 2 * jnp.cos(jnp.pi * x[:, 0])


def _allen_cahn(seed: int, at: float) -> physics.PINN:
    """On the way the time ends earlier. As in the example of DeepXDE, the conditions are met by construction."""
    field = physics.HardBoundary(physics.Perceptron((2, 12, 12, 12, 1)), _distance, _allen_cahn_start)
    equation = physics.AllenCahn(0.001, 5.0)
    return physics.PINN(equation, [], _interval(at, -1.0), field=field, interior=1000, seed=seed)


def _kovasznay_velocity(x: Float[Array, "n d"]) -> Float[Array, "n 2"]:
    return references.kovasznay(x, jnp)[:, :2]


def _kovasznay_pressure(x: Float[Array, "n d"]) -> Float[Array, "n 1"]:
    return references.kovasznay(x, jnp)[:, 2:]


def _outflow(x: Float[Array, "n d"]) -> Bool[Array, " n"]:
    return x[:, 0] > 1 - 1e-6


def _kovasznay(seed: int, _: float) -> physics.PINN:
    domain = physics.rectangle((-0.5, -0.5), (1.0, 1.5))
    conditions = [
        physics.Dirichlet(_kovasznay_velocity, components=(0, 1)),
        physics.Dirichlet(_kovasznay_pressure, where=_outflow, components=(2,), label="pressure"),
    ]
    field = physics.Perceptron((2, 20, 20, 3))
    return physics.PINN(
        physics.NavierStokes(1 / 20), conditions, domain, field=field, interior=500, boundary=150, seed=seed
    )


def _square() -> Float[np.ndarray, "n 2"]:
    return _grid((0, 0), (1, 1))


def _wide() -> Float[np.ndarray, "n 2"]:
    return _grid((-1, 0), (1, 1))


PROBLEMS = {
    "poisson": Problem(_poisson, references.poisson, _square, 100),
    "poisson_l": Problem(_poisson_l, references.poisson_l, _l_points, 200),
    "helmholtz": Problem(_helmholtz, references.helmholtz, _square, 50),
    "heat": Problem(_heat, references.heat, _square),
    "wave": Problem(_wave, references.wave, _square, 50),
    "burgers": Problem(_burgers, references.burgers, _wide, 100, (0.0, 0.5), resampled=True),
    "allen_cahn": Problem(_allen_cahn, references.allen_cahn, _wide, 100, (0.2, 0.4, 0.6, 0.8), resampled=True),
    "kovasznay": Problem(_kovasznay, references.kovasznay, lambda: _grid((-0.5, -0.5), (1.0, 1.5))),
}


class Solver:
    """Adam for some steps, then Gauss-Newton until a budget is spent, compiled once for all seeds."""

    def __init__(self, problem: Problem):
        self.problem, self.tests = problem, jnp.asarray(problem.tests())
        self.wanted = problem.reference(np.asarray(self.tests))
        started = time.process_time()
        task = problem.make(0, 1.0)
        # Tasks of other seeds and on the way have other arrays only.
        known, static = eqx.partition(task, eqx.is_array)
        newton, adam = physics.GaussNewton(halvings=8), Cosine(BASELINES["adam"](3e-3))
        resampling = physics.RAD() if problem.resampled else None

        def warm(known: Any, params: Any) -> Any:
            planned, task = with_horizon(adam, problem.adam), eqx.combine(known, static)

            def body(carry: Any, _: None) -> tuple[Any, None]:
                return inner_step(planned, task, carry, key=jr.key(0))[0], None

            carry = jax.lax.scan(body, Inner(planned.init(params), params), None, length=problem.adam)[0]
            return Inner(newton.init(carry.params), carry.params)

        def chunk(known: Any, carry: Any, key: Any) -> Any:
            task = eqx.combine(known, static)
            if resampling is not None:
                task = resampling.resample(task, carry.params, key=key)
            signal = physics.AsObjective(task)

            def body(carry: Any, _: None) -> tuple[Any, None]:
                return inner_step(newton, signal, carry, key=jr.key(0))[0], None

            return jax.lax.scan(body, carry, None, length=_CHUNK)[0]

        params = task.init(key=jr.key(0))
        carry = jax.eval_shape(warm, known, params)
        self._warm = jax.jit(warm).lower(known, params).compile()
        self._chunk = jax.jit(chunk).lower(known, carry, jr.key(0)).compile()
        self._solution = jax.jit(lambda params, x: task.solution(params, x)).lower(params, self.tests).compile()
        self.compiling = time.process_time() - started

    def run(self, seed: int, budget: float) -> list[tuple[float, float]]:
        """CPU seconds and relative errors on the way."""
        path = self.problem.path
        tasks = [eqx.filter(self.problem.make(seed, at), eqx.is_array) for at in (*path, 1.0)]
        params = self.problem.make(seed, 1.0).init(key=jr.key(seed))
        before = time.process_time()
        carry = jax.block_until_ready(self._warm(tasks[0], params))
        spent, curve = time.process_time() - before, []
        while spent < budget or not curve:
            before = time.process_time()
            task = tasks[min(len(curve), len(path))]
            carry = jax.block_until_ready(self._chunk(task, carry, jr.key(1000 * seed + len(curve))))
            spent += time.process_time() - before
            found = np.asarray(self._solution(carry.params, self.tests))
            curve.append((spent, relative_error(found, self.wanted)))
        return curve


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """In the Euclidean norm, over those outputs that have a reference."""
    found = found[:, : wanted.shape[1]]
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def measure(name: str, seeds: list[int], budget: float) -> dict[str, Any]:
    """The curves of some seeds, and what compiling took."""
    with jax.enable_x64(True):
        solver = Solver(PROBLEMS[name])
        return {"curves": [solver.run(seed, budget) for seed in seeds], "compiling": solver.compiling}


# What each peer is, and on which problems it is measured.
_JINNS = ("poisson", "helmholtz", "heat", "wave", "burgers", "allen_cahn")
_PEERS = {"DeepXDE": ("deepxde", tuple(PROBLEMS)), "jinns": ("jinns", _JINNS)}


def _peer(peer: str, name: str, problem: Problem, seeds: list[int], budget: float, folder: Path) -> dict[str, Any]:
    path = folder / f"{name}.npz"
    x = problem.tests()
    np.savez(path, x=x, u=problem.reference(x))
    options = ["--problem", name, "--seeds", *seeds, "--budget", budget, "--tests", path]
    timeout = 120 + 20 * budget * len(seeds)
    return _peers.run(_peers.interpreter(peer), f"{peer}_accuracy.py", *options, timeout=timeout)


def run(*, full: bool = False) -> Report:
    """Each problem with three seeds; `full` takes five, and a larger budget."""
    # Settings were chosen on others.
    seeds, budget = list(range(1, 6 if full else 4)), (60.0 if full else 8.0)
    rows, notes, reached = [], [], []
    ratios: dict[str, list[float]] = {title: [] for title in _PEERS}
    with tempfile.TemporaryDirectory() as folder:
        for name, problem in PROBLEMS.items():
            found = on_one_core(__name__, "measure", name, seeds, budget)
            ours = [curve[-1][1] for curve in found["curves"]]
            if name == "poisson":
                first = [next((s for s, e in curve if e <= 1e-5), float("inf")) for curve in found["curves"]]
                reached = [seconds + found["compiling"] for seconds in first]
            row = {
                "problem": name,
                "relative L2": statistics.median(ours),
                "worst": max(ours),
                "compile s": found["compiling"],
            }
            for title, (peer, names) in _PEERS.items():
                if name not in names:
                    continue
                try:
                    theirs = _peer(peer, name, problem, seeds, budget, Path(folder))
                except (_peers.PeerUnavailable, _peers.PeerFailed) as error:
                    notes.append(f"{title} was not measured on {name}: {error}")
                    continue
                # What diverged is worse than anything.
                errors = [error if np.isfinite(error) else np.inf for error in theirs["errors"]]
                ratios[title].append(statistics.median(errors) / row["relative L2"])
                row |= {
                    f"{title} {theirs['version']}": statistics.median(errors),
                    f"{title}, best": min(errors),
                    f"times lower than {title}": ratios[title][-1],
                }
            rows.append(row)
    note = f"lower is better; 1e-5 after {statistics.median(reached):.3g} CPU s, compiling included"
    own = Budget(cpu_seconds=budget)
    compiling = [row["compile s"] for row in rows]
    claims = [
        Claim(
            "poisson_rel_l2",
            rows[0]["relative L2"],
            note,
            budget=own,
            rival=None,
            compile_seconds=rows[0]["compile s"],
        )
    ]
    for title, measured in ratios.items():
        if measured:
            # The peer that the claims are about has no suffix.
            suffix = "" if title == "DeepXDE" else f"_{title}"
            note = f"of {len(measured)} problems that {title} was measured on; medians of seeds"
            version = next(key for row in rows for key in row if key.startswith(f"{title} ")).split()[-1]
            terms: dict[str, Any] = {
                "budget": own,
                "rival": Rival(title, own, version),
                "compile_seconds": statistics.median(compiling),
                "left_out": "compiling, as long as the budget; longer runs, for which DeepXDE's examples are made; "
                "settings are chosen for each problem on other seeds, the peer's are those of its examples or ours",
            }
            claims.append(Claim(f"at_least_as_good{suffix}", sum(r >= 1 for r in measured), note, **terms))
            claims.append(Claim(f"ten_times_better{suffix}", sum(r >= 10 for r in measured), note, **terms))
    notes.append(
        f"Each run has {budget:g} seconds of processor time, besides importing, building and "
        "compiling. Ours: some hundred steps of Adam, then Gauss-Newton, in double precision. DeepXDE: networks of its "
        "examples, Adam for half of the budget, then L-BFGS. jinns: its natural gradient, which it recommends, in "
        "double precision, on networks and conditions like ours, without our ways to the problems and resampling."
    )
    return Report(seeds, rows, claims, notes)
