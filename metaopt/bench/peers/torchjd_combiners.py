"""What TorchJD makes of given gradients, and how much processor time it takes.

Runs in an environment of its own and prints one JSON object. Takes a file with the matrices `j0`, `j1`, ... and orders
`o0`, `o1`, ... for PCGrad, and writes the weights of each aggregator beside it; or measures the time on random
matrices of the given sizes.
"""

import argparse
import importlib.metadata
import json
import statistics
import time
import warnings

import cvxpy
import numpy as np
import torch
from torchjd import aggregation


def aggregators(m: int) -> dict:
    return {
        "MGDA": aggregation.MGDA(),
        "UPGrad": aggregation.UPGrad(),
        "PCGrad": aggregation.PCGrad(),
        "CAGrad": aggregation.CAGrad(c=0.5),
        "NashMTL": aggregation.NashMTL(n_tasks=m),
        "IMTLG": aggregation.IMTLG(),
    }


def converged(m: int) -> dict:
    """The same, run until nothing changes: what is compared are the methods, and not where their loops give up."""
    found = aggregators(m)
    found["MGDA"] = aggregation.MGDA(epsilon=1e-12, max_iters=2_000)
    nash = aggregation.NashMTL(n_tasks=m, optim_niter=20)
    nash.weighting._stop_criteria = lambda gtg, alpha: False
    found["NashMTL"] = nash
    return found


def solve_exactly(problem: cvxpy.Problem, *arguments, solve=cvxpy.Problem.solve, **options):
    """CAGrad's cone solver stops at 1e-8 in the value, where the minimizer is good to four digits only."""
    if arguments != (cvxpy.CLARABEL,):
        return solve(problem, *arguments, **options)
    names = "tol_gap_abs", "tol_gap_rel", "tol_feas"
    for tolerance in (1e-14, 1e-12, 1e-10):
        limits = {f"{prefix}{name}": tolerance for prefix in ("", "reduced_") for name in names}
        try:
            value = solve(problem, *arguments, max_iter=500, **limits)
        except cvxpy.error.SolverError:
            continue
        if problem.status in ("optimal", "optimal_inaccurate"):
            return value
    return solve(problem, *arguments)


def compare(path: str) -> None:
    data = np.load(path)
    cvxpy.Problem.solve = solve_exactly
    results = {}
    for i in range(sum(name.startswith("j") for name in data.files)):
        matrix = torch.from_numpy(data[f"j{i}"])
        orders = iter(torch.from_numpy(data[f"o{i}"]))
        for name, aggregator in converged(len(matrix)).items():
            original = torch.randperm
            torch.randperm = lambda n, orders=orders: next(orders)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    results[f"{name}/{i}"] = aggregator(matrix).detach().numpy()
            except Exception as error:
                results[f"{name}/{i}"] = np.full(matrix.shape[1], np.nan)
                results[f"{name}/{i}/error"] = np.asarray(f"{type(error).__name__}: {error}")
            finally:
                torch.randperm = original
    np.savez(path.replace(".npz", "_torchjd.npz"), **results)


def cost(m: int, d: int, repeats: int) -> dict:
    """Median CPU milliseconds per call, on one thread, in single precision."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    matrix = torch.randn(m, d) + 0.05
    found = {}
    for name, aggregator in aggregators(m).items():
        times = []
        for _ in range(repeats + 2):
            start = time.process_time()
            aggregator(matrix)
            times.append(1e3 * (time.process_time() - start))
        found[name] = statistics.median(times[2:])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--compare")
    parser.add_argument("--cost", nargs=3, type=int, metavar=("M", "D", "REPEATS"))
    options = parser.parse_args()
    result: dict = {"torchjd": importlib.metadata.version("torchjd"), "torch": torch.__version__}
    if options.compare:
        compare(options.compare)
    if options.cost:
        result["cpu_ms"] = cost(*options.cost)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
