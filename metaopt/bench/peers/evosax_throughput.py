"""How fast evosax meta-trains: inner steps per second of its OpenAI evolution strategy.

Runs inside evosax's own environment and prints one JSON object. evosax brings the strategy; the inner loop is written
here as its users write one: a network per parameter in the usual form, with the features of the published MLP rule, on
a softmax classifier with one hidden layer.
"""

import argparse
import importlib.metadata
import json
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from evosax.algorithms import Open_ES


_DECAYS = jnp.asarray([0.1, 0.5, 0.9, 0.99, 0.999, 0.9999])
_TIMES = jnp.asarray([1.0, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000])
# Gradient, parameter, six averages, and the tanh of the time at eleven scales.
_FEATURES = 2 + 6 + 11


def init_rule(key: jax.Array, hidden: int, layers: int) -> list[tuple[jax.Array, jax.Array]]:
    sizes = [_FEATURES, *[hidden] * layers, 2]
    keys = jr.split(key, len(sizes) - 1)
    return [(jr.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, zip(sizes, sizes[1:]), strict=True)]


def update(rule: Any, params: Any, momenta: Any, grads: Any, step: jax.Array) -> tuple[Any, Any]:
    """One learned update of all tensors."""

    def one(param: jax.Array, momentum: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
        momentum = _DECAYS.reshape(-1, *[1] * grad.ndim) * momentum + (1 - _DECAYS).reshape(-1, *[1] * grad.ndim) * grad
        rows = jnp.stack([grad.ravel(), param.ravel(), *momentum.reshape(6, -1)], axis=1)
        rows = rows * jax.lax.rsqrt(1e-5 + jnp.mean(rows**2, axis=0, keepdims=True))
        clock = jnp.broadcast_to(jnp.tanh(step / _TIMES - 1.0), (rows.shape[0], 11))
        values = jnp.concatenate([rows, clock], axis=1)
        for weights, bias in rule[:-1]:
            values = jax.nn.relu(values @ weights + bias)
        weights, bias = rule[-1]
        out = values @ weights + bias
        change = 1e-3 * out[:, 0] * jnp.exp(1e-3 * out[:, 1])
        return param - change.reshape(param.shape), momentum

    leaves, structure = jax.tree.flatten(params)
    both = [one(*each) for each in zip(leaves, momenta, jax.tree.leaves(grads), strict=True)]
    return jax.tree.unflatten(structure, [p for p, _ in both]), [m for _, m in both]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Compile once, run once unmeasured, then time the blocks."""
    data_key, teacher_key, rule_key, es_key = jr.split(jr.key(options.seed), 4)
    widths = options.widths
    inputs = jr.normal(data_key, (options.examples, widths[0]))
    labels = jnp.argmax(inputs @ jr.normal(teacher_key, (widths[0], widths[-1])), axis=-1)

    def loss(params: Any, key: jax.Array) -> jax.Array:
        rows = jr.randint(key, (options.batch,), 0, options.examples)
        (w1, b1), (w2, b2) = params
        logits = jax.nn.relu(inputs[rows] @ w1 + b1) @ w2 + b2
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()

    def episode(rule: Any, key: jax.Array) -> jax.Array:
        """The mean loss of an inner loop."""
        shapes = list(zip(widths[:-1], widths[1:], strict=True))
        init_key, run_key = jr.split(key)
        keys = jr.split(init_key, len(shapes))
        params = [(jr.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, shapes, strict=True)]
        momenta = [jnp.zeros((6, *leaf.shape)) for leaf in jax.tree.leaves(params)]

        def body(carry: Any, xs: Any) -> tuple[Any, jax.Array]:
            params, momenta = carry
            key, step = xs
            value, grads = jax.value_and_grad(loss)(params, key)
            return update(rule, params, momenta, grads, step), value

        xs = (jr.split(run_key, options.horizon), jnp.arange(options.horizon))
        return jnp.mean(jax.lax.scan(body, (params, momenta), xs)[1])

    rule = init_rule(rule_key, options.hidden, options.layers)
    strategy = Open_ES(2 * options.tasks, rule, optimizer=optax.adam(1e-3), std_schedule=optax.constant_schedule(0.01))
    parameters = strategy.default_params
    state = strategy.init(es_key, rule, parameters)

    def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        ask_key, task_key, tell_key = jr.split(key, 3)
        population, state = strategy.ask(ask_key, state, parameters)
        # Both of a pair meet the same task and minibatches.
        keys = jnp.tile(jr.split(task_key, options.tasks), 2)
        if options.sequential:
            fitness = jax.lax.map(lambda x: episode(*x), (population, keys))
        else:
            fitness = jax.vmap(episode)(population, keys)
        state, _ = strategy.tell(tell_key, population, fitness, state, parameters)
        return state, jnp.mean(fitness)

    def steps(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        return jax.lax.scan(step, state, jr.split(key, options.scan))

    key = jr.key(options.seed + 1)
    start = time.perf_counter()
    compiled = jax.jit(steps).lower(state, key).compile()
    compile_seconds = time.perf_counter() - start
    state, losses = jax.block_until_ready(compiled(state, key))
    if not bool(jnp.all(jnp.isfinite(losses))):
        raise FloatingPointError("the meta-loss is not finite")
    per_call = 2 * options.tasks * options.horizon * options.scan
    wall, processor = [], []
    for _ in range(options.blocks):
        begun, spent = time.perf_counter(), time.process_time()
        state, losses = jax.block_until_ready(compiled(state, key))
        wall.append(per_call / (time.perf_counter() - begun))
        processor.append(per_call / (time.process_time() - spent))
    return {
        "version": importlib.metadata.version("evosax"),
        "jax": jax.__version__,
        "inner_steps_per_second": statistics.median(wall),
        "inner_steps_per_cpu_second": statistics.median(processor),
        "compile_seconds": compile_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=16, help="antithetic pairs")
    parser.add_argument("--horizon", type=int, default=100, help="whole episodes: there are no truncations")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs=3, default=[64, 32, 10])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--examples", type=int, default=1500)
    parser.add_argument("--scan", type=int, default=2, help="meta-steps in one compiled call")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--sequential", action="store_true", help="one member of the population after the other")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # A warm cache would make the compile time a lie.
    jax.config.update("jax_enable_compilation_cache", False)
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
