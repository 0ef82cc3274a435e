"""Ensembles that begin apart, and whether their probabilities can be believed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest
from jaxtyping import Array, Float
from scipy.special import logsumexp
from scipy.stats import norm

import metaopt
from metaopt import fewshot
from metaopt.fewshot import EnsembleFamily, EnsembleTask, GaussianStart, Mixing, ProbabilisticMAML
from metaopt.tasks import AbstractNetwork, AbstractRegressionTask, Quadratics, Sinusoids

from .problems import Blobs


FAMILY = Sinusoids(shots=5, queries=7, hidden=(4,))
SGD = metaopt.from_optax(optax.sgd, learning_rate=0.01)


def _mixing(noise, gain, trust):
    return Mixing(*(jnp.log(jnp.asarray(x)) for x in (noise, gain, trust)))


def _start(family, members, scale=0.3):
    mean = family.sample(key=jr.key(0)).init(key=jr.key(1))
    scales = jtu.tree_map(lambda x: jnp.full_like(x, np.log(scale)), mean)
    return GaussianStart(mean, scales, _mixing(0.2, 0.5, 2.0), members)


def test_starts_have_the_distribution():
    start = _start(FAMILY, 4000, scale=0.3)
    drawn = start.draw(FAMILY.sample(key=jr.key(0)), key=jr.key(2))
    for mean, members in zip(jtu.tree_leaves(start.mean), jtu.tree_leaves(drawn.members), strict=True):
        np.testing.assert_allclose(jnp.mean(members, 0), mean, atol=0.03)
        np.testing.assert_allclose(jnp.std(members, 0), 0.3, rtol=0.06)


def test_a_start_of_no_width_is_plain_maml():
    family, task = FAMILY, FAMILY.sample(key=jr.key(3))
    start = _start(family, 2, scale=1e-30)
    alone = fewshot.adapt(metaopt.Learner(SGD, start.mean), task, steps=3, key=jr.key(4))
    both = fewshot.adapt(metaopt.Learner(SGD, start), EnsembleTask(task), steps=3, key=jr.key(4))
    np.testing.assert_allclose(both.values, alone.values, rtol=1e-5)
    for a, b in zip(jtu.tree_leaves(alone.params), jtu.tree_leaves(both.params.members), strict=True):
        np.testing.assert_allclose(b, jnp.stack([a, a]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "momentum"])
def test_no_step_changes_the_mixing(name):
    learner = metaopt.Learner(metaopt.build(name, metaopt.AbstractAlgorithm), _start(FAMILY, 3))
    ended = fewshot.adapt(learner, EnsembleTask(FAMILY.sample(key=jr.key(3))), steps=2, key=jr.key(4))
    assert eqx.tree_equal(ended.params.mixing, learner.initial.mixing)


def test_the_score_of_a_regression_is_that_of_the_mixture():
    task = FAMILY.sample(key=jr.key(3))
    params = _start(FAMILY, 3).draw(task, key=jr.key(4))
    members = [jtu.tree_map(lambda x, j=j: x[j], params.members) for j in range(3)]
    outputs = np.stack([task.outputs(member) for member in members])
    losses = np.asarray([task.loss(member, key=jr.key(0)) for member in members], float)
    weights = np.exp(-2.0 * losses) / np.sum(np.exp(-2.0 * losses))
    logs = norm.logpdf(np.asarray(task.target(task.query)), outputs, np.sqrt(0.04 + 0.5 * losses)[:, None])
    wanted = -np.mean(logsumexp(logs, axis=0, b=weights[:, None]))
    np.testing.assert_allclose(EnsembleTask(task).measure(params, key=jr.key(0)), wanted, rtol=1e-4)


@pytest.mark.slow
def test_the_score_of_a_classification_is_that_of_the_mean_probability():
    family = Blobs()
    task = family.sample(key=jr.key(3))
    params = _start(family, 3).draw(task, key=jr.key(4))
    losses = eqx.filter_vmap(lambda member: task.loss(member, key=jr.key(0)))(params.members)
    chances = jnp.tensordot(
        jax.nn.softmax(-2.0 * losses), jax.nn.softmax(eqx.filter_vmap(task.logits)(params.members)), 1
    )
    wanted = -jnp.mean(jnp.log(chances[jnp.arange(12), task.labels]))
    np.testing.assert_allclose(EnsembleTask(task).measure(params, key=jr.key(0)), wanted, rtol=1e-4)


class Constant(AbstractNetwork):
    """Says the same about every point."""

    def init(self, *, key):
        return ({"b": jr.normal(key, (1,))},)

    def apply(self, params, inputs):
        return jnp.broadcast_to(params[0]["b"], (inputs.shape[0], 1))


class Height(AbstractRegressionTask):
    """A constant function, of a height that nobody tells."""

    network: AbstractNetwork
    height: Float[Array, ""]
    support: Float[Array, " shots"]
    query: Float[Array, " queries"]

    def target(self, points):
        return jnp.broadcast_to(self.height, points.shape)


class Heights(metaopt.AbstractTaskFamily):
    def sample(self, *, key):
        return Height(Constant(), jr.normal(key), jnp.zeros(1), jnp.zeros(1))


@pytest.mark.parametrize(
    ("scale", "calibrated"), [(1.0, True), (0.3, False), pytest.param(3.0, False, marks=pytest.mark.slow)]
)
def test_calibration_tells_who_is_too_sure(scale, calibrated):
    """Heights are normal; an ensemble of the same width, which learns nothing, is right about them."""
    nothing = metaopt.from_optax(optax.sgd, learning_rate=0.0)
    scales = ({"b": jnp.log(jnp.full(1, scale))},)
    start = GaussianStart(({"b": jnp.zeros(1)},), scales, _mixing(0.05, 1e-9, 1e-9), 400)
    learner = metaopt.Learner(nothing, start)
    found = fewshot.calibration(learner, Heights(), steps=1, tasks=800, key=jr.key(0))
    assert (found.error < 0.03) == calibrated
    assert (found.kept[4] < found.promised[4] - 0.1) == (scale < 1)
    np.testing.assert_allclose(found.spread, scale, rtol=0.1)
    if calibrated:
        np.testing.assert_allclose(found.log_score, 0.5 * np.log(2 * np.pi) + 0.5, atol=0.1)


@pytest.mark.slow
def test_calibration_of_a_classification():
    family = Blobs()
    found = fewshot.calibration(
        metaopt.Learner(SGD, _start(family, 2)), family, steps=1, tasks=60, levels=3, key=jr.key(0)
    )
    assert found.promised.shape == found.kept.shape == (3,)
    assert np.all(np.diff(found.promised) > 0) and np.all((found.kept >= 0) & (found.kept <= 1))
    np.testing.assert_allclose(found.error, np.mean(np.abs(found.promised - found.kept)))


@pytest.mark.slow
def test_training_improves_the_score():
    method = ProbabilisticMAML(SGD, steps=2, tasks=4, members=3)
    before = method.setup(FAMILY, key=jr.key(0)).learner
    outer = metaopt.ClipByGlobalNorm(metaopt.from_optax(optax.adam, learning_rate=1e-2), 1.0)
    after = fewshot.meta_learn(method, FAMILY, outer=outer, steps=300, key=jr.key(0), progress=False).learner
    scores = [fewshot.calibration(x, FAMILY, steps=2, tasks=100, key=jr.key(1)).log_score for x in (before, after)]
    assert scores[1] < scores[0] - 0.5
    assert not eqx.tree_equal(after.initial.mixing, before.initial.mixing)


def test_bad_arguments():
    with pytest.raises(TypeError, match="do not say how"):
        EnsembleFamily(Quadratics(3))
    with pytest.raises(ValueError, match="`members` must be"):
        ProbabilisticMAML(members=0)
    with pytest.raises(ValueError, match="`scale` must be"):
        ProbabilisticMAML(scale=0.0)
    with pytest.raises(ValueError, match="`noise` must be"):
        ProbabilisticMAML(noise=-1.0)
    with pytest.raises(ValueError, match="is a signal"):
        EnsembleTask(FAMILY.sample(key=jr.key(0))).predictive(
            fewshot.Ensemble(jnp.zeros((1, 2)), Mixing(None, None, None))
        )
