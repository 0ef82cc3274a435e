"""How much processor time an iteration of DeepXDE takes: Poisson's equation in the unit square, Adam.

Runs in an environment of its own and prints one JSON object.
"""

import argparse
import json
import os
import statistics
import sys
import time


os.environ["DDE_BACKEND"] = "pytorch"
# It prints while it is imported, and while it trains.
_stdout, sys.stdout = sys.stdout, sys.stderr

import deepxde as dde  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interior", type=int, default=2000)
    parser.add_argument("--boundary", type=int, default=200)
    parser.add_argument("--width", type=int, default=50)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--blocks", type=int, default=5)
    options = parser.parse_args()
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)

    def pde(x, u):
        lap = dde.grad.hessian(u, x, i=0, j=0) + dde.grad.hessian(u, x, i=1, j=1)
        return -lap - 2 * np.pi**2 * torch.prod(torch.sin(np.pi * x), dim=1, keepdim=True)

    geometry = dde.geometry.Rectangle([0, 0], [1, 1])
    condition = dde.icbc.DirichletBC(geometry, lambda x: 0, lambda _, on_boundary: on_boundary)
    data = dde.data.PDE(geometry, pde, condition, num_domain=options.interior, num_boundary=options.boundary)
    net = dde.nn.FNN([2] + [options.width] * options.depth + [1], "tanh", "Glorot uniform")
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, loss_weights=[1, 10])
    model.train(iterations=options.iterations, display_every=10**9)
    cpu, wall = [], []
    for _ in range(options.blocks):
        w, c = time.perf_counter(), time.process_time()
        model.train(iterations=options.iterations, display_every=10**9)
        wall.append(1e3 * (time.perf_counter() - w) / options.iterations)
        cpu.append(1e3 * (time.process_time() - c) / options.iterations)
    result = {
        "version": dde.__version__,
        "torch": torch.__version__,
        "cpu_ms": statistics.median(cpu),
        "wall_ms": statistics.median(wall),
    }
    print(json.dumps(result), file=_stdout)


if __name__ == "__main__":
    main()
