import dataclasses
import os
import subprocess
import sys

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import metaopt
from metaopt._core.arrays._trees import global_norm
from metaopt.l2o import LearnableAdam
from metaopt.meta import ES, PES, ConstantHorizon, MeanLogLoss, MeanLoss, MetaProblem, Mixed, Observation, meta_train
from metaopt.meta.training._train import validate
from metaopt.registry import adam
from metaopt.tasks import Mixture, Quadratics, Rosenbrock


MIXTURE = Mixture((Quadratics(3), Rosenbrock(2)), (3.0, 1.0))
PROBLEM = MetaProblem(MIXTURE, MeanLoss(), ConstantHorizon(10), tasks=4)
LEARNER = metaopt.Learner(LearnableAdam(0.05))


@pytest.mark.slow
@pytest.mark.parametrize("normalize", [True, False])
def test_the_estimate_is_the_weighted_sum_of_each(normalize, getkey):
    estimator, key = Mixed(PES(0.01, 5), normalize), getkey()
    run = eqx.filter_jit(
        lambda: estimator.estimate(estimator.init(LEARNER, PROBLEM, key=key), LEARNER, PROBLEM, key=key)
    )
    state, found = run()
    assert len(state) == 2
    keys = jr.split(key, 2)
    parts = []
    for family, own, share in zip(MIXTURE.families, keys, (0.75, 0.25), strict=True):
        problem, inner = dataclasses.replace(PROBLEM, family=family), estimator.inner
        _, each = eqx.filter_jit(
            lambda inner=inner, problem=problem, own=own: inner.estimate(
                inner.init(LEARNER, problem, key=own), LEARNER, problem, key=own
            )
        )()
        scale = share / float(global_norm(each.grads)) if normalize else share
        parts.append(jtu.tree_map(lambda g, scale=scale: scale * g, each.grads))
    expected = jtu.tree_map(lambda *g: sum(g), *parts)
    for a, b in zip(jtu.tree_leaves(found.grads), jtu.tree_leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_meta_training_takes_a_mixture():
    result = meta_train(
        LEARNER,
        PROBLEM,
        estimator=Mixed(ES(0.01)),
        outer=adam(0.05),
        steps=4,
        key=jr.key(0),
        validation=MIXTURE,
        validation_tasks=4,
        progress=False,
    )
    assert len(result.history.values) == 4
    losses = [float(validate(result.last, family, steps=10, tasks=4, key=jr.key(1))) for family in MIXTURE.families]
    both = float(validate(result.last, MIXTURE, steps=10, tasks=4, key=jr.key(1)))
    np.testing.assert_allclose(both, losses[0] ** 0.75 * losses[1] ** 0.25, rtol=1e-5)


def test_mixtures_and_estimators_that_do_not_go_together(getkey):
    with pytest.raises(TypeError, match="Wrap the estimator: `metaopt.meta.Mixed"):
        PES(0.01, 5).init(LEARNER, PROBLEM, key=getkey())
    with pytest.raises(TypeError, match="`Mixed` is for several families, but `Quadratics` is one"):
        Mixed(PES(0.01, 5)).init(LEARNER, dataclasses.replace(PROBLEM, family=Quadratics(3)), key=getkey())


def test_bad_mixtures_are_told():
    with pytest.raises(ValueError, match="at least one"):
        Mixture(())
    with pytest.raises(ValueError, match="2 families need as many weights, but 1"):
        Mixture((Quadratics(3), Quadratics(2)), (1.0,))
    with pytest.raises(ValueError, match="positive"):
        Mixture((Quadratics(3),), (0.0,))


def test_log_losses_may_count_now_and_then_and_late():
    objective = MeanLogLoss(floor=0.5, every=2, lateness=1.0)
    seen = [
        float(objective.contribute(None, Observation(jnp.asarray(v), jnp.asarray(t), jnp.asarray(4)))[1])
        for t, v in enumerate([1.0, 2.0, 3.0, 4.0], start=1)
    ]
    expected = [0.0, 2 * 2 / 4 * 0.5 * np.log(2.5), 0.0, 2 * 2 / 4 * 1.0 * np.log(4.5)]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="`every`"):
        MeanLogLoss(every=0)
    with pytest.raises(ValueError, match="`lateness`"):
        MeanLogLoss(lateness=-1.0)


SIDE_BY_SIDE = """
import jax, jax.random as jr, optax
jax.config.update("jax_enable_x64", True)
from metaopt import scf
from metaopt._core import Learner, Mixture, from_optax
from metaopt.bench.scf._molecules import MOLECULES
from metaopt.meta import ES, ConstantHorizon, MeanLoss, MetaProblem, Mixed, meta_train, only

def family(functions, electrons, *names):
    padded = [scf.pad(MOLECULES[name].system(), functions, electrons) for name in names]
    return scf.SelfConsistentFields(scf.stack(padded))

families = family(37, (12, 11), "ch3_631gs", "allyl_631g"), family(33, (7, 7), "ch4_631gs", "hcn_ccpvdz", "lih_ccpvdz")
trainable = only(lambda learner: learner.algorithm.accelerator.network)
problem = MetaProblem(Mixture(families), MeanLoss(), ConstantHorizon(4), tasks=4, trainable=trainable)
outer = from_optax(optax.adam, learning_rate=0.003)
learner = Learner(scf.Accelerated(scf.LearnedAccelerator(share=1.0)))
meta_train(learner, problem, estimator=Mixed(ES(0.03)), outer=outer, steps=6, key=jr.key(0), progress=False)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("pyscf")
def test_decompositions_of_two_families_do_not_wait_for_each_other() -> None:
    # Programs that run side by side on a few threads would never end, as XLA compiles them usually.
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("XLA_", "JAX_"))}
    subprocess.run([sys.executable, "-c", SIDE_BY_SIDE], check=True, timeout=500, env=usual)
