"""A learned rule gets better than tuned Adam on the tasks that it is trained for, from three seeds."""

import jax
import jax.random as jr
import numpy as np
import optax
from _style import BLUE, ORANGE, axes, save

import metaopt
from metaopt.l2o import Controller
from metaopt.meta import PES, ConstantHorizon, MeanLogLoss, MetaProblem, meta_train, validate
from metaopt.schedules import Cosine
from metaopt.tasks import Quadratics


STEPS, HORIZON = 400, 60
family = Quadratics(dimension=10, condition=100.0)
problem = MetaProblem(family, MeanLogLoss(), ConstantHorizon(HORIZON), tasks=32)
figure, plot = axes()
for seed in range(3):
    learner = metaopt.Learner(Controller(learning_rate=0.05, key=jr.key(seed)))
    history = meta_train(
        learner,
        problem,
        estimator=PES(std=0.01, truncation=20),
        outer=Cosine(metaopt.from_optax(optax.adam, learning_rate=0.01)),
        steps=STEPS,
        key=jr.key(seed),
        validation=family,
        validate_every=20,
        validation_tasks=64,
        progress=False,
    ).history
    plot.plot(
        *zip(*history.validations, strict=True), color=BLUE, label="learned rule, three seeds" if not seed else None
    )


@jax.jit
def adam(rate):
    learner = metaopt.Learner(metaopt.from_optax(optax.adam, learning_rate=rate))
    return validate(learner, family, steps=HORIZON, tasks=256, key=jr.key(9))


level = min(float(adam(rate)) for rate in np.geomspace(0.003, 3.0, 15))
plot.axhline(level, color=ORANGE, ls="--", label="Adam, best of 15 rates")
plot.set(xlabel="meta-step", ylabel=f"loss after {HORIZON} steps", yscale="log", title="held-out quadratics")
plot.legend()
save(figure, "meta_training")
