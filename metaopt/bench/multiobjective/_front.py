"""Fronts of standard problems against NSGA-II and NSGA-III."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from ..._core._compiling import quick_options
from ...multiobjective import Front, Problem, hypervolume, make_problem, pareto_front
from .. import _peers
from ..base import Budget, Claim, Report, Rival


_FREE = ("zdt1", "zdt2", "zdt3", "zdt4", "zdt6", "dtlz2", "dtlz7")
_CONSTRAINED = ("bnh", "srn", "tnk", "osy", "c2dtlz2")
_NAMES = {"nsga2": "NSGA-II", "nsga3": "NSGA-III"}
_REFERENCE = 1.1
_EVALUATIONS = 25_000
_FREE_STEPS, _CONSTRAINED_STEPS = 300, 1200


def volume(values: Any, problem: Problem) -> float:
    """In units of the known front, in double precision."""
    with jax.enable_x64(True):
        ideal, nadir = (jnp.asarray(x, jnp.float64) for x in (problem.ideal, problem.nadir))
        points = (jnp.asarray(values, jnp.float64) - ideal[None]) / (nadir - ideal)[None]
        return float(hypervolume(points, _REFERENCE)) if points.shape[0] else 0.0


def _solver(problem: Problem, count: int, steps: int) -> Callable[[Array], Front]:
    # As the peers, it is not told where the front is.
    unknown = Problem(problem.objectives, problem.lower, problem.upper, problem.constraints)
    # XLA then compiles for half as long, and what it makes is about as fast.
    options = quick_options(2, emitters=False)
    return jax.jit(
        lambda key: pareto_front(unknown, num_solutions=count, steps=steps, key=key), compiler_options=options
    )


def _size(problem: Problem) -> int:
    return 100 if problem.ideal is None or problem.ideal.shape[0] == 2 else 91


def counted(problem: Problem, count: int, steps: int) -> dict[str, int]:
    """How many values of the objectives a search takes, how many of these with their gradients, and how many values of
    the constraints, with and without gradients."""
    found: dict[str, int] = {"values": 0, "gradients": 0, "constraints": 0}

    def note(name: str, x: Array) -> None:
        def add(_: Any) -> None:
            found[name] += 1

        jax.debug.callback(add, x[0])

    def seen(function: Callable[[Array], Array], plain: str, differentiated: str) -> Callable[[Array], Array]:
        def call(x: Array) -> Array:
            note(plain, x)
            return function(x)

        def derivative(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
            note(differentiated, primals[0])
            return jax.jvp(function, primals, tangents)

        watched: Any = jax.custom_jvp(call)
        watched.defjvp(derivative)
        return watched

    objectives = seen(problem.objectives, "values", "gradients")
    constraints = seen(problem.constraints, "constraints", "constraints")
    watched = Problem(objectives, problem.lower, problem.upper, constraints)
    jax.block_until_ready(_solver(watched, count, steps)(jr.key(0)))
    jax.effects_barrier()
    return found


def _ours(problem: Problem, seeds: int, steps: int) -> dict[str, Any]:
    count = _size(problem)
    solve = _solver(problem, count, steps)
    start = time.process_time()
    jax.block_until_ready(solve(jr.key(1000)))
    cold = time.process_time() - start
    volumes, seconds, feasible = [], [], []
    for seed in range(seeds):
        start = time.process_time()
        front = jax.block_until_ready(solve(jr.key(seed)))
        seconds.append(time.process_time() - start)
        meets = np.asarray(jnp.all(jax.vmap(problem.constraints)(front.solutions) <= 0, axis=1))
        feasible.append(float(meets.mean()))
        volumes.append(volume(np.asarray(front.values)[meets], problem))
    return {
        "volume": statistics.median(volumes),
        "worst": min(volumes),
        "seconds": statistics.median(seconds),
        "cold": cold,
        "feasible": min(feasible),
    }


def _compare(
    names: tuple[str, ...], rivals: tuple[str, ...], seeds: int, steps: int
) -> tuple[list[dict[str, Any]], list[str]]:
    rows, notes = [], []
    for name in names:
        problem = make_problem(name)
        found = _ours(problem, seeds, steps)
        row: dict[str, Any] = {
            "problem": name,
            "hypervolume": found["volume"],
            "worst seed": found["worst"],
            "feasible": found["feasible"],
            "CPU s": found["seconds"],
            "CPU s, cold": found["cold"],
        }
        try:
            arguments = (name, *rivals, "--seeds", seeds, "--evaluations", _EVALUATIONS)
            peer = _peers.run(_peers.interpreter("pymoo"), "pymoo_fronts.py", *arguments, timeout=900)
        except (_peers.PeerUnavailable, _peers.PeerFailed) as error:
            notes.append(f"pymoo was not measured on {name}: {error}")
            rows.append(row)
            continue
        for rival in rivals:
            volumes = [volume(np.asarray(front), problem) if front else 0.0 for front in peer["fronts"][rival]]
            row[rival] = statistics.median(volumes)
            row[f"{rival}, best seed"] = max(volumes)
            row[f"{rival}, CPU s"] = statistics.median(peer["cpu_seconds"][rival])
            row[f"{rival}, evaluations"] = max(peer["evaluations"][rival])
        row["pymoo"] = peer["pymoo"]
        rows.append(row)
    return rows, notes


_COUNTED = 10


def _terms(rows: list[dict[str, Any]], rivals: tuple[str, ...], first: str, steps: int) -> dict[str, Any]:
    """What both sides spend on a front: ours counted on one problem with few members, as all members do the same."""
    problem = make_problem(first)
    size, each = _size(problem), counted(problem, _COUNTED, steps)
    spent = {name: count * size / _COUNTED for name, count in each.items()}
    constrained = jax.eval_shape(problem.constraints, problem.lower).shape[0] > 0
    evaluations = max(row[f"{rival}, evaluations"] for row in rows for rival in rivals)
    return {
        "budget": Budget(
            values=spent["values"],
            gradients=spent["gradients"],
            constraints=spent["constraints"] if constrained else None,
        ),
        "rival": Rival(
            " and ".join(_NAMES[rival] for rival in rivals) + " of pymoo",
            Budget(values=evaluations, gradients=0, constraints=evaluations if constrained else None),
            rows[0]["pymoo"],
        ),
        "unequal": f"ours has {spent['gradients']:,.0f} evaluations with gradients, rivals {evaluations:,} without",
        "compile_seconds": statistics.median(max(row["CPU s, cold"] - row["CPU s"], 0.0) for row in rows),
        "left_out": "SMS-EMOA and others; equal evaluations; four and more objectives; objectives without gradients",
    }


def _at_least(rows: list[dict[str, Any]], rivals: tuple[str, ...]) -> int:
    return sum(all(row["hypervolume"] >= row[rival] for rival in rivals) for row in rows)


def run(*, full: bool = False) -> Report:
    """Run the benchmark on problems without constraints; `full` takes five seeds in place of three."""
    seeds = 5 if full else 3
    rivals = ("nsga2", "nsga3")
    rows, notes = _compare(_FREE, rivals, seeds, _FREE_STEPS)
    claims = []
    measured = [row for row in rows if "nsga2" in row]
    if measured:
        note = f"of {len(measured)}; medians of {seeds} seeds against both NSGA-II and NSGA-III"
        terms = _terms(measured, rivals, _FREE[0], _FREE_STEPS)
        claims.append(Claim("problems_at_least_nsga", _at_least(measured, rivals), note, **terms))
        terms = _terms(measured, rivals[:1], _FREE[0], _FREE_STEPS)
        for claim, key in (("warm_speed_vs_nsga2", "CPU s"), ("cold_speed_vs_nsga2", "CPU s, cold")):
            ratios = [row["nsga2, CPU s"] / row[key] for row in measured]
            spread = f"median of {len(ratios)} problems, {min(ratios):.3g} to {max(ratios):.3g}; CPU time"
            cold = key == "CPU s, cold"
            claims.append(Claim(claim, statistics.median(ratios), spread, **terms, compile_counted=cold))
    notes.append(
        f"pymoo 0.6.1.6, {_EVALUATIONS} evaluations; 100 solutions, 91 for three objectives. Reference point 1.1 in "
        "units of the front, which for all but DTLZ7 are those of the problem. Neither is told where the front is."
    )
    return Report(list(range(seeds)), rows, claims, notes)


def constrained(*, full: bool = False) -> Report:
    """Run the benchmark on problems with constraints; `full` takes five seeds in place of three."""
    seeds = 5 if full else 3
    rows, notes = _compare(_CONSTRAINED, ("nsga2",), seeds, _CONSTRAINED_STEPS)
    least = min(row["feasible"] for row in rows)
    claims = [Claim("feasible_fraction", least, "least over problems and seeds", rival=None)]
    measured = [row for row in rows if "nsga2" in row]
    if measured:
        note = f"of {len(measured)}; medians of {seeds} seeds against NSGA-II"
        terms = _terms(measured, ("nsga2",), _CONSTRAINED[0], _CONSTRAINED_STEPS)
        claims.append(Claim("problems_at_least_nsga", _at_least(measured, ("nsga2",)), note, **terms))
    notes.append(f"pymoo 0.6.1.6, {_EVALUATIONS} evaluations. Reference point 1.1 in units of the front.")
    return Report(list(range(seeds)), rows, claims, notes)
