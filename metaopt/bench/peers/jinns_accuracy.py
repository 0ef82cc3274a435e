"""How accurate jinns is within a budget of processor time, on one problem.

Runs in an environment of its own and prints one JSON object. The solver is the natural gradient that jinns recommends,
in double precision, with its own defaults; networks, points and weights are ours, as it has examples of few of these.
"""

import argparse
import importlib.metadata
import json
import os
import sys
import time
import warnings


if sys.platform == "linux":
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import jinns  # noqa: E402
import numpy as np  # noqa: E402
from jinns.loss import PDENonStatio, PDEStatio  # noqa: E402
from jinns.optimizers import vanilla_ngd  # noqa: E402
from jinns.solver._utils import _loss_evaluate_and_natural_gradient_step as step  # noqa: E402


jax.config.update("jax_enable_x64", True)
CHUNK = 10


def value(u, params):
    return lambda x: jnp.squeeze(u(x, params))


def second(f, i):
    return lambda x: jax.grad(lambda x: jax.grad(f)(x)[i])(x)[i]


class Poisson(PDEStatio):
    def equation(self, x, u, params):
        f = value(u, params)
        return (-second(f, 0)(x) - second(f, 1)(x) - 2 * jnp.pi**2 * jnp.prod(jnp.sin(jnp.pi * x)))[None]


class Helmholtz(PDEStatio):
    def equation(self, x, u, params):
        f, k = value(u, params), 4 * np.pi
        return (second(f, 0)(x) + second(f, 1)(x) + k**2 * f(x) + k**2 * jnp.prod(jnp.sin(k * x)))[None]


# Time comes first.
class Heat(PDENonStatio):
    def equation(self, t_x, u, params):
        f = value(u, params)
        return (jax.grad(f)(t_x)[0] - 0.4 * second(f, 1)(t_x))[None]


class Wave(PDENonStatio):
    def equation(self, t_x, u, params):
        f = value(u, params)
        return (second(f, 0)(t_x) - 4 * second(f, 1)(t_x))[None]


class Burgers(PDENonStatio):
    def equation(self, t_x, u, params):
        f = value(u, params)
        t, x = jax.grad(f)(t_x)
        return (t + f(t_x) * x - 0.01 / np.pi * second(f, 1)(t_x))[None]


class AllenCahn(PDENonStatio):
    def equation(self, t_x, u, params):
        f = value(u, params)
        return (jax.grad(f)(t_x)[0] - 0.001 * second(f, 1)(t_x) - 5 * (f(t_x) - f(t_x) ** 3))[None]


def fixed(start, distance):
    """Meets the conditions by construction."""
    return lambda t_x, u, _: start(t_x[1]) + distance(t_x[0], t_x[1]) * u


def wave_start(x):
    return jnp.sin(jnp.pi * x) + 0.5 * jnp.sin(4 * jnp.pi * x)


# Equation, hidden units, activation, stretch of the coordinates, points, weight of conditions, lower end, start (soft),
# and transformation of the output (hard).
PROBLEMS = {
    "poisson": (Poisson, (24, 24), jnp.tanh, (1, 1), (900, 200), 100.0, 0.0, None, None),
    "helmholtz": (Helmholtz, (24, 24), jnp.sin, (13, 13), (700, 240), 10000.0, 0.0, None, None),
    "heat": (Heat, (20, 20), jnp.tanh, (1, 1), (800, 100), 10.0, 0.0, lambda x: jnp.sin(jnp.pi * x), None),
    "wave": (
        Wave, (20, 20), jnp.sin, (60, 30), (800, 0), 1.0, 0.0, None,
        fixed(wave_start, lambda t, x: t**2 / (t**2 + 0.01) * x * (1 - x)),
    ),
    "burgers": (
        Burgers, (12, 12, 12), jnp.tanh, (1, 1), (1000, 0), 1.0, -1.0, None,
        fixed(lambda x: -jnp.sin(jnp.pi * x), lambda t, x: t * (1 - x**2)),
    ),
    "allen_cahn": (
        AllenCahn, (12, 12, 12), jnp.tanh, (1, 1), (1000, 0), 1.0, -1.0, None,
        fixed(lambda x: x**2 * jnp.cos(jnp.pi * x), lambda t, x: t * (1 - x**2)),
    ),
}  # fmt: skip


def build(name, seed):
    equation, hidden, activation, stretch, (interior, boundary), weight, lower, start, output = PROBLEMS[name]
    stationary = issubclass(equation, PDEStatio)
    kind = "PDEStatio" if stationary else "PDENonStatio"
    layers = [(eqx.nn.Linear, 2, hidden[0]), (activation,)]
    for inputs, outputs in zip(hidden, hidden[1:], strict=False):
        layers += [(eqx.nn.Linear, inputs, outputs), (activation,)]
    layers.append((eqx.nn.Linear, hidden[-1], 1))
    u, weights = jinns.nn.PINN_MLP.create(
        key=jax.random.key(seed),
        eqx_list=tuple(layers),
        eq_type=kind,
        input_transform=lambda x, _: x * jnp.asarray(stretch, float),
        output_transform=output,
    )
    params = jinns.parameters.Params(nn_params=weights, eq_params={})
    key = jax.random.key(1000 + seed)
    condition = jinns.loss.Dirichlet() if output is None else None
    if stationary:
        data = jinns.data.CubicMeshPDEStatio(
            key=key, n=interior, nb=boundary, dim=2, min_pts=(0.0, 0.0), max_pts=(1.0, 1.0)
        )
        loss = jinns.loss.LossPDEStatio(
            u=u,
            dynamic_loss=equation(),
            boundary_condition=condition,
            loss_weights=jinns.loss.LossWeightsPDEStatio(dyn_loss=1.0, boundary_loss=weight),
            params=params,
        )
    else:
        data = jinns.data.CubicMeshPDENonStatio(
            key=key, n=interior, nb=2 * max(boundary // 2, 1), ni=max(boundary, 2), dim=1, min_pts=(lower,),
            max_pts=(1.0,), tmin=0.0, tmax=1.0, method="uniform",
        )  # fmt: skip
        factors = {"dyn_loss": 1.0}
        if output is None:
            factors |= {"boundary_loss": weight, "initial_condition": weight}
        loss = jinns.loss.LossPDENonStatio(
            u=u,
            dynamic_loss=equation(),
            boundary_condition=condition,
            initial_condition_fun=start,
            loss_weights=jinns.loss.LossWeightsPDENonStatio(**factors),
            params=params,
        )
    return u, params, data, loss, not stationary


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=list(PROBLEMS), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--budget", type=float, default=20.0)
    parser.add_argument("--tests", required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    # The search with 15 halvings is its default.
    optimizer = vanilla_ngd()

    def start(seed):
        u, params, data, loss, transient = build(options.problem, seed)
        carry, static = eqx.partition((params, optimizer.init(params)), eqx.is_array)
        return carry, data.get_batch()[1], static, u, loss, transient

    # Seeds differ in arrays only, so that one program does for all.
    carry, batch, static, u, loss, transient = start(options.seeds[0])

    @jax.jit
    def chunk(carry, batch):
        def body(carry, _):
            params, state = eqx.combine(carry, static)
            _, params, _, state, _, _ = step(
                batch=batch, loss=loss, params=params, last_non_nan_params=params, state=state, optimizer=optimizer
            )
            return eqx.filter((params, state), eqx.is_array), None

        return jax.lax.scan(body, carry, length=CHUNK)[0]

    program = chunk.lower(carry, batch).compile()
    tests = np.load(options.tests)
    # Ours are (x, t).
    x = jnp.asarray(tests["x"][:, ::-1] if transient else tests["x"])
    solution = jax.jit(lambda carry: jax.vmap(lambda x: u(x, eqx.combine(carry, static)[0]))(x))
    errors, steps, seconds = [], [], []
    for seed in options.seeds:
        carry, batch = start(seed)[:2]
        started, count = time.process_time(), 0
        while time.process_time() < started + options.budget:
            carry = jax.block_until_ready(program(carry, batch))
            count += CHUNK
        seconds.append(time.process_time() - started)
        steps.append(count)
        found = np.asarray(solution(carry))
        errors.append(float(np.linalg.norm(found - tests["u"]) / np.linalg.norm(tests["u"])))
    result = {
        "version": importlib.metadata.version("jinns"),
        "jax": jax.__version__,
        "errors": errors,
        "steps": steps,
        "cpu_seconds": seconds,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
