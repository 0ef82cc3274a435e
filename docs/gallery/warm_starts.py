"""Steps along a path of related problems: from a cold start, from the solution before, and from a memory of all."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from _style import axes, save

import metaopt
from metaopt.fewshot import GaussianProcess, WarmStart


matrix = jr.normal(jr.key(0), (40, 12))
PROBLEMS = 40


def target(angle):
    """What is to be fitted turns with the angle."""
    return jnp.cos(angle * jnp.arange(1, 41) / 20.0)


@jax.jit
def steps(start, angle):
    lbfgs = metaopt.from_optax(optax.lbfgs(0.5, linesearch=None))

    def loss(x):
        return jnp.mean((matrix @ x - target(angle)) ** 2) + 0.01 * jnp.sum(x**4)

    found = metaopt.minimize(loss, lbfgs, start, steps=300, tolerance=1e-4)
    return found.params, found.steps


cold = jnp.zeros(12)
solution, before, memory = cold, cold, WarmStart(cold, features=1, scales=0.5, predictor=GaussianProcess())
taken = {"cold start": [], "solution before": [], "memory of all before": []}
# Back and forth: what was seen is seen again.
for angle in 1.5 + jnp.sin(jnp.linspace(0.0, 9.0, PROBLEMS)):
    start = memory.start(angle[None], cold)
    for name, point in zip(taken, (cold, before, start), strict=True):
        solution, count = steps(point, angle)
        taken[name].append(int(count))
    before, memory = solution, memory.add(angle[None], solution)
figure, plot = axes(width=8.5)
for name, counts in taken.items():
    plot.plot(np.arange(1, PROBLEMS + 1), counts, marker=".", label=f"{name}, {sum(counts)} in all")
plot.set(xlabel="problem on the path", ylabel="L-BFGS steps to the tolerance", ylim=(0, None))
figure.legend(loc="outside upper center", ncols=3)
save(figure, "warm_starts")
