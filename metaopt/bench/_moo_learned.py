"""All of a front in one network, against the solver of fronts."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..multiobjective import learn_pareto_set, make_problem, pareto_front
from ._moo_front import volume
from .base import Claim, Report


_PROBLEMS = ("zdt1", "zdt2", "dtlz2")
_SAMPLES = 1000


def _row(name: str, seed: int) -> dict[str, Any]:
    problem = make_problem(name)
    assert problem.ideal is not None
    m = problem.ideal.shape[0]
    solve = eqx.filter_jit(lambda key: pareto_front(problem, num_solutions=100 if m == 2 else 91, key=key))
    solved = volume(np.asarray(solve(jr.key(seed)).values), problem)
    start = time.process_time()
    found = learn_pareto_set(problem, key=jr.key(seed))
    seconds = time.process_time() - start
    preferences = jr.dirichlet(jr.key(100 + seed), jnp.ones(m), (_SAMPLES,))
    values = jax.vmap(lambda w: problem.objectives(found(w)))(preferences)
    learned = volume(np.asarray(values), problem)
    return {
        "problem": name,
        "seed": seed,
        "solver": solved,
        "network": learned,
        "ratio": learned / solved,
        "CPU s": seconds,
    }


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` takes three seeds."""
    seeds = list(range(3 if full else 1))
    rows = [_row(name, seed) for name in _PROBLEMS for seed in seeds]
    note = f"least over {', '.join(_PROBLEMS)}: {_SAMPLES} random preferences against the solver's front"
    claims = [Claim("pareto_set_hypervolume", min(row["ratio"] for row in rows), note)]
    return Report(seeds, rows, claims)
