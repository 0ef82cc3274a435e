"""A network that has learned where to start: two unseen sine waves, before and after ten steps on ten points."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import optax
from _style import BLUE, GRAY, ORANGE, axes, save

import metaopt
from metaopt import fewshot, tasks


family = tasks.Sinusoids(shots=10, hidden=(40, 40))
inner = metaopt.from_optax(optax.sgd, learning_rate=0.01)
outer = metaopt.from_optax(optax.adam, learning_rate=2e-3)
method = fewshot.MAML(inner, steps=5, tasks=25)
learner = fewshot.meta_learn(method, family, outer=outer, steps=4000, key=jr.key(0), progress=False).learner
untrained = eqx.tree_at(lambda x: x.initial, learner, family.sample(key=jr.key(7)).init(key=jr.key(8)))
x = jnp.linspace(-5.0, 5.0, 200)


def predictions(learner, task, steps):
    """What the network says on the line after some steps on the points of a task."""
    params = fewshot.adapt(learner, task, steps=steps, key=jr.key(0)).params if steps else learner.initial
    return eqx.tree_at(lambda t: t.query, task, x).outputs(params)


figure, plots = axes(2, height=3.2, sharey=True)
for plot, seed in zip(plots, (5, 11), strict=True):
    task = family.sample(key=jr.key(seed))
    plot.plot(x, task.target(x), color=GRAY, lw=1, label="the wave")
    plot.plot(x, predictions(learner, task, 0), ":", color=BLUE, label="learned start")
    plot.plot(x, predictions(learner, task, 10), color=BLUE, label="after 10 steps")
    plot.plot(x, predictions(untrained, task, 10), "--", color=ORANGE, label="random start, after 10")
    plot.plot(task.support, task.target(task.support), "o", color=GRAY, label="its ten points")
    plot.set(xlabel="x", ylim=(-6.5, 6.5))
plots[0].set_ylabel("output")
figure.legend(*plots[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
save(figure, "few_shot_sines")
