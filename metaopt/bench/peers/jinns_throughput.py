"""How much processor time an iteration of jinns takes: Poisson's equation in the unit square, Adam.

Runs in an environment of its own and prints one JSON object.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jinns
import optax
from jinns.loss import PDEStatio, laplacian_rev


class Poisson(PDEStatio):
    """-u_xx - u_yy = f."""

    def equation(self, x, u, params):
        return (-laplacian_rev(x, u, params) - 2 * jnp.pi**2 * jnp.prod(jnp.sin(jnp.pi * x)))[None]


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
    hidden = [((eqx.nn.Linear, options.width, options.width), (jax.nn.tanh,))] * (options.depth - 1)
    layers = [(eqx.nn.Linear, 2, options.width), (jax.nn.tanh,)]
    for linear, activation in hidden:
        layers += [linear, activation]
    layers.append((eqx.nn.Linear, options.width, 1))
    network, start = jinns.nn.PINN_MLP.create(key=jax.random.key(0), eqx_list=tuple(layers), eq_type="PDEStatio")
    params = jinns.parameters.Params(nn_params=start, eq_params={})
    data = jinns.data.CubicMeshPDEStatio(
        key=jax.random.key(1),
        n=options.interior,
        nb=options.boundary,
        dim=2,
        min_pts=(0.0, 0.0),
        max_pts=(1.0, 1.0),
    )
    loss = jinns.loss.LossPDEStatio(
        u=network,
        dynamic_loss=Poisson(),
        boundary_condition=jinns.loss.Dirichlet(),
        loss_weights=jinns.loss.LossWeightsPDEStatio(dyn_loss=1.0, boundary_loss=10.0),
        params=params,
    )
    optimizer = optax.adam(1e-3)
    batch = data.get_batch()[1]

    # Its own loss in a scan: `jinns.solve` compiles anew in every call.
    @jax.jit
    def block(params, state):
        def body(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(lambda p: loss.evaluate(p, batch)[0])(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(body, (params, state), length=options.iterations)

    dynamic, static = eqx.partition(params, eqx.is_inexact_array)
    del static
    state = optimizer.init(dynamic)
    carry, _ = jax.block_until_ready(block(dynamic, state))
    cpu, wall = [], []
    for _ in range(options.blocks):
        w, c = time.perf_counter(), time.process_time()
        carry, _ = jax.block_until_ready(block(*carry))
        wall.append(1e3 * (time.perf_counter() - w) / options.iterations)
        cpu.append(1e3 * (time.process_time() - c) / options.iterations)
    result = {
        "version": importlib.metadata.version("jinns"),
        "jax": jax.__version__,
        "cpu_ms": statistics.median(cpu),
        "wall_ms": statistics.median(wall),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
