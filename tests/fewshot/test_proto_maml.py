import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt import fewshot
from metaopt.fewshot import ProtoMAML
from metaopt.tasks import Sinusoids

from .problems import Blobs


FAMILY = Blobs()


def test_it_starts_as_the_rule_of_the_nearest_prototype():
    learner = ProtoMAML(scale=6.0).setup(FAMILY, key=jr.key(0)).learner
    task = FAMILY.sample(key=jr.key(1))
    params = learner.start(task, key=jr.key(2))
    features = [np.asarray(task.network.features(params, x.reshape(-1, 5)), float) for x in (task.support, task.query)]
    centers = features[0].reshape(3, 2, -1).mean(1)
    distances = np.sum((features[1][:, None] - centers[None]) ** 2, axis=-1)
    # The scale is by the number of features, and what all classes have in common does not count.
    logits = np.asarray(task.logits(params), float)
    np.testing.assert_allclose(
        logits - logits.mean(1, keepdims=True), distances.mean(1, keepdims=True) - distances, rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_it_learns_the_network_the_rates_and_the_scale():
    method = ProtoMAML(0.1, steps=1, tasks=2)
    before = method.setup(FAMILY, key=jr.split(jr.key(0))[0]).learner
    outer = metaopt.from_optax(optax.adam, learning_rate=1e-3)
    result = fewshot.meta_learn(method, FAMILY, outer=outer, steps=2, key=jr.key(0), progress=False)
    assert result.skipped == 0
    assert not jnp.array_equal(result.learner.initial.network[0]["w"], before.initial.network[0]["w"])
    assert result.learner.initial.log_scale != before.initial.log_scale
    assert not eqx.tree_equal(result.learner.algorithm, before.algorithm)
    # What the last layer of the network was is never used.
    assert jnp.array_equal(result.learner.initial.network[1]["w"], before.initial.network[1]["w"])


def test_errors():
    with pytest.raises(ValueError, match="`rate` must be positive"):
        ProtoMAML(rate=0.0)
    with pytest.raises(ValueError, match="`scale` must be positive"):
        ProtoMAML(scale=-1.0)
    waves = Sinusoids()
    learner = ProtoMAML().setup(waves, key=jr.key(0)).learner
    with pytest.raises(TypeError, match="`PrototypeStart` is for `FewShotTask`, but a `SinusoidsTask`"):
        learner.start(waves.sample(key=jr.key(0)), key=jr.key(0))
