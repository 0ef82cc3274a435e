"""How biased opifex's persistent evolution strategies are, on a problem whose meta-gradient is known.

Runs inside opifex's own environment and prints one JSON object. The problem is $\\tfrac12 x^2$ from $x = 1$,
descended with a learnable log learning rate; the meta-loss is the mean loss over the horizon.
"""

import argparse
import importlib.metadata
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from opifex.optimization.l2o import LearnableSGD, Task, init_pes_state, pes_gradient_step, single_task_to_family


class Parabola(Task):
    """The parabola with minimum at zero, always started at one."""

    def init(self, key: jax.Array) -> jax.Array:
        del key
        return jnp.ones(())

    def loss(self, params: jax.Array, key: jax.Array) -> jax.Array:
        del key
        return 0.5 * params**2


def full_unroll(learned: LearnableSGD, task: Task, theta: Any, horizon: int) -> jax.Array:
    """The derivative of the mean loss over the whole horizon by the log learning rate."""
    key = jr.key(0)

    def mean_loss(theta: Any) -> jax.Array:
        optimizer = learned.opt_fn(theta)
        state = optimizer.init(task.init(key))
        losses = []
        for _ in range(horizon):
            loss, grads = task.loss_and_grad(optimizer.get_params(state), key)
            losses.append(loss)
            state = optimizer.update(state, grads)
        return jnp.stack(losses).mean()

    return only_leaf(jax.grad(mean_loss)(theta))


def estimate(learned: LearnableSGD, task: Task, theta: Any, truncation: int, options: argparse.Namespace) -> jax.Array:
    """The mean estimate of each group of particles, in the long run: the first horizons are left out."""
    family = single_task_to_family(task)
    per_horizon = math.ceil(options.horizon / truncation)

    def group(key: jax.Array) -> jax.Array:
        init_key, step_key = jr.split(key)
        state = init_pes_state(
            learned, family, theta, init_key, num_tasks=options.particles, total_horizon=options.horizon
        )

        def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            _, grads, state = pes_gradient_step(
                learned,
                family,
                theta,
                state,
                key,
                std=options.std,
                trunc_length=truncation,
                total_horizon=options.horizon,
            )
            return state, only_leaf(grads)

        # Clocks start at random offsets, so the first reset comes within one horizon.
        steps = per_horizon * (options.horizons + 2)
        _, grads = jax.lax.scan(step, state, jr.split(step_key, steps))
        return grads[2 * per_horizon :].mean()

    return jax.jit(jax.vmap(group))(jr.split(jr.key(options.seed + truncation), options.groups))


def only_leaf(tree: Any) -> jax.Array:
    (leaf,) = jax.tree.leaves(tree)
    return leaf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truncations", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--horizon", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--std", type=float, default=0.01, help="of the perturbations")
    parser.add_argument("--groups", type=int, default=64, help="independent groups, for the standard error")
    parser.add_argument("--particles", type=int, default=64, help="antithetic pairs in a group")
    parser.add_argument("--horizons", type=int, default=20, help="horizons over which a group is averaged")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    learned, task = LearnableSGD(options.learning_rate), Parabola()
    theta = learned.init(jr.key(0))
    rows = []
    for truncation in options.truncations:
        means = estimate(learned, task, theta, truncation, options)
        rows.append(
            {
                "truncation": truncation,
                "mean": float(means.mean()),
                "standard_error": float(means.std(ddof=1) / options.groups**0.5),
            }
        )
    result = {
        "version": importlib.metadata.version("opifex"),
        "jax": jax.__version__,
        "truth": float(full_unroll(learned, task, theta, options.horizon)),
        "rows": rows,
        "particles": options.groups * options.particles,
        "what": (
            f"opifex.optimization.l2o.pes_gradient_step with LearnableSGD({options.learning_rate:g}) on x^2/2 from "
            f"x = 1, horizon {options.horizon}, std {options.std:g}: mean over {options.groups} groups of "
            f"{options.particles} antithetic pairs and {options.horizons} horizons each, after a burn-in of two"
        ),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
