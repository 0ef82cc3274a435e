"""A front of two objectives, in five parts, found by `pareto_front`, with the true one."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _style import BLUE, GRAY, axes, save

from metaopt.multiobjective import make_problem, pareto_front


problem = make_problem("zdt3")
front = pareto_front(problem, num_solutions=60, key=jr.key(0))
first = np.linspace(0.0, 1.0, 4000)
curve = np.stack([first, 1 - np.sqrt(first) - first * np.sin(10 * np.pi * first)], 1)
# What no other point of the curve is better than in both.
true = curve[curve[:, 1] <= np.minimum.accumulate(curve[:, 1])]
figure, plot = axes(width=6.0)
plot.plot(*curve.T, ":", color=GRAY, lw=1, label="boundary of what can be reached")
plot.plot(*true.T, ".", color=GRAY, ms=3, label="true front")
plot.plot(*jnp.asarray(front.values).T, "o", color=BLUE, ms=4, label="found")
plot.set(xlabel="first objective", ylabel="second objective", title="ZDT3, 30 variables")
figure.legend(loc="outside upper center", ncols=3)
save(figure, "front_two")
