"""How fast opifex meta-trains: inner steps per second of its persistent evolution strategies.

Runs inside opifex's own environment and prints one JSON object. The inner problem is a
softmax classifier with one hidden layer on Gaussian inputs, labeled by a random linear teacher.
"""

import argparse
import importlib.metadata
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from opifex.optimization.l2o import MLPLearnedOptimizer, Task, init_pes_state, pes_gradient_step, single_task_to_family


class Classification(Task):
    """Minibatches of a data set held in memory, classified by a one-hidden-layer network."""

    def __init__(self, inputs: jax.Array, labels: jax.Array, widths: tuple[int, int, int], batch: int) -> None:
        self.inputs, self.labels, self.widths, self.batch = inputs, labels, widths, batch

    def init(self, key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        shapes = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        keys = jr.split(key, len(shapes))
        return [(jr.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, shapes, strict=True)]

    def loss(self, params: list[tuple[jax.Array, jax.Array]], key: jax.Array) -> jax.Array:
        rows = jr.randint(key, (self.batch,), 0, self.inputs.shape[0])
        (w1, b1), (w2, b2) = params
        logits = jax.nn.relu(self.inputs[rows] @ w1 + b1) @ w2 + b2
        return optax.softmax_cross_entropy_with_integer_labels(logits, self.labels[rows]).mean()


def meta_training(options: argparse.Namespace) -> tuple[Callable[..., Any], Any]:
    """The meta-steps of opifex's `meta_train`, several in one scan, and the state they start from."""
    data_key, teacher_key, theta_key, pes_key = jr.split(jr.key(options.seed), 4)
    inputs = jr.normal(data_key, (options.examples, options.widths[0]))
    labels = jnp.argmax(inputs @ jr.normal(teacher_key, (options.widths[0], options.widths[-1])), axis=-1)
    family = single_task_to_family(Classification(inputs, labels, tuple(options.widths), options.batch))
    learned = MLPLearnedOptimizer(hidden_size=options.hidden, hidden_layers=options.layers)
    outer = optax.adam(3e-3)
    theta = learned.init(theta_key)
    state = init_pes_state(learned, family, theta, pes_key, num_tasks=options.tasks, total_horizon=options.horizon)
    if options.devices > 1:
        mesh = jax.make_mesh((options.devices,), ("tasks",), axis_types=(jax.sharding.AxisType.Auto,))
        state = jax.device_put(state, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("tasks")))
        theta = jax.device_put(theta, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))

    def step(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        theta, outer_state, state = carry
        loss, grads, state = pes_gradient_step(
            learned,
            family,
            theta,
            state,
            key,
            std=0.01,
            trunc_length=options.truncation,
            total_horizon=options.horizon,
        )
        updates, outer_state = outer.update(grads, outer_state)
        return (optax.apply_updates(theta, updates), outer_state, state), loss

    def steps(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        return jax.lax.scan(step, carry, jr.split(key, options.scan))

    return steps, (theta, outer.init(theta), state)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Compile once, run once unmeasured, then time the blocks."""
    steps, carry = meta_training(options)
    key = jr.key(options.seed + 1)
    start = time.perf_counter()
    compiled = jax.jit(steps).lower(carry, key).compile()
    compile_seconds = time.perf_counter() - start
    carry, losses = jax.block_until_ready(compiled(carry, key))
    if not bool(jnp.all(jnp.isfinite(losses))):
        raise FloatingPointError("the meta-loss is not finite")
    per_call = 2 * options.tasks * options.truncation * options.scan
    rates = []
    processor_start = time.process_time()
    steps_done = 0
    for _ in range(options.blocks):
        calls, elapsed, start = 0, 0.0, time.perf_counter()
        while elapsed < options.seconds:
            carry, losses = jax.block_until_ready(compiled(carry, key))
            calls, elapsed = calls + 1, time.perf_counter() - start
        rates.append(calls * per_call / elapsed)
        steps_done += calls * per_call
    return {
        "version": importlib.metadata.version("opifex"),
        "jax": jax.__version__,
        "inner_steps_per_second": statistics.median(rates),
        "blocks": rates,
        # Hardly moved by what else the machine is doing.
        "inner_steps_per_cpu_second": steps_done / (time.process_time() - processor_start),
        "compile_seconds": compile_seconds,
        "what": describe(options),
    }


def describe(options: argparse.Namespace) -> str:
    """One sentence on what was run and how, for the report."""
    widths = "-".join(map(str, options.widths))
    return (
        f"opifex.optimization.l2o.pes_gradient_step with MLPLearnedOptimizer(hidden_size={options.hidden}, "
        f"hidden_layers={options.layers}) and optax.adam outside, as in its meta_train, {options.scan} meta-steps in "
        f"one jitted scan on {options.devices} {jax.default_backend()} device(s): {options.tasks} tasks, truncation "
        f"{options.truncation}, horizon {options.horizon}, single_task_to_family of a {widths} softmax classifier, "
        f"batch {options.batch}; both antithetic halves counted, the speed is the median of {options.blocks} blocks of "
        f"at least {options.seconds:g} s, compile time is tracing, lowering and compiling"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--truncation", type=int, default=20)
    parser.add_argument("--horizon", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=32, help="width of the per-parameter network")
    parser.add_argument("--layers", type=int, default=2, help="hidden layers of the per-parameter network")
    parser.add_argument("--widths", type=int, nargs=3, default=[64, 32, 10], help="of the inner classifier")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--examples", type=int, default=1500)
    parser.add_argument("--scan", type=int, default=10, help="meta-steps in one compiled call")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="least duration of a timed block")
    parser.add_argument(
        "--devices", type=int, default=1, help="devices over which the tasks are sharded, at most $JAX_NUM_CPU_DEVICES"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # A warm cache would make the compile time a lie.
    jax.config.update("jax_enable_compilation_cache", False)
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
