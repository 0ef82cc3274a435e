"""The fronts that NSGA-II and NSGA-III of pymoo find, and how long they take.

Runs in an environment of its own and prints one JSON object.
"""

import argparse
import json
import time

import numpy as np
import pymoo
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.optimize import minimize
from pymoo.problems import get_problem
from pymoo.util.ref_dirs import get_reference_directions


THREE = {"dtlz2", "dtlz7", "c2dtlz2"}


def problem(name: str):
    if name == "dtlz2":
        return get_problem(name, n_var=12, n_obj=3)
    if name == "dtlz7":
        return get_problem(name, n_var=22, n_obj=3)
    if name == "srn":
        from pymoo.problems.multi.srn import SRN

        return SRN()
    if name == "c2dtlz2":
        return get_problem("c2dtlz2", n_var=12, n_obj=3)
    return get_problem(name)


def algorithm(name: str, three: bool):
    count = 91 if three else 100
    if name == "nsga2":
        return NSGA2(pop_size=count)
    directions = get_reference_directions("das-dennis", 3 if three else 2, n_partitions=12 if three else 99)
    return NSGA3(ref_dirs=directions, pop_size=count + count % 2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("problem")
    parser.add_argument("algorithms", nargs="+")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--evaluations", type=int, default=25_000)
    options = parser.parse_args()
    fronts: dict = {}
    seconds: dict = {}
    evaluations: dict = {}
    for name in options.algorithms:
        fronts[name], seconds[name], evaluations[name] = [], [], []
        for seed in range(options.seeds):
            start = time.process_time()
            found = minimize(
                problem(options.problem),
                algorithm(name, options.problem in THREE),
                ("n_eval", options.evaluations),
                seed=seed + 1,
                verbose=False,
            )
            seconds[name].append(time.process_time() - start)
            evaluations[name].append(found.algorithm.evaluator.n_eval)
            population = found.pop
            feasible = np.asarray(population.get("CV")).reshape(-1) <= 0
            fronts[name].append(np.asarray(population.get("F"))[feasible].tolist())
    print(
        json.dumps({"pymoo": pymoo.__version__, "fronts": fronts, "cpu_seconds": seconds, "evaluations": evaluations})
    )


if __name__ == "__main__":
    main()
