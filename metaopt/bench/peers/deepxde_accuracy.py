"""How accurate DeepXDE is within a budget of processor time, on one problem.

Runs in an environment of its own and prints one JSON object. Networks, weights and rates are those of the examples of
DeepXDE where there is one; Adam takes the first half of the budget, L-BFGS the second.
"""

import argparse
import json
import os
import sys
import time


os.environ["DDE_BACKEND"] = "pytorch"
# It prints while it is imported, and while it trains.
_stdout, sys.stdout = sys.stdout, sys.stderr

import deepxde as dde  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402


def second(u, x, i, component=0):
    return dde.grad.hessian(u, x, component=component, i=i, j=i)


def first(u, x, i, component=0):
    return dde.grad.jacobian(u, x, i=component, j=i)


def everywhere(_, on_boundary):
    return on_boundary


def network(width, depth, outputs=1, activation="tanh"):
    return dde.nn.FNN([2] + [width] * depth + [outputs], activation, "Glorot uniform")


def elliptic(geometry, pde, net, weight=100, interior=1500, boundary=300, rate=1e-3):
    condition = dde.icbc.DirichletBC(geometry, lambda x: 0, everywhere)
    data = dde.data.PDE(geometry, pde, condition, num_domain=interior, num_boundary=boundary)
    return data, net, [1, weight], rate


def poisson():
    def pde(x, u):
        force = 2 * np.pi**2 * torch.prod(torch.sin(np.pi * x), dim=1, keepdim=True)
        return -second(u, x, 0) - second(u, x, 1) - force

    return elliptic(dde.geometry.Rectangle([0, 0], [1, 1]), pde, network(50, 4))


def poisson_l():
    def pde(x, u):
        return -second(u, x, 0) - second(u, x, 1) - 1

    geometry = dde.geometry.Polygon([[-1, -1], [0, -1], [0, 0], [1, 0], [1, 1], [-1, 1]])
    # The example's own numbers of points, and no weights.
    data, *rest = elliptic(geometry, pde, network(50, 4), 1, 1200, 120)
    # Points of a polygon come in double precision, which its networks refuse.
    for name in ("train_x_all", "train_x_bc", "train_x", "test_x"):
        points = getattr(data, name)
        setattr(data, name, None if points is None else points.astype(np.float32))
    return data, *rest


def helmholtz():
    k = 4 * np.pi

    def pde(x, u):
        force = k**2 * torch.prod(torch.sin(k * x), dim=1, keepdim=True)
        return -second(u, x, 0) - second(u, x, 1) - k**2 * u - force

    net = network(150, 3, activation="sin")
    # As in the example: zero on the boundary by construction.
    net.apply_output_transform(lambda x, y: x[:, 0:1] * (1 - x[:, 0:1]) * x[:, 1:2] * (1 - x[:, 1:2]) * y)
    geometry = dde.geometry.Rectangle([0, 0], [1, 1])
    # Ten points per wavelength in each direction, as there.
    data = dde.data.PDE(geometry, pde, [], num_domain=400, num_boundary=80)
    return data, net, None, 1e-3


def transient(pde, start, net, lower=0.0, weights=None, interior=2540, boundary=80, initial=160, extra=None):
    space = dde.geometry.Interval(lower, 1)
    geometry = dde.geometry.GeometryXTime(space, dde.geometry.TimeDomain(0, 1))
    conditions = [
        dde.icbc.DirichletBC(geometry, lambda x: 0, everywhere),
        dde.icbc.IC(geometry, start, lambda _, on_initial: on_initial),
    ]
    if extra:
        conditions.append(extra(geometry))
    options = {"num_domain": interior, "num_boundary": boundary, "num_initial": initial}
    return dde.data.TimePDE(geometry, pde, conditions, **options), net, weights, 1e-3


def heat():
    def pde(x, u):
        return first(u, x, 1) - 0.4 * second(u, x, 0)

    return transient(pde, lambda x: np.sin(np.pi * x[:, 0:1]), network(20, 3))


def wave():
    def pde(x, u):
        return second(u, x, 1) - 4 * second(u, x, 0)

    def start(x):
        return np.sin(np.pi * x[:, 0:1]) + 0.5 * np.sin(4 * np.pi * x[:, 0:1])

    def rest(geometry):
        return dde.icbc.OperatorBC(geometry, lambda x, u, _: first(u, x, 1), lambda x, _: dde.utils.isclose(x[1], 0))

    # The multi-scale network of its example is not in its PyTorch; Fourier features of those scales do no better here.
    net = network(100, 3)
    return transient(pde, start, net, weights=[1, 100, 100, 1], interior=1500, boundary=360, extra=rest)


def burgers():
    def pde(x, u):
        return first(u, x, 1) + u * first(u, x, 0) - 0.01 / np.pi * second(u, x, 0)

    return transient(pde, lambda x: -np.sin(np.pi * x[:, 0:1]), network(20, 3), lower=-1.0)


def allen_cahn():
    def pde(x, u):
        return first(u, x, 1) - 0.001 * second(u, x, 0) - 5 * (u - u**3)

    geometry = dde.geometry.GeometryXTime(dde.geometry.Interval(-1, 1), dde.geometry.TimeDomain(0, 1))
    data = dde.data.TimePDE(geometry, pde, [], num_domain=8000, num_boundary=400, num_initial=800)
    net = network(20, 3)
    net.apply_output_transform(
        lambda x, y: x[:, 0:1] ** 2 * torch.cos(np.pi * x[:, 0:1]) + x[:, 1:2] * (1 - x[:, 0:1] ** 2) * y
    )
    return data, net, None, 1e-3


def kovasznay():
    rate = 10 - np.sqrt(100 + 4 * np.pi**2)

    def pde(x, u):
        equations = [
            u[:, 0:1] * first(u, x, 0, c)
            + u[:, 1:2] * first(u, x, 1, c)
            + first(u, x, c, 2)
            - (second(u, x, 0, c) + second(u, x, 1, c)) / 20
            for c in (0, 1)
        ]
        return [*equations, first(u, x, 0, 0) + first(u, x, 1, 1)]

    def u(x):
        return 1 - np.exp(rate * x[:, 0:1]) * np.cos(2 * np.pi * x[:, 1:2])

    def v(x):
        return rate / (2 * np.pi) * np.exp(rate * x[:, 0:1]) * np.sin(2 * np.pi * x[:, 1:2])

    def p(x):
        return 0.5 * (1 - np.exp(2 * rate * x[:, 0:1]))

    geometry = dde.geometry.Rectangle([-0.5, -0.5], [1, 1.5])

    def outflow(x, on_boundary):
        return on_boundary and dde.utils.isclose(x[0], 1)

    conditions = [
        dde.icbc.DirichletBC(geometry, u, everywhere, component=0),
        dde.icbc.DirichletBC(geometry, v, everywhere, component=1),
        dde.icbc.DirichletBC(geometry, p, outflow, component=2),
    ]
    data = dde.data.PDE(geometry, pde, conditions, num_domain=2601, num_boundary=400)
    return data, network(50, 4, 3), None, 1e-3


PROBLEMS = {f.__name__: f for f in (poisson, poisson_l, helmholtz, heat, wave, burgers, allen_cahn, kovasznay)}


class Until(dde.callbacks.Callback):
    """Stop when the processor has worked for so long."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_epoch_end(self):
        if time.process_time() > self.seconds:
            self.model.stop_training = True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=list(PROBLEMS), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--budget", type=float, default=20.0)
    parser.add_argument("--tests", required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tests = np.load(options.tests)
    runs = [train(options.problem, seed, options.budget, tests) for seed in options.seeds]
    result = {"version": dde.__version__, "torch": torch.__version__}
    print(json.dumps(result | {name: [run[name] for run in runs] for name in runs[0]}), file=_stdout)


def train(problem, seed, budget, tests):
    dde.config.set_random_seed(seed)
    data, net, weights, rate = PROBLEMS[problem]()
    model = dde.Model(data, net)
    quiet = {"display_every": 10**9}
    model.compile("adam", lr=rate, loss_weights=weights)
    # Importing, building and the first steps, which set PyTorch up, count for nothing.
    model.train(iterations=3, **quiet)
    started = time.process_time()
    half, end = started + budget / 2, started + budget
    model.train(iterations=10**6, callbacks=[Until(half)], **quiet)
    steps = model.train_state.step
    after_adam = error(model, tests)
    # It looks at the clock between blocks of iterations only; the memory of L-BFGS outlives them.
    optimization = dde.optimizers.config.LBFGS_options
    optimization["iter_per_step"], optimization["fun_per_step"] = 50, 63
    model.compile("L-BFGS", loss_weights=weights)
    model.train(callbacks=[Until(end)], **quiet)
    lbfgs_steps = model.train_state.step - steps
    if time.process_time() < end:
        # It is done early, or its line search found nothing.
        model.compile("adam", lr=rate, loss_weights=weights)
        model.train(iterations=10**6, callbacks=[Until(end)], **quiet)
    return {
        "errors": error(model, tests),
        "after_adam": after_adam,
        "adam_steps": int(steps),
        "lbfgs_steps": int(lbfgs_steps),
        "cpu_seconds": time.process_time() - started,
    }


def error(model, tests):
    found = model.predict(tests["x"].astype(np.float32))[:, : tests["u"].shape[1]]
    return float(np.linalg.norm(found - tests["u"]) / np.linalg.norm(tests["u"]))


if __name__ == "__main__":
    main()
