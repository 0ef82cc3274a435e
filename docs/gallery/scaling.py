"""What a step of a learned optimizer holds on each device when a model of 34 million numbers is spread over several."""

import jax


jax.config.update("jax_num_cpu_devices", 8)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from _style import axes, save  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec as P  # noqa: E402

import metaopt  # noqa: E402
from metaopt.l2o import pretrained  # noqa: E402
from metaopt.sharding import make_mesh, shard_algorithm, shard_state  # noqa: E402


SHAPES = {f"layer_{i}": (1024, 4096) for i in range(8)}
DEVICES = [1, 2, 4, 8]


def megabytes(algorithm, devices):
    """The bytes of arguments and temporaries on one device, from the compiled program."""
    mesh = make_mesh(model=devices)
    placed = NamedSharding(mesh, P(None, "model"))
    params = {name: jax.device_put(jnp.zeros(shape), placed) for name, shape in SHAPES.items()}
    rule = shard_algorithm(algorithm, params)
    state = shard_state(rule, params)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    step = jax.jit(lambda s, p, g, v: rule.step(s, p, g, value=v), donate_argnums=(0, 1))
    used = step.lower(state, params, params, scalar).compile().memory_analysis()
    assert used is not None
    return (used.argument_size_in_bytes + used.temp_size_in_bytes) / 2**20


figure, plot = axes(width=5.5)
for name, algorithm in {
    "pretrained general": metaopt.with_horizon(pretrained("general"), 1000),
    "Adam": metaopt.from_optax(optax.adam, learning_rate=1e-3),
}.items():
    plot.plot(DEVICES, [megabytes(algorithm, n) for n in DEVICES], marker="o", label=name)
plot.set(xscale="log", yscale="log", xlabel="devices", ylabel="MiB on each device")
plot.set_xticks(DEVICES, [str(n) for n in DEVICES], minor=False)
plot.minorticks_off()
plot.set_title(f"one step, {sum(int(np.prod(s)) for s in SHAPES.values()) / 1e6:.0f} million numbers")
plot.legend()
save(figure, "scaling")
